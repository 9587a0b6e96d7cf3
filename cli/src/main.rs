//! The `mezzo` binary.

fn main() -> std::process::ExitCode {
    mezzo_cli::main()
}
