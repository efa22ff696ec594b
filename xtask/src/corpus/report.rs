//! Tables and lists for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{ContentArrangement, Table};
use meshrelay_snapshot::Name;
use meshrelay_translate::{ResourceRef, Severity};

use super::outcome::{Decoding, Fate, Outcome, short};

/// Width of tables, columns: a screen of today, and the same wherever they are printed.
const WIDTH: u16 = 180;

/// Names that would fill a table with nothing else.
const SHORT_KINDS: [(&str, &str); 9] = [
    ("AuthorizationPolicy", "AP"),
    ("DestinationRule", "DR"),
    ("EnvoyFilter", "EF"),
    ("Gateway", "GW"),
    ("PeerAuthentication", "PA"),
    ("RequestAuthentication", "RA"),
    ("ServiceEntry", "SE"),
    ("VirtualService", "VS"),
    ("WorkloadEntry", "WE"),
];

/// One line per checkpoint.
pub(super) fn table(outcomes: &[(String, Outcome)]) -> Table {
    let mut table = new_table(&["checkpoint"]);
    for (title, outcome) in outcomes {
        let mut total = Total::default();
        total.add(outcome);
        table.add_row(total.row(title, None));
    }
    table
}

/// One line per scenario, over all of its checkpoints.
#[derive(Debug, Default)]
pub(super) struct Summary {
    rows: Vec<(String, usize, Total)>,
    /// How much was not as it must be.
    pub(super) problems: usize,
}

impl Summary {
    pub(super) fn add(&mut self, scenario: &str, outcomes: &[(String, Outcome)]) {
        let mut total = Total::default();
        for (_, outcome) in outcomes {
            total.add(outcome);
        }
        self.problems += total.problems;
        self.rows.push((scenario.to_owned(), outcomes.len(), total));
    }

    pub(super) fn table(&self) -> Table {
        let mut table = new_table(&["scenario", "checkpoints"]);
        let mut all = Total::default();
        for (scenario, checkpoints, total) in &self.rows {
            table.add_row(total.row(scenario, Some(*checkpoints)));
            all.merge(scenario, total);
        }
        table.add_row(all.row("all", Some(self.rows.iter().map(|(_, checkpoints, _)| checkpoints).sum())));
        table
    }

    /// Kinds of generated objects.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &str> {
        let kinds: BTreeSet<&str> =
            self.rows.iter().flat_map(|(_, _, total)| total.objects.keys().map(|kind| &**kind)).collect();
        kinds.into_iter()
    }
}

/// Of several checkpoints, each resource counts once, with the best that came of it.
#[derive(Debug, Default)]
struct Total {
    fates: BTreeMap<(String, ResourceRef), Fate>,
    codes: BTreeMap<&'static str, usize>,
    objects: BTreeMap<Name, usize>,
    problems: usize,
    time: Duration,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        for (resource, fate) in &outcome.fates {
            self.see((String::new(), resource.clone()), fate);
        }
        sum(&mut self.codes, outcome.codes());
        sum(&mut self.objects, outcome.objects());
        self.problems += outcome.problems.len();
        self.time += outcome.time;
    }

    fn merge(&mut self, scenario: &str, other: &Self) {
        for ((_, resource), fate) in &other.fates {
            self.see((scenario.to_owned(), resource.clone()), fate);
        }
        sum(&mut self.codes, other.codes.clone());
        sum(&mut self.objects, other.objects.clone());
        self.problems += other.problems;
        self.time += other.time;
    }

    fn see(&mut self, key: (String, ResourceRef), fate: &Fate) {
        let known = self.fates.entry(key).or_insert_with(|| fate.clone());
        known.decoding = known.decoding.max(fate.decoding);
        known.has_output |= fate.has_output;
        known.is_reported |= fate.is_reported;
    }

    fn row(&self, title: &str, checkpoints: Option<usize>) -> Vec<String> {
        let count = |wanted: fn(&ResourceRef, &Fate) -> bool| {
            self.fates.iter().filter(|((_, resource), fate)| wanted(resource, fate)).count().to_string()
        };
        let mut row = vec![title.to_owned()];
        row.extend(checkpoints.map(|checkpoints| checkpoints.to_string()));
        row.extend([
            count(|_, _| true),
            count(|_, fate| fate.decoding == Decoding::Clean),
            count(|_, fate| fate.decoding == Decoding::Warned),
            count(|_, fate| fate.decoding == Decoding::Failed),
            count(|_, fate| fate.has_output),
            count(|_, fate| fate.is_reported),
            count(|resource, fate| fate.is_silent(resource)),
            list(&self.codes, |code| code.trim_start_matches("MR")),
            list(&self.objects, |kind| short_kind(kind)),
            self.problems.to_string(),
            format!("{:.1}", self.time.as_secs_f64() * 1e3),
        ]);
        row
    }
}

