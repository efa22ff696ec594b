//! The whole control plane in one process and one thread, driven by one seed: servers with their store, agents with their
//! clusters, and all that can happen to them, in virtual time. What runs is the programs' own code above sockets, folders
//! and certificates. It is a test and nothing else: there is nothing here to use.
//!
//! A failing seed is replayed with `MESHRELAY_SEED=<seed> cargo test -p meshrelay-simulation -- --nocapture`, which prints
//! what happened. `docs/testing.md` says what is simulated.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod network;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod picture;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod shared_store;
#[cfg(test)]
mod situations;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod world;
