//! The relay agent.

fn main() -> std::process::ExitCode {
    meshrelay_agent::cli::main()
}
