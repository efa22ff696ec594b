use std::process::ExitCode;

use meshrelay_agent::{AgentStatus, FrozenStatus};

use crate::commands::get::{Format, print, second};
use crate::{Failure, endpoint};

/// Commands about agents.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AgentCommand {
    /// Show what an agent says of itself: its connection, what it applied, and what it holds back and why
    Status {
        /// Health address of the agent
        #[arg(long, default_value = "http://127.0.0.1:8091", value_name = "URL")]
        agent: String,
        /// How to print it
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
}

pub(crate) fn run(command: &AgentCommand) -> Result<ExitCode, Failure> {
    let AgentCommand::Status { agent, output } = command;
    let bytes = endpoint::read(agent, "/status")?;
    print(&bytes, *output, |value| Ok(page(&serde_json::from_value(value)?)))?;
    Ok(ExitCode::SUCCESS)
}

fn page(status: &AgentStatus) -> String {
    let yes = |yes| if yes { "yes" } else { "no" };
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.extend([&format!("{name:<12}"), value, "\n"]);
    line("cluster", &status.cluster);
    line("version", &status.version);
    line("servers", &status.servers.join(", "));
    line("connected", status.server.as_deref().unwrap_or("to none of them"));
    line("pushing", yes(status.pushing));
    line("pulling", yes(status.pulling));
    if !status.last_error.is_empty() {
        line("last error", &status.last_error);
    }
    line("input", &format!("{} objects", status.input_objects));
    let digest = status.output_digest.map(|digest| digest.short()).unwrap_or_default();
    line(
        "output",
        &format!("{} objects, {} not written, digest {digest}", status.output_objects, status.failed_objects),
    );
    if let Some(waiting) = &status.waiting {
        line(
            "waiting",
            &format!("nothing of the newest output is applied since {}", second(&waiting.since.to_string())),
        );
        line("", &waiting.reason);
        line("", &waiting.what_to_do);
    }
    match &status.held {
        None => line("held", "nothing"),
        Some(held) => {
            line("held", &format!("{} deletions since {}", held.objects, second(&held.since.to_string())));
            line("", &held.reason);
            line("", &held.what_to_do);
        }
    }
    for frozen in status.frozen.values() {
        let FrozenStatus { deletions, changes, .. } = frozen;
        let since = second(&frozen.since.to_string());
        line("frozen", &format!("{deletions} deletions and {changes} changes since {since}"));
        line("", &frozen.reason);
        line("", &frozen.what_to_do);
    }
    for problem in &status.problems {
        line("problem", problem);
    }
    text
}

#[cfg(test)]
mod tests {
    use meshrelay_agent::{HeldStatus, WaitingStatus};

    use super::*;

    #[test]
    fn the_page_says_what_is_kept_for_which_cluster() {
        let frozen = FrozenStatus {
            deletions: 2,
            changes: 1,
            reason: "west is away".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
            what_to_do: "start it".to_owned(),
        };
        let text = page(&AgentStatus { frozen: [("west".into(), frozen)].into(), ..AgentStatus::default() });
        let expected = "frozen      2 deletions and 1 changes since 1970-01-01T00:00:00Z\n            west is away\n            start it\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn the_page_says_what_an_output_waits_for() {
        let waiting = WaitingStatus {
            reason: "a folder cannot be read".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
            what_to_do: "mend it".to_owned(),
        };
        let text = page(&AgentStatus { waiting: Some(waiting), ..AgentStatus::default() });
        let expected = "waiting     nothing of the newest output is applied since 1970-01-01T00:00:00Z\n            \
                        a folder cannot be read\n            mend it\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn the_page_says_what_is_held_and_what_to_do() {
        let held = HeldStatus {
            objects: 12,
            reason: "too much".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
            digest: None,
            what_to_do: "meshctl approve".to_owned(),
        };
        let servers = vec!["one:1".to_owned(), "two:2".to_owned()];
        let text =
            page(&AgentStatus { cluster: "east".to_owned(), held: Some(held), servers, ..AgentStatus::default() });
        assert!(text.contains("servers     one:1, two:2\nconnected   to none of them\n"), "{text}");
        assert!(text.starts_with("cluster     east\n"), "{text}");
        assert!(text.contains("held        12 deletions since 1970-01-01T00:00:00Z\n            too much\n"), "{text}");
        assert!(text.ends_with("            meshctl approve\n"), "{text}");
    }
}
