//! How answers are shown: tables for people, JSON for programs.
//!
//! Invariant: a reader that goes away (`mezzo tasks | head`) is no error.

use std::io::{self, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

/// In which form to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table, or a line, for people.
    #[default]
    Table,
    /// JSON for programs: the same values, nothing shortened.
    Json,
}

/// What can be shown as a row of a table.
pub trait Row {
    /// The titles of the columns.
    const TITLES: &'static [&'static str];

    /// The cells, as many as titles.
    fn cells(&self) -> Vec<String>;
}

/// Shows rows; an empty table is its titles alone.
pub fn rows<T: Row + Serialize>(rows: &[T], format: Format) -> String {
    match format {
        Format::Json => json(rows),
        Format::Table => table(T::TITLES, rows.iter().map(Row::cells)),
    }
}

/// A table with these titles, without borders.
pub fn table(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles.to_vec());
    for row in rows {
        // What comes from outside must stay in its cell.
        table.add_row(
            row.into_iter()
                .map(|cell| cell.replace(char::is_control, " ")),
        );
    }
    for column in table.column_iter_mut() {
        column
            .set_padding((0, 2))
            .set_constraint(ColumnConstraint::ContentWidth);
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// JSON, indented, with a newline at its end.
pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_else(|_| String::from("null"));
    text.push('\n');
    text
}

/// Writes a text to the standard output.
///
/// # Errors
/// If it cannot be written, unless the reader went away.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// An amount of MiB as people write it.
pub fn mebibytes(amount: f64) -> String {
    if amount >= 10_240.0 {
        format!("{:.1}G", amount / 1024.0)
    } else {
        format!("{amount:.0}M")
    }
}

/// An amount with at most two decimals, without trailing zeros.
pub fn short(amount: f64) -> String {
    let text = format!("{amount:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How long ago something was: `5s`, `12m`, `3h`, `2d`.
pub fn ago(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 120.0 {
        format!("{seconds:.0}s")
    } else if seconds < 7200.0 {
        format!("{:.0}m", seconds / 60.0)
    } else if seconds < 172_800.0 {
        format!("{:.0}h", seconds / 3600.0)
    } else {
        format!("{:.0}d", seconds / 86_400.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pet {
        name: &'static str,
        legs: u32,
    }

    impl Row for Pet {
        const TITLES: &'static [&'static str] = &["NAME", "LEGS"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.legs.to_string()]
        }
    }

    #[test]
    fn rows_are_tables_or_json() {
        let pets = [
            Pet {
                name: "a long name",
                legs: 4,
            },
            Pet {
                name: "b",
                legs: 12,
            },
        ];
        assert_eq!(
            rows(&pets, Format::Table),
            "NAME         LEGS\na long name  4\nb            12\n"
        );
        let parsed: serde_json::Value =
            serde_json::from_str(&rows(&pets, Format::Json)).expect("JSON");
        assert_eq!(parsed[1]["legs"], 12);
        assert_eq!(rows::<Pet>(&[], Format::Table), "NAME  LEGS\n");
        assert_eq!(rows::<Pet>(&[], Format::Json), "[]\n");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(
            (short(1.0), short(0.1), short(2.345)),
            ("1".into(), "0.1".into(), "2.35".into())
        );
        assert_eq!(
            (mebibytes(128.0), mebibytes(24_576.0)),
            ("128M".into(), "24.0G".into())
        );
        assert_eq!(
            (ago(-5.0), ago(61.0), ago(600.0)),
            ("0s".into(), "61s".into(), "10m".into())
        );
        assert_eq!((ago(10_000.0), ago(1e6)), ("3h".into(), "12d".into()));
    }
}
