//! What `mezzo local` shows: lines that say what changed, or a screen that is redrawn in place.
//!
//! Invariant: pure; what was seen is handed in, what is to be written comes out.

use std::collections::BTreeMap;

use crate::cluster::{Amounts, Cluster};
use crate::output::{mebibytes, short, table};

/// How many tasks are shown on a screen.
const TASKS_SHOWN: usize = 15;

/// How long an id may be on a screen, in characters; of a longer one the middle is left out.
const ID_WIDTH: usize = 44;

/// What was seen at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The apps.
    pub apps: Vec<App>,
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The tasks: id, state without `TASK_`, host; live ones first.
    pub tasks: Vec<(String, String, String)>,
    /// How many agents are active.
    pub agents: usize,
    /// What they have.
    pub total: Amounts,
    /// What tasks have of it.
    pub used: Amounts,
    /// What did not answer.
    pub away: Vec<String>,
}

/// An app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Its id.
    pub id: String,
    /// How many instances are wanted.
    pub wanted: u64,
    /// How many run.
    pub running: u64,
    /// How many are healthy.
    pub healthy: u64,
    /// Whether it has health checks.
    pub checked: bool,
    /// Where its instances are.
    pub urls: Vec<String>,
}

/// A job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// How many runs are active.
    pub active: usize,
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// The runs that are known, oldest first.
    pub runs: Vec<Run>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: String,
}

impl Snapshot {
    /// Takes in what the master said.
    pub fn see(&mut self, cluster: &Cluster) {
        self.agents = cluster
            .agents
            .iter()
            .filter(|agent| agent.state == "active")
            .count();
        (self.total, self.used) = cluster.amounts();
        let line = |task: &crate::cluster::Task| {
            let state = task.state.trim_start_matches("TASK_").to_ascii_lowercase();
            (task.id.clone(), state, task.hostname.clone())
        };
        let (live, ended): (Vec<_>, Vec<_>) = cluster.tasks.iter().partition(|task| !task.ended);
        // Of those that have ended the newest is the most interesting.
        self.tasks = live
            .into_iter()
            .chain(ended.into_iter().rev())
            .map(line)
            .collect();
    }
}

impl App {
    fn words(&self) -> String {
        let mut words = format!("{} of {} running", self.running, self.wanted);
        if self.checked {
            words.push_str(&format!(", {} healthy", self.healthy));
        }
        words
    }
}

/// What changed between two moments, line by line.
pub fn changes(before: &Snapshot, now: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for app in &now.apps {
        let old = before.apps.iter().find(|old| old.id == app.id);
        if old == Some(app) {
            continue;
        }
        let at = if app.urls.is_empty() {
            String::new()
        } else {
            format!(" at {}", app.urls.join(" "))
        };
        lines.push(format!("{}: {}{at}", app.id, app.words()));
    }
    for old in &before.apps {
        if now.away.is_empty() && !now.apps.iter().any(|app| app.id == old.id) {
            lines.push(format!("{}: gone", old.id));
        }
    }
    for job in &now.jobs {
        let known: BTreeMap<&str, &str> = before
            .jobs
            .iter()
            .filter(|old| old.id == job.id)
            .flat_map(|old| &old.runs)
            .map(|run| (run.id.as_str(), run.status.as_str()))
            .collect();
        for run in &job.runs {
            if known.get(run.id.as_str()) != Some(&run.status.as_str()) {
                lines.push(format!("{}: run {}: {}", job.id, run.id, run.status));
            }
        }
    }
    for away in &now.away {
        if !before.away.contains(away) {
            lines.push(away.clone());
        }
    }
    lines
}

/// A part of the terminal that is drawn again and again.
#[derive(Debug)]
pub struct Screen {
    head: Vec<String>,
    drawn: usize,
    last: Vec<String>,
}

impl Screen {
    /// A screen with these lines on top; they stand there already, so that they are shown once.
    pub fn new(head: &[String]) -> Self {
        Self {
            head: head.to_vec(),
            drawn: 0,
            last: Vec::new(),
        }
    }

    /// What to write so that the terminal of so many columns and rows shows this; nothing if it does already.
    pub fn draw(&mut self, now: &Snapshot, (columns, rows): (usize, usize)) -> String {
        // Room for the lines above, and for the cursor.
        let room = rows.saturating_sub(1).max(5);
        let mut lines: Vec<String> = lines_of(now)
            .into_iter()
            .map(|line| cut(&line, columns))
            .collect();
        if lines.len() > room {
            lines.truncate(room - 1);
            lines.push(cut("...", columns));
        }
        if lines == self.last && self.drawn > 0 {
            return String::new();
        }
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to the first line of what was drawn, and clear from there on.
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        } else if self.head.is_empty() {
            text.push('\n');
        }
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        self.last = lines;
        text
    }
}

