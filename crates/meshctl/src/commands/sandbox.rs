use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, Table};
use console::{Term, measure_text_width};
use meshrelay_process::{logging, shutdown};
use rust_embed::Embed;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::cli::SandboxArguments;
use crate::sandbox::{REPORTS_FILE, Sandbox, work_folder};

/// The example that runs when no fleet is given.
#[derive(Embed)]
#[folder = "../../examples/bookinfo"]
#[exclude = ".meshrelay/*"]
struct Bookinfo;

/// Where the example is put.
const EXAMPLE_FOLDER: &str = "meshrelay-bookinfo";

/// How often the table is looked at: often enough to feel live, seldom enough to cost nothing.
const REFRESH: Duration = Duration::from_millis(200);

/// Problems that the table lists; the rest is in the reports.
const LISTED_PROBLEMS: usize = 8;

pub(crate) fn run(arguments: &SandboxArguments) -> Result<ExitCode, Failure> {
    let fleet = match &arguments.fleet {
        Some(fleet) => fleet.clone(),
        None => unpack_example()?,
    };
    let log = work_folder(&fleet).join("sandbox.log");
    let file = |path: &Path, source| Failure::File { path: path.to_owned(), source };
    if !fleet.is_dir() {
        return Err(Failure::NoFleet { path: fleet });
    }
    std::fs::create_dir_all(work_folder(&fleet)).map_err(|source| file(&log, source))?;
    logging::init_file(&arguments.log_level, &log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(show(&fleet, arguments))
}

async fn show(fleet: &Path, arguments: &SandboxArguments) -> Result<ExitCode, Failure> {
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())?;
    let mut screen = Screen::new();
    screen.note(&format!("starting {} …", fleet.display()))?;
    let sandbox = Sandbox::start(fleet, arguments.relay_address).await?;
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            _ = refresh.tick() => {}
            () = stop.cancelled() => break,
        }
        screen.show(&table(&sandbox))?;
        if arguments.once && sandbox.is_settled() {
            break;
        }
    }
    screen.note("stopping …")?;
    sandbox.stop().await;
    screen.note(&format!("stopped; the outputs are in {}", work_folder(fleet).display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Puts the bundled example beside the user, who is meant to change it; one that is there already is used as it is.
fn unpack_example() -> Result<PathBuf, Failure> {
    let folder = PathBuf::from(EXAMPLE_FOLDER);
    if folder.exists() {
        return Ok(folder);
    }
    for name in Bookinfo::iter() {
        let path = folder.join(&*name);
        let file = |source| Failure::File { path: path.clone(), source };
        let Some(content) = Bookinfo::get(&name) else { continue };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(file)?;
        }
        std::fs::write(&path, content.data).map_err(file)?;
    }
    Ok(folder)
}

fn table(sandbox: &Sandbox) -> String {
    let status = sandbox.server.status();
    let status = status.borrow();
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["CLUSTER", "CONNECTED", "OBJECTS IN", "OBJECTS OUT", "APPLIED", "PROBLEMS"]);
    let mut problems: Vec<String> = Vec::new();
    for (name, agent) in &sandbox.agents {
        let agent = agent.status();
        let agent = agent.borrow();
        let cluster = status.clusters.get(name).cloned().unwrap_or_default();
        let connected = agent.pushing && agent.pulling;
        let mark = |good: bool, yes: &str, no: &str| {
            if good { Cell::new(yes).fg(Color::Green) } else { Cell::new(no).fg(Color::Yellow) }
        };
        let own = usize::from(agent.held.is_some())
            + agent.frozen.len()
            + agent.problems.len()
            + cluster.failed_objects
            + usize::from(!connected && !agent.last_error.is_empty());
        table.add_row([
            Cell::new(name.as_str()),
            mark(connected, "yes", "no"),
            Cell::new(agent.input_objects),
            Cell::new(cluster.output_objects),
            mark(cluster.applied, "yes", "not yet"),
            if own == 0 { Cell::new(0) } else { Cell::new(own).fg(Color::Red) },
        ]);
        problems.extend(agent.problems.iter().cloned());
        if let Some(held) = &agent.held {
            let since = held.since.round(jiff::Unit::Second).unwrap_or(held.since);
            problems.push(format!("{name}: {} deletions are held since {since}: {}", held.objects, held.reason));
            if held.digest.is_some() {
                let fleet = sandbox.fleet.display();
                problems.push(format!("{name}: if they are meant: meshctl approve {fleet} --cluster {name}"));
            }
        }
        for frozen in agent.frozen.values() {
            let since = frozen.since.round(jiff::Unit::Second).unwrap_or(frozen.since);
            let objects = frozen.deletions + frozen.changes;
            problems.push(format!("{name}: {objects} objects are kept as they were since {since}: {}", frozen.reason));
        }
        if !connected && !agent.last_error.is_empty() {
            problems.push(format!("{name}: {}", agent.last_error));
        }
    }
    problems.extend(status.findings.iter().cloned());
    let folder = work_folder(&sandbox.fleet);
    let mut text = format!("{table}\n\n");
    if !status.waiting_for.is_empty() {
        text.push_str(&format!("translation waits for the inputs of {:?}\n", status.waiting_for));
    } else if status.translations > 0 {
        text.push_str(&format!(
            "{} translations; the last took {:.1} ms: {} of {} units anew, {} objects\n",
            status.translations,
            status.translation_time.as_secs_f64() * 1000.0,
            status.stats.recomputed,
            status.stats.units,
            status.stats.objects
        ));
    }
    if let Some(reason) = &status.deletions_held {
        text.push_str(&format!("what depends on a cluster that is not known completely is kept as it was: {reason}\n"));
    }
    let mut unique = problems;
    unique.dedup();
    match unique.len() {
        0 => text.push_str("no problems\n"),
        count => {
            text.push_str(&format!("{count} {}:\n", if count == 1 { "problem" } else { "problems" }));
            for problem in unique.iter().take(LISTED_PROBLEMS) {
                text.push_str(&format!("  {problem}\n"));
            }
            if count > LISTED_PROBLEMS {
                text.push_str(&format!("  … all of them in {}\n", folder.join(REPORTS_FILE).display()));
            }
        }
    }
    text.push_str(&format!(
        "\noutputs  {}/<cluster>/\nreports  {}\nlog      {}\nmetrics  http://{}/metrics\n\
         status   meshctl get clusters --server http://{}\n\n\
         try: change a weight or a path in a RouteTable below {}, save, and watch the VirtualService follow.\n\
         Ctrl-C stops.\n",
        folder.display(),
        folder.join(REPORTS_FILE).display(),
        folder.join("sandbox.log").display(),
        sandbox.server.stats_address,
        sandbox.server.health_address,
        sandbox.fleet.display(),
    ));
    text
}

/// A terminal on which the table is redrawn in place, or a stream that gets it anew whenever it has changed.
struct Screen {
    terminal: Term,
    drawn: String,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: Term::stdout(), drawn: String::new() }
    }

    fn show(&mut self, text: &str) -> Result<(), Failure> {
        if text == self.drawn {
            return Ok(());
        }
        if self.terminal.is_term() {
            self.terminal.clear_last_lines(self.rows())?;
        }
        let mut out = anstream::stdout().lock();
        write!(out, "{text}")?;
        out.flush()?;
        self.drawn = text.to_owned();
        Ok(())
    }

    /// Rows of the terminal that the last table takes, with lines that are wider than it.
    fn rows(&self) -> usize {
        let columns = usize::from(self.terminal.size().1).max(1);
        self.drawn.lines().map(|line| measure_text_width(line).div_ceil(columns).max(1)).sum()
    }

    fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.drawn.clear();
        Ok(writeln!(anstream::stderr(), "{text}")?)
    }
}
