//! The management server.

fn main() -> std::process::ExitCode {
    meshrelay_server::cli::main()
}
