use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap_markdown::MarkdownOptions;
use meshrelay_process::metrics::MetricInfo;
use prometheus_client::registry::Registry;

use crate::Failure;
use crate::cli::{self, Reference};

/// Prints a page of the documentation that is generated from the programs themselves.
pub(crate) fn run(page: Reference) -> Result<ExitCode, Failure> {
    let text = match page {
        Reference::Cli => command_lines(),
        Reference::Metrics => metrics(),
    };
    anstream::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn command_lines() -> String {
    let options = MarkdownOptions::new().show_footer(false).show_table_of_contents(false);
    let commands = [cli::command(), meshrelay_server::cli::command(), meshrelay_agent::cli::command()];
    let pages = commands.iter().map(|command| clap_markdown::help_markdown_command_custom(command, &options));
    format!("# Command lines\n\n{}\n", pages.collect::<Vec<_>>().join("\n\n").trim_end())
}

fn metrics() -> String {
    let of = |title: &str, mut infos: Vec<MetricInfo>| {
        infos.sort();
        let mut text = format!("## {title}\n\n| metric | type | labels | |\n|---|---|---|---|\n");
        for info in infos {
            let labels = info.labels.join(", ");
            // Writing into a string cannot fail.
            let _ = writeln!(text, "| `{}` | {} | {labels} | {} |", info.name, info.kind, info.help);
        }
        text
    };
    let server = meshrelay_server::Metrics::default().register(&mut Registry::default());
    let agent = meshrelay_agent::Metrics::default().register(&mut Registry::default());
    format!("# Metrics\n\n{}\n{}", of("gloo-mesh-mgmt-server", server), of("gloo-mesh-agent", agent))
}
