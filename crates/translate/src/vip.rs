//! Virtual addresses for hosts that no DNS server knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use meshrelay_snapshot::{ContentHash, Name};
use serde::{Deserialize, Serialize};

/// The block that addresses come from: reserved by the IETF, so no real host can have one.
const BLOCK: u32 = 0xF000_0000;

/// Addresses of gone hosts that are remembered beyond the number of living ones, so that a host that comes back within
/// a while keeps its address and the memory of hosts that never do stays bounded.
const REMEMBERED: usize = 1024;

/// Which host has which virtual address. A host keeps its address for as long as it is remembered, whatever other hosts
/// come and go; persist the allocations before the outputs that use them are published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allocations {
    by_host: BTreeMap<Name, Ipv4Addr>,
}

impl Allocations {
    /// The address of a host.
    pub fn get(&self, host: &str) -> Option<Ipv4Addr> {
        self.by_host.get(host).copied()
    }

    /// All hosts with their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Ipv4Addr)> {
        self.by_host.iter().map(|(host, address)| (host, *address))
    }

    /// Gives every host of the fleet an address. New hosts get the one that follows from their name, or the next free
    /// one if another host has it, in the order of names.
    pub(crate) fn allocate(&mut self, hosts: &BTreeSet<Name>) {
        self.allocate_in(hosts, 1 << 28);
    }

    fn allocate_in(&mut self, hosts: &BTreeSet<Name>, size: u32) {
        let mut owners: BTreeMap<Ipv4Addr, Name> = BTreeMap::new();
        for (host, address) in &self.by_host {
            // Persisted by hand or from elsewhere, two hosts may share an address: one of them gets another.
            let owner = owners.entry(*address).or_insert_with(|| host.clone());
            if hosts.contains(host) && !hosts.contains(&*owner) {
                *owner = host.clone();
            }
        }
        self.by_host.retain(|host, address| owners.get(address) == Some(host));
        for host in hosts {
            if self.by_host.contains_key(host) {
                continue;
            }
            let preferred = preference(host) % size;
            // A block that is full of living hosts cannot be; the last candidate is then as good as any.
            let address = (0..size)
                .map(|step| Ipv4Addr::from(BLOCK | ((preferred + step) % size)))
                .filter(|address| is_usable(*address))
                .find(|address| owners.get(address).is_none_or(|owner| !hosts.contains(owner)));
            let Some(address) = address else { continue };
            if let Some(gone) = owners.insert(address, host.clone()) {
                self.by_host.remove(&gone);
            }
            self.by_host.insert(host.clone(), address);
        }
        if self.by_host.len() > 2 * hosts.len() + REMEMBERED {
            self.by_host.retain(|host, _| hosts.contains(host));
        }
    }
}

/// The address within the block that follows from the name alone.
fn preference(host: &str) -> u32 {
    let hash = ContentHash::of(host.as_bytes());
    hash.as_bytes().iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte)) & 0x0FFF_FFFF
}

/// Some systems take .0 for a network and .255 for broadcast.
fn is_usable(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [.., 0 | 255])
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn hosts(names: impl IntoIterator<Item = u16>) -> BTreeSet<Name> {
        names.into_iter().map(|name| Name::from(format!("host-{name}.example"))).collect()
    }

    #[test]
    fn addresses_are_usable_and_follow_from_the_name() {
        let (mut one, mut two) = (Allocations::default(), Allocations::default());
        one.allocate(&hosts(0..5000));
        two.allocate(&hosts((0..5000).rev().step_by(7)));
        for (host, address) in one.iter() {
            assert_eq!(address.octets()[0] & 0xF0, 0xF0);
            assert!(is_usable(address), "{address}");
            assert!(two.get(host).is_none_or(|other| other == address), "{host}");
        }
    }

    #[test]
    fn what_was_persisted_twice_is_repaired() {
        let address = Ipv4Addr::new(240, 0, 0, 1);
        let by_host = hosts(0..2).into_iter().map(|host| (host, address)).collect();
        let mut allocations = Allocations { by_host };
        allocations.allocate(&hosts(0..2));
        assert_ne!(allocations.get("host-0.example"), allocations.get("host-1.example"));
    }

    proptest! {
        /// In a tiny block most hosts collide.
        #[test]
        fn living_hosts_never_share_and_never_move(steps in vec(btree_set(0u16..300, 0..100), 1..8)) {
            let mut allocations = Allocations::default();
            for step in steps {
                let before = allocations.clone();
                let living = hosts(step);
                allocations.allocate_in(&living, 512);
                let addresses: BTreeSet<_> = living.iter().filter_map(|host| allocations.get(host)).collect();
                prop_assert_eq!(addresses.len(), living.len());
                for host in &living {
                    prop_assert!(before.get(host).is_none_or(|address| allocations.get(host) == Some(address)));
                }
            }
        }
    }
}
