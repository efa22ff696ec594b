//! What `docs/failure-scenarios.md` quotes, each line by a name. A name can only be waited for; one that no run waits for is dead
//! code, which does not compile here; and names and page are the same.
#![deny(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meshrelay_testbed::{Endpoints, Process, Server, wait_for};

use crate::PROGRAMS;

/// The page on failures.
const PAGE: &str = include_str!("../../../../docs/failure-scenarios.md");

/// What stands between parts of a line that differ from run to run.
const ELLIPSIS: char = '…';

/// The parts of a quoted line, in their order.
fn parts(line: &'static str) -> Vec<&'static str> {
    line.split(ELLIPSIS).map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// True if a text has all the parts of a quoted line, in their order.
fn has(text: &str, line: &'static str) -> bool {
    let rest = parts(line).into_iter().try_fold(text, |rest, part| Some(rest.split_once(part)?.1));
    rest.is_some()
}

/// A line of a log.
#[derive(Clone, Copy)]
pub(crate) struct Log(&'static str);

impl Log {
    /// Waits until a program has said it.
    pub(crate) fn said_by(self, process: &Process) {
        self.said_since(0, process, &[]);
    }

    /// Waits until a program has said it of something, all of which is in the same line.
    pub(crate) fn said_of(self, of: &[&str], process: &Process) {
        self.said_since(0, process, of);
    }

    /// Waits until a program says it from that line on.
    pub(crate) fn said_since(self, mark: usize, process: &Process, of: &[&str]) {
        process.line_so(mark, format_args!("{:?} of {of:?}", self.0), |line| {
            has(line, self.0) && of.iter().all(|part| line.contains(part))
        });
    }
}

/// A metric, with its labels.
#[derive(Clone, Copy)]
pub(crate) struct Metric(&'static str);

impl Metric {
    /// Waits until a program measures a good value.
    pub(crate) fn is(self, good: impl Fn(f64) -> bool, endpoints: Endpoints) {
        endpoints.wait_for_metric(self.0, good);
    }
}

/// What `meshctl get clusters` shows.
#[derive(Clone, Copy)]
pub(crate) struct Meshctl(&'static str);

impl Meshctl {
    /// Waits until it shows that of a server.
    pub(crate) fn shown_of(self, server: &Server) {
        wait_for(format_args!("{:?} of meshctl", self.0), || {
            let shown = PROGRAMS.meshctl(&["get", "clusters", "--server", &server.endpoints.url()]);
            let found = shown.stdout.lines().any(|line| has(line, self.0));
            if found { Ok(()) } else { Err(shown.stdout + &shown.stderr) }
        });
    }
}

/// What a program says of its readiness.
#[derive(Clone, Copy)]
pub(crate) struct Readyz(&'static str);

impl Readyz {
    /// Waits until it says so with that code.
    pub(crate) fn said_with(self, code: u16, endpoints: Endpoints) {
        wait_for(format_args!("{:?} of /readyz", self.0), || match endpoints.health("/readyz") {
            (found, text) if found == code && text.lines().any(|line| has(line, self.0)) => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }
}

/// Lines by what they are quoted from.
type Quotes = Vec<(String, String)>;

macro_rules! quotes {
    ($($module:ident { $($name:ident: $kind:ident = $line:literal;)* })*) => {
        $(pub(crate) mod $module {
            $(pub(crate) const $name: super::$kind = super::$kind($line);)*
        })*

        /// The same by the files that wait for them.
        fn named() -> BTreeMap<String, Quotes> {
            [$((
                stringify!($module).to_owned(),
                vec![$((stringify!($kind).to_lowercase(), $line.to_owned())),*],
            )),*].into()
        }
    };
}

quotes! {
    redis_unavailable {
        AWAY: Log = "the snapshot store is away: translation goes on with what is in memory";
        SHOWN: Meshctl = "the snapshot store is away: redis at …";
        WAITS: Log = "translation waits for a first look into the snapshot store";
        WAITS_SHOWN: Meshctl = "translation waits for a first look into the snapshot store";
        KEPT: Log = "what depends on a cluster that is not known completely is kept";
        BACK: Log = "the snapshot store is back: writing what it lacks";
    }
    redis_refuses {
        FULL: Log = "the snapshot store refuses: translation goes on with what is in memory … MR0904";
        CANNOT_SAVE: Log = "the snapshot store refuses: translation goes on with what is in memory … MR0906";
        REPLICA: Log = "redis is away … MR0905";
        FAILURES: Metric = "gloo_mesh_redis_sync_err_total";
        DOES_IT_AGAIN: Log = "the snapshot store does it again";
        BACK: Log = "the snapshot store is back: writing what it lacks";
    }
    agent_disconnects {
        DISCONNECTED: Log = "agent disconnected … cluster3";
        CONNECTED: Metric = "relay_push_clients_connected{cluster=\"cluster3\"}";
        ENDED: Log = "the stream to the server ended";
    }
    replica_unavailable {
        ENDED: Log = "the stream to the server ended … MR0240";
        CHANGES: Metric = "meshrelay_agent_server_changes_total";
        ISSUED: Log = "the server issued a client certificate";
    }
    server_is_behind {
        KEPT: Log = "what depends on a cluster is kept as it was … the server knows version … of the input of cluster cluster3";
        KEPT_OBJECTS: Metric = "meshrelay_agent_frozen_objects{cluster=\"cluster3\"}";
        STAYS: Readyz = "objects are kept as they were: the server knows version … of the input of cluster cluster3";
        KEPT_NO_MORE: Log = "nothing is kept on account of the cluster any more";
        NOT_YET: Log = "an output is not applied yet … what is in force is not known";
        NOT_KNOWN: Readyz = "what is in force is not known: … it goes on by itself once the cluster can be read";
    }
    unreadable_files {
        AS_IT_WAS: Log = "not all of the input could be read: what is missing stays as it was … cluster3";
        KEPT: Log = "what depends on a cluster is kept as it was … mgmt/clusters.yaml could not be read in full";
        KEPT_OBJECTS: Metric = "meshrelay_agent_frozen_objects{cluster=\"mgmt\"}";
        KEPT_NO_MORE: Log = "nothing is kept on account of the cluster any more";
    }
    everything_restarts {
        WAITS: Log = "translation waits for the inputs of warm clusters … cluster3";
        FROZEN: Meshctl = "translation is frozen until the inputs of cluster3 are there";
        WAITED_FOR: Metric = "gloo_mesh_safe_mode_active{cluster=\"cluster3\"}";
        HALTED: Readyz = "translation is halted since … cluster3";
        GOES_ON: Log = "no input is waited for any longer: translating";
        WITHOUT: Log = "the safe start window is over: translating without the inputs that are missing";
        KEPT: Log = "what depends on a cluster that is not known completely is kept";
        KEPT_BY_AGENT: Log = "what depends on a cluster is kept as it was";
        KEPT_NO_MORE: Log = "nothing is kept on account of the cluster any more";
        KEPT_OBJECTS: Metric = "meshrelay_agent_frozen_objects{cluster=\"cluster3\"}";
    }
    upgrade {
        STOPPING: Log = "the server is stopping";
        STOPPED: Log = "\"message\":\"stopped\"";
    }
    full_disk {
        NOT_PUBLISHED: Log = "cannot keep the state of translation; the outputs are not published yet";
        NOT_APPLIED: Log = "an object was not applied … MR0421";
        NOT_KEPT: Log = "the output could not be kept for the next start; it is applied all the same";
        FAILURES: Metric = "object_write_fails_total";
    }
}

/// What the sections of the page quote: the lines of their blocks, whose first line says from where, by the file that they name.
fn quoted(page: &str) -> BTreeMap<String, Quotes> {
    let mut all = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let text = section.split_once('\n').unwrap().1.trim_start();
        let module = text.strip_prefix('`').and_then(|text| text.split_once(".rs`"));
        let (module, text) = module.unwrap_or_else(|| panic!("a section names its file first: {section}"));
        let mut quotes = Quotes::new();
        for block in text.split("```").skip(1).step_by(2) {
            let mut lines = block.lines().map(str::trim).filter(|line| !line.is_empty());
            let kind = lines.next().unwrap();
            quotes.extend(lines.map(|line| (kind.to_owned(), line.to_owned())));
        }
        assert!(all.insert(module.to_owned(), quotes).is_none(), "{module} has one section");
    }
    all
}

#[test]
fn the_page_on_failures_quotes_what_runs_wait_for_and_nothing_else() {
    let (quoted, named) = (quoted(PAGE), named());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    assert_eq!(quoted.keys().collect::<Vec<_>>(), named.keys().collect::<Vec<_>>(), "sections by their files");
    for (module, lines) in &quoted {
        assert_eq!(lines, &named[module], "what the page quotes, and what {module}.rs waits for");
        let source = fs::read_to_string(folder.join(module).with_extension("rs")).unwrap();
        assert!(!source.contains(".line"), "{module}.rs waits for lines of logs by their names");
    }
}

#[test]
fn a_line_is_found_by_its_parts_in_their_order() {
    assert!(has("it is away: redis at 10.0.0.1", "away: redis at …"));
    assert!(has("halted since 10:00 for cluster3", "halted since … cluster3"));
    assert!(!has("cluster3 is halted since 10:00", "halted since … cluster3"));
    assert!(!has("halted", "halted since … cluster3"));
}
