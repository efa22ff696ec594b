use std::collections::BTreeMap;

use meshrelay_snapshot::Name;

use crate::{Refusal, RefusalReason};

/// What a stream carries, named from the agent's side as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Input snapshots, from the agent to the server.
    Push,
    /// Output snapshots, from the server to the agent.
    Pull,
}

impl Direction {
    /// Lower-case name, as in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }
}

/// Which agent serves each cluster: the first one that is alive, until all its streams have ended.
///
/// `T` is whatever ends a stream from outside. A stream counts as alive while it is registered; its own deadlines see to
/// it that this does not last when its peer is gone.
#[derive(Debug)]
pub struct Presence<T> {
    clusters: BTreeMap<Name, Agent<T>>,
    next: u64,
}

#[derive(Debug)]
struct Agent<T> {
    instance: String,
    streams: BTreeMap<Direction, (u64, T)>,
}

impl<T> Default for Presence<T> {
    fn default() -> Self {
        Self { clusters: BTreeMap::new(), next: 0 }
    }
}

impl<T> Presence<T> {
    /// Registers a stream. Gives its number and the older stream of the same process that it replaces, if any.
    ///
    /// # Errors
    /// [`RefusalReason::SecondAgent`] when another process has a stream for the cluster.
    pub fn claim(
        &mut self,
        cluster: &Name,
        instance: &str,
        direction: Direction,
        stream: T,
    ) -> Result<(u64, Option<T>), Refusal> {
        let agent = self
            .clusters
            .entry(cluster.clone())
            .or_insert_with(|| Agent { instance: instance.to_owned(), streams: BTreeMap::new() });
        if agent.instance != instance {
            let message = format!(
                "expected one agent for cluster {cluster}, found a second one ({instance}) while {} is connected and \
                 alive; stop one of them, or give it the name of its own cluster",
                agent.instance
            );
            return Err(Refusal::new(RefusalReason::SecondAgent, message));
        }
        self.next += 1;
        let replaced = agent.streams.insert(direction, (self.next, stream));
        Ok((self.next, replaced.map(|(_, stream)| stream)))
    }

    /// True while the stream of that number is the one that counts.
    pub fn is_current(&self, cluster: &str, direction: Direction, number: u64) -> bool {
        self.stream(cluster, direction).is_some_and(|(current, _)| *current == number)
    }

    /// Removes the stream of that number, unless a newer one has replaced it.
    pub fn release(&mut self, cluster: &str, direction: Direction, number: u64) {
        if !self.is_current(cluster, direction, number) {
            return;
        }
        if let Some(agent) = self.clusters.get_mut(cluster) {
            agent.streams.remove(&direction);
            if agent.streams.is_empty() {
                self.clusters.remove(cluster);
            }
        }
    }

    /// The streams of one cluster.
    pub fn streams_of(&self, cluster: &str) -> impl Iterator<Item = &T> {
        self.clusters.get(cluster).into_iter().flat_map(|agent| agent.streams.values().map(|(_, stream)| stream))
    }

    /// All streams.
    pub fn streams(&self) -> impl Iterator<Item = &T> {
        self.clusters.values().flat_map(|agent| agent.streams.values().map(|(_, stream)| stream))
    }

    fn stream(&self, cluster: &str, direction: Direction) -> Option<&(u64, T)> {
        self.clusters.get(cluster)?.streams.get(&direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_serves_a_cluster_until_its_last_stream_ends() {
        let mut presence = Presence::default();
        let cluster = Name::from("east");
        let (push, _) = presence.claim(&cluster, "one", Direction::Push, "push").unwrap();
        let (pull, _) = presence.claim(&cluster, "one", Direction::Pull, "pull").unwrap();
        let refusal = presence.claim(&cluster, "two", Direction::Push, "other").unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::SecondAgent);
        assert!(refusal.message.contains("one") && refusal.message.contains("two"), "{refusal}");
        presence.release("east", Direction::Push, push);
        assert!(presence.claim(&cluster, "two", Direction::Push, "other").is_err(), "the pull stream is alive");
        presence.release("east", Direction::Pull, pull);
        assert!(presence.claim(&cluster, "two", Direction::Push, "other").is_ok());
    }

    #[test]
    fn a_newer_stream_of_the_same_process_replaces_the_older() {
        let mut presence = Presence::default();
        let cluster = Name::from("east");
        let (older, _) = presence.claim(&cluster, "one", Direction::Push, "older").unwrap();
        let (newer, replaced) = presence.claim(&cluster, "one", Direction::Push, "newer").unwrap();
        assert_eq!(replaced, Some("older"));
        assert!(!presence.is_current("east", Direction::Push, older));
        presence.release("east", Direction::Push, older);
        assert!(presence.is_current("east", Direction::Push, newer), "the end of the older does not end the newer");
        assert_eq!(presence.streams_of("east").collect::<Vec<_>>(), [&"newer"]);
    }
}
