use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use meshrelay_agent::deletions::DeletionFiles;
use meshrelay_pki::ClusterName;

use crate::{Failure, sandbox};

/// Arguments of `meshctl approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArguments {
    /// Fleet folder of a sandbox
    #[arg(required_unless_present = "state_directory")]
    fleet: Option<PathBuf>,
    /// Cluster whose deletions are approved
    #[arg(long)]
    cluster: ClusterName,
    /// State folder of the cluster's agent, for an agent that is no sandbox's
    #[arg(long, value_name = "DIR", conflicts_with = "fleet")]
    state_directory: Option<PathBuf>,
    /// Approve only if this is the beginning of the digest of what is held, as `agent status` shows it
    #[arg(long)]
    digest: Option<String>,
    /// Show what is held and approve nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(arguments: &ApproveArguments) -> Result<ExitCode, Failure> {
    let ApproveArguments { fleet, cluster, state_directory, digest, dry_run } = arguments;
    let folder = match (state_directory, fleet) {
        (Some(folder), _) => folder.clone(),
        (None, Some(fleet)) => sandbox::agent_state_folder(fleet, cluster.as_str()),
        (None, None) => PathBuf::new(),
    };
    if !folder.is_dir() {
        return Err(Failure::File { path: folder, source: std::io::ErrorKind::NotFound.into() });
    }
    let agent = |source| Failure::Agent { cluster: cluster.to_string(), source };
    let files = DeletionFiles::new(&folder, cluster.as_str());
    let mut stderr = anstream::stderr();
    let Some(held) = files.held().map_err(agent)? else {
        writeln!(stderr, "the agent of {cluster} holds no deletions")?;
        return Ok(ExitCode::FAILURE);
    };
    let found = held.digest().to_string();
    if let Some(wanted) = digest
        && (wanted.is_empty() || !found.starts_with(wanted.as_str()))
    {
        let (wanted, found) = (wanted.clone(), held.digest().short());
        return Err(Failure::OtherDeletions { cluster: cluster.to_string(), wanted, found });
    }
    let mut stdout = anstream::stdout().lock();
    for object in &held.objects {
        writeln!(stdout, "{object}")?;
    }
    let (count, digest) = (held.objects.len(), held.digest().short());
    if *dry_run {
        writeln!(stderr, "{count} deletions of {cluster} wait for approval, digest {digest}")?;
        return Ok(ExitCode::SUCCESS);
    }
    files.approve(&held, Timestamp::now()).map_err(agent)?;
    writeln!(
        stderr,
        "approved {count} deletions of {cluster}, digest {digest}; the agent carries them out when it runs"
    )?;
    Ok(ExitCode::SUCCESS)
}