fn new_table(first: &[&str]) -> Table {
    let mut table = Table::new();
    let columns = [
        "resources",
        "clean",
        "warned",
        "failed",
        "with output",
        "reported",
        "silent",
        "MR…",
        "objects",
        "wrong",
        "ms",
    ];
    table
        .load_style(ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(first.iter().chain(&columns));
    table
}

fn sum<K: Ord>(into: &mut BTreeMap<K, usize>, from: BTreeMap<K, usize>) {
    for (key, number) in from {
        *into.entry(key).or_insert(0) += number;
    }
}

fn list<'a, K: Ord>(counts: &'a BTreeMap<K, usize>, name: impl Fn(&'a K) -> &'a str) -> String {
    counts.iter().map(|(key, number)| format!("{}×{number}", name(key))).collect::<Vec<_>>().join(" ")
}

fn short_kind(kind: &str) -> &str {
    SHORT_KINDS.iter().find(|(long, _)| *long == kind).map_or(kind, |(_, short)| short)
}

/// Every text that was reported with how often and one resource, and the resources that came to nothing without a word.
#[derive(Debug, Default)]
pub(super) struct Findings {
    texts: BTreeMap<(&'static str, Severity, String), (usize, String)>,
    silent: BTreeMap<Name, BTreeMap<String, String>>,
    seen: BTreeSet<String>,
}

impl Findings {
    pub(super) fn add(&mut self, scenario: &str, checkpoint: usize, outcome: &Outcome) {
        for (resource, report) in outcome.translation.reports.iter() {
            for message in &report.messages {
                let place = || (0, format!("{scenario} {checkpoint}: {resource}"));
                let key = (message.code.as_str(), message.severity, message.text.clone());
                self.texts.entry(key).or_insert_with(place).0 += 1;
            }
        }
        for (resource, fate) in &outcome.fates {
            let name = format!("{scenario}: {} ({})", short(&resource.key), resource.cluster);
            let of_kind = self.silent.entry(resource.key.gvk.kind.clone()).or_default();
            if fate.is_silent(resource) && !self.seen.contains(&name) {
                of_kind.entry(name).or_insert_with(|| format!("first at {checkpoint}"));
            } else if !fate.is_silent(resource) {
                of_kind.remove(&name);
                self.seen.insert(name);
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from("\n== reported: how often, text, for example\n");
        let mut last = "";
        for ((code, severity, message), (count, example)) in &self.texts {
            if last != *code {
                let _ = writeln!(text, "\n{code}");
                last = code;
            }
            let _ = writeln!(text, "{count:>6} {severity:?}: {message}\n           {example}");
        }
        text.push_str("\n== neither output nor report at any checkpoint\n");
        for (kind, resources) in self.silent.iter().filter(|(_, resources)| !resources.is_empty()) {
            let _ = writeln!(text, "\n{kind}: {}", resources.len());
            for (resource, first) in resources {
                let _ = writeln!(text, "    {resource}, {first}");
            }
        }
        text
    }
}
