//! What the payloads themselves wrote down: the witness that Mezzo cannot influence.
//!
//! Each payload appends one line when it starts and, if it ends by itself, one when it ends. Lines are short, so that
//! an `O_APPEND` write of one is never torn by another's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The file that payloads append to.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `start` or `end`.
    pub what: String,
    /// The task's id.
    pub task: String,
    /// The kernel's boot id at that time.
    pub boot: String,
    /// The payload's pid, in its own pid namespace.
    pub pid: u32,
    /// Nanoseconds since the Unix epoch.
    pub at_ns: u128,
}

impl Ledger {
    /// An empty ledger that payloads of any user may append to.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("ledger");
        fs::write(&path, "").context("the ledger")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        Ok(Self { path })
    }

    /// A shell command that notes its start and then runs until it is killed.
    pub fn service_command(&self) -> String {
        format!("{}; exec sleep 1000000", self.note("start"))
    }

    /// A shell command that notes its start, works for so many seconds, and notes its end.
    pub fn job_command(&self, seconds: f64) -> String {
        format!(
            "{}; sleep {seconds}; {}",
            self.note("start"),
            self.note("end")
        )
    }

    fn note(&self, what: &str) -> String {
        format!(
            "echo {what} $MESOS_TASK_ID $(cat /proc/sys/kernel/random/boot_id) $$ $(date +%s%N) >> {}",
            self.path.display()
        )
    }

    /// All lines so far.
    ///
    /// # Errors
    /// If a line is not of the form that payloads write.
    pub fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let text = fs::read_to_string(&self.path)?;
        text.lines()
            .map(|line| parse(line).with_context(|| format!("ledger line {line:?}")))
            .collect()
    }

    /// The starts whose task id satisfies `which`.
    ///
    /// # Errors
    /// As [`Ledger::entries`].
    pub fn starts(&self, which: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Entry>> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.what == "start" && which(&entry.task));
        Ok(entries)
    }

    /// The promise that matters most: no task id was ever started twice.
    ///
    /// # Errors
    /// Names the first task that was.
    pub fn check_started_once(&self) -> anyhow::Result<()> {
        let mut tasks: Vec<String> = self
            .starts(|_| true)?
            .into_iter()
            .map(|entry| entry.task)
            .collect();
        tasks.sort();
        match tasks.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => anyhow::bail!("task {} was started twice", pair[0]),
            None => Ok(()),
        }
    }
}

fn parse(line: &str) -> anyhow::Result<Entry> {
    let [what, task, boot, pid, at] = line.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("five words are expected");
    };
    Ok(Entry {
        what: what.to_owned(),
        task: task.to_owned(),
        boot: boot.to_owned(),
        pid: pid.parse()?,
        at_ns: at.parse()?,
    })
}
