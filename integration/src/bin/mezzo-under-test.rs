//! The `mezzo` of this very build, for the tests that start real processes.

fn main() -> std::process::ExitCode {
    mezzo_cli::main()
}
