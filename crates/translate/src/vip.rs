//! Virtual addresses for hosts that no DNS server knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use meshrelay_snapshot::{ContentHash, Name};
use serde::{Deserialize, Serialize};

/// The block that addresses come from: reserved by the IETF, so no real host can have one.
const BLOCK: u32 = 0xF000_0000;

/// Number of addresses in it.
const SIZE: u32 = 1 << 28;

/// Addresses of gone hosts that are remembered beyond the number of living ones, so that a host that comes back within
/// a while keeps its address and the memory of hosts that never do stays bounded.
const REMEMBERED: usize = 1024;

/// Which host has which virtual address. A host keeps its address for as long as it is remembered, whatever other hosts
/// come and go; persist the allocations before the outputs that use them are published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Name, Ipv4Addr>", into = "BTreeMap<Name, Ipv4Addr>")]
pub struct Allocations {
    by_host: BTreeMap<Name, Ipv4Addr>,
    /// The hosts whose address does not follow from their name, as another host had it.
    moved: BTreeSet<Name>,
    /// Number of addresses in the block; smaller where collisions are wanted.
    size: u32,
}

impl Default for Allocations {
    fn default() -> Self {
        Self::of(BTreeMap::new(), SIZE)
    }
}

impl From<BTreeMap<Name, Ipv4Addr>> for Allocations {
    fn from(by_host: BTreeMap<Name, Ipv4Addr>) -> Self {
        Self::of(by_host, SIZE)
    }
}

impl From<Allocations> for BTreeMap<Name, Ipv4Addr> {
    fn from(allocations: Allocations) -> Self {
        allocations.by_host
    }
}

impl Allocations {
    fn of(by_host: BTreeMap<Name, Ipv4Addr>, size: u32) -> Self {
        let moved = by_host.iter().filter(|(host, address)| candidates(host, size).next() != Some(**address));
        Self { moved: moved.map(|(host, _)| host.clone()).collect(), by_host, size }
    }

    /// The address of a host.
    pub fn get(&self, host: &str) -> Option<Ipv4Addr> {
        self.by_host.get(host).copied()
    }

    /// All hosts with their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Ipv4Addr)> {
        self.by_host.iter().map(|(host, address)| (host, *address))
    }

    /// The hosts whose address does not follow from their name, which are next to none: what those who allocate by themselves
    /// have to tell each other.
    pub fn moved(&self) -> impl Iterator<Item = (&Name, Ipv4Addr)> {
        self.moved.iter().filter_map(|host| Some((host, self.get(host)?)))
    }

    /// Takes over the moved hosts that others have agreed on. Unless all are here as they are there, whatever has one of their
    /// addresses, or was moved here only, gets another one with the next translation. Tells whether anything was different.
    pub fn adopt(&mut self, agreed: &BTreeMap<Name, Ipv4Addr>) -> bool {
        let is_same = |(host, address): (&Name, &Ipv4Addr)| self.get(host) == Some(*address);
        if agreed.iter().all(is_same) {
            return false;
        }
        let taken: BTreeSet<Ipv4Addr> = agreed.values().copied().collect();
        let mut by_host = std::mem::take(&mut self.by_host);
        by_host.retain(|host, address| !taken.contains(address) && !self.moved.contains(host));
        by_host.extend(agreed.iter().map(|(host, address)| (host.clone(), *address)));
        *self = Self::of(by_host, self.size);
        true
    }

    /// Gives every host of the fleet an address. New hosts get the one that follows from their name, or the next free
    /// one if another host has it, in the order of names.
    pub(crate) fn allocate(&mut self, hosts: &BTreeSet<Name>) {
        let mut owners: BTreeMap<Ipv4Addr, Name> = BTreeMap::new();
        for (host, address) in &self.by_host {
            // Persisted by hand or from elsewhere, two hosts may share an address: one of them gets another.
            let owner = owners.entry(*address).or_insert_with(|| host.clone());
            if hosts.contains(host) && !hosts.contains(&*owner) {
                *owner = host.clone();
            }
        }
        self.by_host.retain(|host, address| owners.get(address) == Some(host));
        self.moved.retain(|host| self.by_host.contains_key(host));
        for host in hosts {
            if self.by_host.contains_key(host) {
                continue;
            }
            let mut candidates = candidates(host, self.size).peekable();
            let preferred = candidates.peek().copied();
            // A block that is full of living hosts cannot be; a host beyond it stays without an address.
            let address = candidates.find(|address| owners.get(address).is_none_or(|owner| !hosts.contains(owner)));
            let Some(address) = address else { continue };
            if let Some(gone) = owners.insert(address, host.clone()) {
                self.by_host.remove(&gone);
                self.moved.remove(&gone);
            }
            if Some(address) != preferred {
                self.moved.insert(host.clone());
            }
            self.by_host.insert(host.clone(), address);
        }
        if self.by_host.len() > 2 * hosts.len() + REMEMBERED {
            self.by_host.retain(|host, _| hosts.contains(host));
            self.moved.retain(|host| hosts.contains(host));
        }
    }
}

