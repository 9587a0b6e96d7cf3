//! `mezzo logs`: what a task writes.

use std::io::{self, Write};

use futures_util::future::try_join;
use mezzo_wire::link::{ReadSandbox, SandboxChunk};
use mezzo_wire::v1;
use serde_json::json;
use tonic::Streaming;

use super::answer;
use crate::client::master::{Master, refused};
use crate::cluster::{self, Task};
use crate::endpoints::Where;
use crate::failure::Failure;
use crate::output::Format;

/// How many bytes before the end of a file are searched for its last lines, for each line asked for.
const BYTES_PER_LINE: i64 = 1024;

/// The most bytes that are searched for last lines.
const TAIL_MAX_BYTES: i64 = 16 * 1024 * 1024;

/// How many tasks are named that a word may mean.
const AMONG: usize = 5;

/// Flags of `mezzo logs`.
#[derive(Clone, Debug, clap::Args)]
pub struct LogsFlags {
    /// The task: its id, a part of it, or the name of its app, job or run; of several, the newest.
    pub task: String,

    /// Go on with what the task writes, until it has ended.
    #[arg(long, short)]
    pub follow: bool,

    /// Only the last lines.
    #[arg(long, short = 'n', value_name = "LINES")]
    pub tail: Option<u32>,

    /// Another file of the sandbox instead of stdout and stderr.
    #[arg(long, value_name = "PATH")]
    pub file: Option<String>,

    /// Where the cluster is.
    #[command(flatten)]
    pub place: Where,
}

/// Shows what a task writes: its standard output and error, each to our own.
///
/// # Errors
/// If there is no such task, or its agent cannot be reached.
pub async fn run(flags: LogsFlags) -> Result<(), Failure> {
    let mut master = Master::connect(&flags.place.endpoints()?).await?;
    let tasks = cluster::tasks(&master.tasks().await?);
    let task = pick(&tasks, &flags.task)?;
    if let Some(file) = &flags.file {
        return copy(&mut master, task, file, &flags, Side::Out).await;
    }
    let mut other = master.clone();
    let out = copy(&mut master, task, "stdout", &flags, Side::Out);
    let err = copy(&mut other, task, "stderr", &flags, Side::Err);
    try_join(out, err).await.map(|_| ())
}

/// The task that a word means: the one with that id, else the newest of those whose id or name contains it, live ones
/// first.
fn pick<'a>(tasks: &'a [Task], word: &str) -> Result<&'a Task, Failure> {
    let none = || Failure::NoTask {
        name: word.to_owned(),
    };
    if word.is_empty() {
        return Err(none());
    }
    if let Some(task) = tasks.iter().find(|task| task.id == word) {
        return Ok(task);
    }
    // `/web/front` is the app whose tasks are called `web_front.instance-...`.
    let path = word.trim_start_matches('/').replace(['/', '.'], "_");
    let named: Vec<&Task> = tasks
        .iter()
        .filter(|task| {
            task.name == word
                || task.id.contains(word)
                || (!path.is_empty() && task.id.starts_with(&path))
        })
        .collect();
    let newest = |ended: bool| named.iter().rfind(|task| task.ended == ended).copied();
    let live: Vec<&&Task> = named.iter().filter(|task| !task.ended).collect();
    let mut names: Vec<&str> = live.iter().map(|task| task.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > 1 {
        let among = live
            .iter()
            .take(AMONG)
            .map(|task| task.id.clone())
            .collect();
        return Err(Failure::Ambiguous {
            name: word.to_owned(),
            among,
        });
    }
    newest(false).or_else(|| newest(true)).ok_or_else(none)
}

#[derive(Clone, Copy)]
enum Side {
    Out,
    Err,
}

async fn copy(
    master: &mut Master,
    task: &Task,
    file: &str,
    flags: &LogsFlags,
    side: Side,
) -> Result<(), Failure> {
    let mut read = ReadSandbox {
        request_id: None,
        framework_id: Some(v1::FrameworkId {
            value: task.framework_id.clone(),
        }),
        task_id: v1::TaskId {
            value: task.id.clone(),
        },
        path: file.to_owned(),
        offset: None,
        follow: Some(flags.follow),
        length: None,
    };
    let format = flags.place.output;
    if let Some(lines) = flags.tail {
        // First the end of what is there, then, if wanted, what comes after it.
        let bytes = (i64::from(lines) * BYTES_PER_LINE).clamp(1, TAIL_MAX_BYTES);
        let mut tail = Tail::new(lines as usize);
        let mut reached = 0;
        let there = ReadSandbox {
            offset: Some(-bytes),
            follow: Some(false),
            ..read.clone()
        };
        let chunks = master.read(there).await?;
        each(chunks, master.address(), |chunk| {
            let data = chunk.data.unwrap_or_default();
            reached = chunk.offset.unwrap_or(reached) + data.len() as u64;
            tail.add(&data);
            Ok(())
        })
        .await?;
        write(&tail.into_bytes(), file, format, side)?;
        if !flags.follow {
            return Ok(());
        }
        read.offset = i64::try_from(reached).ok();
    }
    let chunks = master.read(read).await?;
    each(chunks, master.address(), |chunk| {
        write(&chunk.data.unwrap_or_default(), file, format, side)
    })
    .await
}

