//! The Meshrelay command line.

fn main() -> std::process::ExitCode {
    meshrelay_meshctl::cli::main()
}
