//! The daemons' own log: lines for people on a terminal, JSON for programs.
//!
//! It goes to the error output, or to a file where the screen is used for something else.

use std::fs::File;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Flags of everything that runs for long.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logging")]
pub struct LogFlags {
    /// The form of the log.
    #[arg(
        long = "log_format",
        alias = "log-format",
        env = "MEZZO_LOG_FORMAT",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// How much is logged: error, warn, info, debug or trace, also by part: `info,mezzo_master=debug`.
    #[arg(
        long = "log_level",
        alias = "log-level",
        env = "MEZZO_LOG",
        default_value = "info",
        value_name = "LEVEL",
        value_parser = level
    )]
    pub log_level: String,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line of text for each entry.
    #[default]
    Text,
    /// A JSON object for each entry.
    Json,
}

/// Where the log goes.
#[derive(Debug)]
pub enum Sink {
    /// The error output.
    Stderr,
    /// A file.
    File(File),
}

fn level(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Begins to log. Only the first call of a process counts.
pub fn begin(flags: &LogFlags, sink: Sink) {
    let filter = EnvFilter::try_new(&flags.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, colours) = match sink {
        Sink::Stderr => (
            BoxMakeWriter::new(std::io::stderr),
            std::io::stderr().is_terminal(),
        ),
        Sink::File(file) => (BoxMakeWriter::new(std::sync::Mutex::new(file)), false),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    // Whoever was first stays: tests start several daemons in one process.
    let _ = match flags.log_format {
        LogFormat::Text => builder.with_ansi(colours).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked_at_once() {
        for good in ["info", "debug", "warn,mezzo_master=trace", "off"] {
            assert!(level(good).is_ok(), "{good}");
        }
        for bad in ["info,mezzo=loud", "a=b=c"] {
            assert!(level(bad).is_err(), "{bad}");
        }
    }
}