/// Hands each piece over, until the last one.
async fn each(
    mut chunks: Streaming<SandboxChunk>,
    address: &str,
    mut take: impl FnMut(SandboxChunk) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while let Some(chunk) = chunks
        .message()
        .await
        .map_err(|status| refused(&status, address))?
    {
        if let Some(words) = chunk.error {
            return Err(Failure::Refused {
                who: "agent",
                status: http::StatusCode::NOT_FOUND,
                words,
            });
        }
        let last = chunk.end == Some(true);
        take(chunk)?;
        if last {
            break;
        }
    }
    Ok(())
}

fn write(bytes: &[u8], file: &str, format: Format, side: Side) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Ok(());
    }
    if format == Format::Json {
        let line = json!({"file": file, "data": String::from_utf8_lossy(bytes)});
        return answer(&format!("{line}\n"));
    }
    let written = match side {
        Side::Out => raw(&mut io::stdout().lock(), bytes),
        Side::Err => raw(&mut io::stderr().lock(), bytes),
    };
    written.map_err(|source| Failure::Machine {
        what: "writing the log".to_owned(),
        source,
    })
}

fn raw(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// The last lines of what goes by.
#[derive(Debug)]
struct Tail {
    lines: usize,
    bytes: Vec<u8>,
}

impl Tail {
    fn new(lines: usize) -> Self {
        Self {
            lines,
            bytes: Vec::new(),
        }
    }

    fn add(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    fn into_bytes(self) -> Vec<u8> {
        if self.lines == 0 {
            return Vec::new();
        }
        let mut body = self.bytes.len();
        if self.bytes.last() == Some(&b'\n') {
            body -= 1;
        }
        let breaks = self.bytes[..body]
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n');
        let from = breaks
            .map(|(index, _)| index + 1)
            .nth(self.lines - 1)
            .unwrap_or(0);
        self.bytes[from..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, name: &str, ended: bool) -> Task {
        let state = crate::cluster::tests::task(id, v1::TaskState::TaskRunning, "");
        let tasks = v1::master::response::GetTasks {
            tasks: vec![state],
            ..Default::default()
        };
        let row = cluster::tasks(&tasks).remove(0);
        Task {
            name: name.to_owned(),
            ended,
            ..row
        }
    }

    #[test]
    fn a_word_means_the_newest_task_of_one_name() {
        let tasks = [
            task("web_front.instance-1._app.1", "front.web", false),
            task("web_front.instance-2._app.1", "front.web", false),
            task("sum_20260101000000AbCdE.instance-3._app.1", "sum", false),
            task("old.instance-4._app.1", "old", true),
        ];
        let id = |word: &str| pick(&tasks, word).map(|task| task.id.clone());
        assert_eq!(
            id("/web/front").expect("the app"),
            "web_front.instance-2._app.1"
        );
        assert_eq!(
            id("web_front.instance-1._app.1").expect("the id"),
            "web_front.instance-1._app.1"
        );
        assert!(
            id("20260101000000AbCdE")
                .expect("the run")
                .starts_with("sum_")
        );
        assert!(id("old").expect("ended").starts_with("old"));
        assert!(matches!(id("none"), Err(Failure::NoTask { .. })));
        assert!(matches!(id(""), Err(Failure::NoTask { .. })));
        assert!(
            matches!(id("instance"), Err(Failure::Ambiguous { among, .. }) if among.len() == 3)
        );
    }

    #[test]
    fn a_tail_has_the_last_lines() {
        let last = |text: &str, lines| {
            let mut tail = Tail::new(lines);
            for piece in text.as_bytes().chunks(3) {
                tail.add(piece);
            }
            String::from_utf8(tail.into_bytes()).expect("text")
        };
        assert_eq!(last("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last("a\nb\nc", 2), "b\nc");
        assert_eq!(last("a\n", 5), "a\n");
        assert_eq!(last("a\nb\n", 0), "");
        assert_eq!(last("", 3), "");
    }
}
