//! What happened, as text with times; its digest tells two runs apart.

use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use crate::oracle::Oracle;
use crate::situations::{Situation, Situations};

/// Most that happens without any time passing.
const MOST_AT_ONCE: u64 = 2_000;

/// What everything in a simulation shares.
pub(crate) struct Context {
    start: Instant,
    seed: u64,
    random: Mutex<StdRng>,
    trace: Mutex<Trace>,
    pub(crate) oracle: Mutex<Oracle>,
    pub(crate) situations: Mutex<Situations>,
}

struct Trace {
    digest: blake3::Hasher,
    /// What happened at the present moment. Tasks that wake each other then may take turns in any order.
    lines: Vec<String>,
    prints: bool,
    /// When something happened last, and how often then.
    busy: (Duration, u64),
    failure: Option<String>,
}

impl Context {
    pub(crate) fn new(seed: u64, prints: bool) -> Self {
        Self {
            start: Instant::now(),
            seed,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            trace: Mutex::new(Trace {
                digest: blake3::Hasher::new(),
                lines: Vec::new(),
                prints,
                busy: Default::default(),
                failure: None,
            }),
            oracle: Mutex::default(),
            situations: Mutex::default(),
        }
    }

    /// A situation happened.
    pub(crate) fn met(&self, situation: Situation) {
        self.met_if(situation, true);
    }

    /// A situation happened if it is so.
    pub(crate) fn met_if(&self, situation: Situation, is_so: bool) {
        self.situations.lock().add(situation, is_so.into());
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Chance for whoever is not the one who makes things happen.
    pub(crate) fn fate(&self, of: u64) -> Fate<'_> {
        Fate { context: self, of }
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.random.lock().random_range(0..end)
    }

    pub(crate) fn chance(&self, probability: f64) -> bool {
        self.random.lock().random_bool(probability)
    }

    pub(crate) fn pick<T: Copy>(&self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len() as u64) as usize]) }
    }

    pub(crate) fn millis(&self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }

    /// Notes that something happened.
    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        let now = self.now();
        let line = format!("{:9.3} {what}", now.as_secs_f64());
        let mut trace = self.trace.lock();
        if trace.busy.0 != now {
            trace.flush();
        }
        trace.busy = if trace.busy.0 == now { (now, trace.busy.1 + 1) } else { (now, 0) };
        if trace.busy.1 > MOST_AT_ONCE {
            // The task that this ends is the one that goes round in circles.
            drop(trace);
            panic!("no time passes: {line}");
        }
        if trace.prints {
            println!("{line}");
        }
        trace.lines.push(line);
    }

    /// Notes that something happened that must not; the first one counts.
    pub(crate) fn fail(&self, what: String) {
        self.note(format_args!("FAILURE: {what}"));
        let now = self.now();
        self.trace.lock().failure.get_or_insert_with(|| format!("at {:.3} s: {what}", now.as_secs_f64()));
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.trace.lock().failure.clone()
    }

    pub(crate) fn digest(&self) -> String {
        let mut trace = self.trace.lock();
        trace.flush();
        trace.digest.finalize().to_hex().to_string()
    }
}

impl Trace {
    fn flush(&mut self) {
        self.lines.sort_unstable();
        for line in self.lines.drain(..) {
            self.digest.update(line.as_bytes());
            self.digest.update(b"\n");
        }
    }
}

/// Chance for one of several tasks: it depends on the time and on who asks, and not on who asked before.
pub(crate) struct Fate<'a> {
    context: &'a Context,
    of: u64,
}

impl Fate<'_> {
    pub(crate) fn below(&self, end: u64) -> u64 {
        let now = self.context.now().as_micros() as u64;
        let mut mixed = self.context.seed ^ now.rotate_left(32) ^ self.of.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..2 {
            // The finish of splitmix64.
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^= mixed >> 31;
        }
        mixed % end
    }

    /// In so many of a hundred cases.
    pub(crate) fn percent(&self, of_hundred: u64) -> bool {
        self.below(100_003) < of_hundred * 1_000
    }

    pub(crate) fn millis(&self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

/// Notes what happened.
macro_rules! note {
    ($context:expr, $($what:tt)*) => { $context.note(format_args!($($what)*)) };
}
pub(crate) use note;