/// The addresses that a host may have in a block of that size, best first.
fn candidates(host: &str, size: u32) -> impl Iterator<Item = Ipv4Addr> {
    let preference = preference(host) % size;
    let addresses = (0..size).map(move |step| Ipv4Addr::from(BLOCK | ((preference + step) % size)));
    addresses.filter(|address| is_usable(*address))
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
        let by_host: BTreeMap<_, _> = hosts(0..2).into_iter().map(|host| (host, address)).collect();
        let mut allocations = Allocations::from(by_host);
        allocations.allocate(&hosts(0..2));
        assert_ne!(allocations.get("host-0.example"), allocations.get("host-1.example"));
    }

    proptest! {
        /// In a tiny block most hosts collide.
        #[test]
        fn living_hosts_never_share_and_never_move(steps in vec(btree_set(0u16..300, 0..100), 1..8)) {
            let mut allocations = Allocations::of(BTreeMap::new(), 512);
            for step in steps {
                let before = allocations.clone();
                let living = hosts(step);
                allocations.allocate(&living);
                let addresses: BTreeSet<_> = living.iter().filter_map(|host| allocations.get(host)).collect();
                prop_assert_eq!(addresses.len(), living.len());
                for host in &living {
                    prop_assert!(before.get(host).is_none_or(|address| allocations.get(host) == Some(address)));
                }
            }
        }

        /// What does not follow from names is enough to agree: those who saw hosts in another order, and who see them for the
        /// first time.
        #[test]
        fn who_adopts_what_another_moved_has_the_same_addresses(
            orders in vec(vec(btree_set(0u16..300, 0..60), 1..4), 2),
        ) {
            let all: BTreeSet<Name> = orders.iter().flatten().flat_map(|step| hosts(step.iter().copied())).collect();
            let allocate = |order: &Vec<BTreeSet<u16>>| {
                let mut allocations = Allocations::of(BTreeMap::new(), 512);
                let mut living = BTreeSet::new();
                for step in order {
                    living.extend(hosts(step.iter().copied()));
                    allocations.allocate(&living);
                }
                allocations.allocate(&all);
                allocations
            };
            let (one, mut two) = (allocate(&orders[0]), allocate(&orders[1]));
            let agreed: BTreeMap<Name, Ipv4Addr> = one.moved().map(|(host, address)| (host.clone(), address)).collect();
            two.adopt(&agreed);
            two.allocate(&all);
            prop_assert_eq!(&two.by_host, &one.by_host);
            prop_assert!(!two.adopt(&agreed), "they are the same now");
            let mut new = Allocations::of(BTreeMap::new(), 512);
            new.adopt(&agreed);
            new.allocate(&all);
            prop_assert_eq!(&new, &one);
            let read: Allocations = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
            prop_assert_eq!(&read.by_host, &one.by_host);
        }
    }
}