fn lines_of(now: &Snapshot) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.push(format!(
        "{} agents, {} of {} cpus, {} of {} memory used",
        now.agents,
        short(now.used.cpus),
        short(now.total.cpus),
        mebibytes(now.used.mem),
        mebibytes(now.total.mem)
    ));
    lines.extend(now.away.iter().cloned());
    let mut add = |titles: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            lines.push(String::new());
            lines.extend(table(titles, rows).lines().map(str::to_owned));
        }
    };
    let apps = now
        .apps
        .iter()
        .map(|app| vec![app.id.clone(), app.words(), app.urls.join(" ")]);
    add(&["APP", "INSTANCES", "WHERE"], apps.collect());
    let jobs = now.jobs.iter().map(|job| {
        let last = job
            .runs
            .last()
            .map_or_else(String::new, |run| format!("{} {}", run.id, run.status));
        let counts = format!(
            "{} active, {} succeeded, {} failed",
            job.active, job.succeeded, job.failed
        );
        vec![job.id.clone(), counts, last]
    });
    add(&["JOB", "RUNS", "LAST"], jobs.collect());
    let tasks = now.tasks.iter().take(TASKS_SHOWN);
    let tasks =
        tasks.map(|(id, state, host)| vec![middle(id, ID_WIDTH), state.clone(), host.clone()]);
    add(&["TASK", "STATE", "HOST"], tasks.collect());
    if now.tasks.len() > TASKS_SHOWN {
        lines.push(format!(
            "and {} more: `mezzo tasks --all`",
            now.tasks.len() - TASKS_SHOWN
        ));
    }
    lines
}

/// A text of at most so many characters, without its middle if it is longer.
fn middle(text: &str, width: usize) -> String {
    let signs: Vec<char> = text.chars().collect();
    if signs.len() <= width {
        return text.to_owned();
    }
    let keep = width.saturating_sub(3);
    let (first, last) = (keep.div_ceil(2), keep / 2);
    let mut short: String = signs[..first].iter().collect();
    short.push_str("...");
    short.extend(&signs[signs.len() - last..]);
    short
}

/// A line that does not wrap, and that cannot move the cursor: ids and hosts come from outside.
fn cut(line: &str, columns: usize) -> String {
    line.chars()
        .filter(|sign| !sign.is_control())
        .take(columns)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(running: u64, healthy: u64) -> App {
        App {
            id: "/hello".to_owned(),
            wanted: 1,
            running,
            healthy,
            checked: true,
            urls: if running > 0 {
                vec!["http://127.0.0.1:31000".to_owned()]
            } else {
                Vec::new()
            },
        }
    }

    fn job(status: &str) -> Job {
        let run = Run {
            id: "20260101".to_owned(),
            status: status.to_owned(),
        };
        Job {
            id: "sum".to_owned(),
            active: 1,
            succeeded: 0,
            failed: 0,
            runs: vec![run],
        }
    }

    #[test]
    fn only_changes_are_told() {
        let none = Snapshot::default();
        let first = Snapshot {
            apps: vec![app(0, 0)],
            jobs: vec![job("STARTING")],
            ..none.clone()
        };
        let expected = [
            "/hello: 0 of 1 running, 0 healthy",
            "sum: run 20260101: STARTING",
        ];
        assert_eq!(changes(&none, &first), expected);
        assert!(changes(&first, &first).is_empty());
        let second = Snapshot {
            apps: vec![app(1, 1)],
            jobs: vec![job("SUCCESS")],
            ..none.clone()
        };
        let expected = [
            "/hello: 1 of 1 running, 1 healthy at http://127.0.0.1:31000",
            "sum: run 20260101: SUCCESS",
        ];
        assert_eq!(changes(&first, &second), expected);
        let away = Snapshot {
            away: vec!["the service framework does not answer".to_owned()],
            ..second.clone()
        };
        assert_eq!(
            changes(&second, &away),
            ["the service framework does not answer"]
        );
        assert_eq!(changes(&second, &none), ["/hello: gone"]);
    }

    #[test]
    fn a_screen_is_redrawn_in_place_and_fits() {
        let tasks: Vec<_> = (0..40)
            .map(|n| (format!("t-{n}"), "running".to_owned(), "h".to_owned()))
            .collect();
        let now = Snapshot {
            apps: vec![app(1, 1)],
            jobs: vec![job("ACTIVE")],
            tasks,
            agents: 1,
            ..Snapshot::default()
        };
        let mut screen = Screen::new(&["master".to_owned()]);
        let first = screen.draw(&now, (80, 60));
        assert!(
            first.contains("/hello  1 of 1 running, 1 healthy  http://127.0.0.1:31000"),
            "{first}"
        );
        assert!(
            first.contains("t-14") && !first.contains("t-15") && first.contains("and 25 more"),
            "{first}"
        );
        assert!(!first.contains('\x1b'));
        assert_eq!(screen.draw(&now, (80, 60)), "", "nothing changed");
        let changed = Snapshot {
            apps: vec![app(0, 0)],
            ..now.clone()
        };
        let again = screen.draw(&changed, (80, 60));
        assert!(
            again.starts_with(&format!("\x1b[{}A\x1b[J", first.lines().count())),
            "{again:?}"
        );
        let mut small = Screen::new(&[]);
        let drawn = small.draw(&now, (20, 8));
        assert!(
            drawn.lines().all(|line| line.chars().count() <= 20) && drawn.lines().count() <= 8,
            "{drawn}"
        );
        assert!(drawn.ends_with("...\n"));
    }

    #[test]
    fn what_comes_from_outside_cannot_move_the_cursor() {
        assert_eq!(cut("a\x1b[2Jb\rc", 10), "a[2Jbc");
        assert_eq!(middle("0123456789", 7), "01...89");
        assert_eq!(middle("short", 7), "short");
    }
}
