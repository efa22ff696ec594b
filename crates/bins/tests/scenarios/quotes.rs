use std::fs;
use std::path::Path;

/// What stands between parts of a line that differ from run to run.
const ELLIPSIS: char = '…';

/// What the page quotes: the lines of its blocks, in parts.
fn quotes(page: &str) -> Vec<Vec<String>> {
    let blocks = page.split("```").skip(1).step_by(2);
    // The first line of a block names what it quotes.
    let lines = blocks.flat_map(|block| block.lines().skip(1));
    let parts =
        |line: &str| line.split(ELLIPSIS).map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    lines.map(parts).collect()
}

#[test]
fn what_the_page_on_failures_quotes_is_what_the_scenarios_wait_for() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(here.join("../../docs/failure-scenarios.md")).unwrap();
    let mut sources = String::new();
    for entry in fs::read_dir(here.join("tests/scenarios")).unwrap() {
        sources += &fs::read_to_string(entry.unwrap().path()).unwrap().replace("\\\"", "\"");
    }
    let quotes = quotes(&page);
    assert!(quotes.len() > 20, "the page quotes what users see");
    for quote in quotes {
        for part in &quote {
            assert!(sources.contains(part.as_str()), "{part:?} is quoted, but no scenario waits for it");
        }
    }
}

#[test]
fn every_scenario_is_on_the_page() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(here.join("../../docs/failure-scenarios.md")).unwrap();
    for module in [
        "agent_disconnects",
        "everything_restarts",
        "full_disk",
        "redis_refuses",
        "redis_unavailable",
        "replica_unavailable",
        "upgrade",
    ] {
        assert!(page.contains(&format!("`{module}.rs`")), "{module}.rs is not on the page");
    }
}
