//! The benchmarks, and the `mezzo` that they measure in one binary.

/// Words that make this program `mezzo`.
const COMMANDS: [&str; 5] = ["master", "agent", "service", "batch", "executor"];

fn main() -> std::process::ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|word| COMMANDS.contains(&word.as_str()))
    {
        return mezzo_cli::main();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    match runtime.block_on(mezzo_integration::bench::main()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
