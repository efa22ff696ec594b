use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Deserialize;
use serde_json::Value;

use crate::{Failure, endpoint};

/// Commands that show what there is.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum GetCommand {
    /// The clusters of a management server: whether their agents are connected, and what is held back and why
    #[command(visible_alias = "cluster")]
    Clusters {
        /// Health address of the management server
        #[arg(long, default_value = "http://127.0.0.1:8090", value_name = "URL")]
        server: String,
        /// How to print it
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The part of a server's status that the table shows. Servers of other versions may say more or less.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    clusters: BTreeMap<String, Cluster>,
    waiting_for: Vec<String>,
    waiting_for_store: bool,
    ways_out: Option<String>,
    waiting_since: Option<String>,
    deletions_held: Option<String>,
    deletions_held_since: Option<String>,
    store: Option<Store>,
    replicas: BTreeMap<String, Replica>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Store {
    connected: bool,
    since: String,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Replica {
    this: bool,
    stale_since: Option<String>,
    clusters: BTreeMap<String, Streams>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Streams {
    push: bool,
    pull: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Cluster {
    registered: bool,
    warm: bool,
    pushing: bool,
    pulling: bool,
    input_objects: usize,
    output_objects: usize,
    held: Option<Held>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Held {
    objects: usize,
    reason: String,
    since: String,
}

impl Status {
    /// The replica that serves a cluster, with a mark if that may be over, and the streams of its agent there.
    fn serving(&self, name: &str, cluster: &Cluster) -> (String, Streams) {
        let here = Streams { push: cluster.pushing, pull: cluster.pulling };
        let of = |(replica, state): (&String, &Replica)| {
            // Its own streams this server knows better than what it told others.
            let streams = if state.this { here } else { state.clusters.get(name).copied()? };
            let mark = if state.stale_since.is_some() { " *" } else { "" };
            (streams.push || streams.pull).then(|| (format!("{replica}{mark}"), streams))
        };
        let (this, others): (Vec<_>, Vec<_>) = self.replicas.iter().partition(|(_, replica)| replica.this);
        this.into_iter().chain(others).find_map(of).unwrap_or((String::new(), here))
    }
}

pub(crate) fn run(command: &GetCommand) -> Result<ExitCode, Failure> {
    let GetCommand::Clusters { server, output } = command;
    let bytes = endpoint::read(server, "/status")?;
    print(&bytes, *output, |value| Ok(table(&serde_json::from_value(value)?)))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints JSON in the format that is asked for.
pub(crate) fn print(
    bytes: &[u8],
    format: Format,
    table: impl FnOnce(Value) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let value: Value = serde_json::from_slice(bytes)?;
    let text = match format {
        Format::Table => table(value)?,
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&value)?),
        Format::Yaml => meshrelay_snapshot::to_yaml(&value),
    };
    Ok(anstream::stdout().write_all(text.as_bytes())?)
}

/// A time to the second.
pub(crate) fn second(time: &str) -> String {
    let second = |time: &str| time.parse::<jiff::Timestamp>().ok()?.round(jiff::Unit::Second).ok();
    second(time).map_or_else(|| time.to_owned(), |time| time.to_string())
}

fn table(status: &Status) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let headers = ["NAME", "REGISTERED", "WARM", "CONNECTED", "INPUT", "OUTPUT", "HELD", "SINCE"];
    // One server has no other that an agent could be at.
    let replicas = !status.replicas.is_empty();
    table.set_header(headers.into_iter().chain(replicas.then_some("REPLICA")));
    let yes = |yes| if yes { "yes" } else { "no" };
    let mut advice = Vec::new();
    for (name, cluster) in &status.clusters {
        let (replica, streams) = status.serving(name, cluster);
        let connected = match (streams.push, streams.pull) {
            (true, true) => "yes",
            (true, false) => "push only",
            (false, true) => "pull only",
            (false, false) => "no",
        };
        let since = |since: &Option<String>| since.as_deref().map(second).unwrap_or_default();
        let (held, since) = if let Some(held) = &cluster.held {
            advice.push(format!("{name}: {}", held.reason));
            (format!("{} objects", held.objects), second(&held.since))
        } else if status.waiting_for.contains(name) {
            ("translation: no input".to_owned(), since(&status.waiting_since))
        } else {
            (String::new(), String::new())
        };
        let (inputs, outputs) = (cluster.input_objects.to_string(), cluster.output_objects.to_string());
        let cells = [name, yes(cluster.registered), yes(cluster.warm), connected, &inputs, &outputs, &held, &since];
        table.add_row(cells.into_iter().chain(replicas.then_some(replica.as_str())));
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if !status.waiting_for.is_empty() {
        advice.push(format!(
            "translation is frozen until the inputs of {} are there: start their agents, or delete the \
             KubernetesCluster of one that is gone, or set its skipWarming",
            status.waiting_for.join(", ")
        ));
    }
    if status.waiting_for_store {
        let since = status.waiting_since.as_deref().map(second).unwrap_or_default();
        let way_out = status.ways_out.as_deref().unwrap_or_default();
        advice.push(format!("since {since} translation waits for a first look into the snapshot store: {way_out}"));
    }
    if let Some(reason) = &status.deletions_held {
        let since = status.deletions_held_since.as_deref().map(second).unwrap_or_default();
        advice.push(format!(
            "since {since} what depends on a cluster that is not known completely is kept as it was: {reason}"
        ));
    }
    if let Some(Store { connected: false, since, error }) = &status.store {
        let read = status.replicas.values().find_map(|replica| replica.stale_since.as_deref());
        let read = read.map_or_else(String::new, |read| {
            format!("; what is shown of other replicas (marked *) is stale, it was read at {}", second(read))
        });
        advice.push(format!("since {} the snapshot store is away: {error}{read}", second(since)));
    }
    if !advice.is_empty() {
        text.push('\n');
    }
    advice.iter().for_each(|line| text.extend([line, "\n"]));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_says_what_is_held_and_why() {
        let status = json!({
            "clusters": {
                "east": {"registered": true, "warm": true, "pushing": true, "pulling": true, "inputObjects": 42,
                    "outputObjects": 7, "held": {"objects": 12, "reason": "the delete brake holds 12", "since": "2026-01-02T03:04:05.6Z"}},
                "west": {"registered": true, "warm": true, "pushing": false, "pulling": true, "agentVersion": "0.9.0"},
            },
            "waitingFor": ["west"], "waitingSince": "2026-01-02T03:00:00Z", "something": "newer",
            "deletionsHeld": "west is away", "deletionsHeldSince": "2026-01-02T03:01:00Z",
        });
        let text = table(&serde_json::from_value(status).unwrap());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["NAME", "REGISTERED", "WARM", "CONNECTED", "INPUT", "OUTPUT", "HELD", "SINCE"]);
        assert_eq!(lines[1], ["east", "yes", "yes", "yes", "42", "7", "12", "objects", "2026-01-02T03:04:06Z"]);
        assert_eq!(
            lines[2],
            ["west", "yes", "yes", "pull", "only", "0", "0", "translation:", "no", "input", "2026-01-02T03:00:00Z"]
        );
        for part in ["east: the delete brake holds 12", "frozen until the inputs of west", "west is away"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("REPLICA"), "one server has no other");
        assert!(table(&Status::default()).lines().count() == 1, "nothing to say");
    }

    #[test]
    fn with_replicas_the_table_says_which_one_serves_and_what_is_stale() {
        let registered = |pushing| json!({"registered": true, "warm": true, "pushing": pushing, "pulling": pushing});
        let mut status = json!({
            "clusters": {"east": registered(true), "north": registered(false), "west": registered(false)},
            "store": {"connected": true, "since": "2026-01-02T03:00:00Z", "error": ""},
            "replicas": {
                "a-1": {"this": true, "clusters": {}},
                "b-2": {"this": false, "clusters": {"west": {"push": true, "pull": true}, "east": {"push": true}}},
            },
        });
        let lines = |status: &Value| {
            let text = table(&serde_json::from_value(status.clone()).unwrap());
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
        };
        let found = lines(&status);
        assert_eq!(found[0].last().unwrap(), "REPLICA");
        assert_eq!(found[1], ["east", "yes", "yes", "yes", "0", "0", "a-1"], "it knows better than what it told");
        assert_eq!(found[2], ["north", "yes", "yes", "no", "0", "0"]);
        assert_eq!(found[3], ["west", "yes", "yes", "yes", "0", "0", "b-2"]);
        assert_eq!(found.len(), 4, "all is well");

        status["store"] = json!({"connected": false, "since": "2026-01-02T03:05:00Z", "error": "no route (MR0900)"});
        status["replicas"]["b-2"]["staleSince"] = "2026-01-02T03:04:58.1Z".into();
        assert_eq!(lines(&status)[3], ["west", "yes", "yes", "yes", "0", "0", "b-2", "*"]);
        let text = table(&serde_json::from_value(status).unwrap());
        for part in ["since 2026-01-02T03:05:00Z the snapshot store is away", "MR0900", "2026-01-02T03:04:58Z"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
