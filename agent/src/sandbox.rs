//! Reading what tasks leave in their sandboxes: files, and files that still grow.
//!
//! A sandbox belongs to the task's user, who may put anything there: links out of it, pipes, devices. So every name is
//! resolved below the sandbox by the kernel itself, and only regular files are read. `stdout` and `stderr` are turned
//! over by the executor; they are read as one file from the oldest part that is kept, and followed across turns.
//! Invariant: nothing here waits for a file by looking again and again; inotify says when there is more.

mod tail;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use mezzo_wire::link;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use tail::Tail;
pub use tail::{CHUNK_BYTES, ReadError};
use watch::Watches;

/// A read under way.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Stops it at once.
    pub cancelled: CancellationToken,
    /// The task writes no more: it ends with what is there.
    pub written: CancellationToken,
}

/// What is read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub request: u64,
    pub sandbox: PathBuf,
    pub path: String,
    pub offset: i64,
    pub length: Option<u64>,
    pub follow: bool,
}

/// Reads a file and sends it in chunks, the last of which says so, until it is cancelled or nobody takes them.
pub(crate) async fn read(
    wanted: Wanted,
    reading: Reading,
    watches: Arc<Watches>,
    chunks: mpsc::Sender<link::SandboxChunk>,
) {
    let request = wanted.request;
    let work = send_all(wanted, &reading, &watches, &chunks);
    let result = tokio::select! {
        () = reading.cancelled.cancelled() => return,
        result = work => result,
    };
    let last = link::SandboxChunk {
        request_id: Some(request),
        end: Some(true),
        error: result.err().map(|error| error.to_string()),
        ..Default::default()
    };
    // Nobody listens any more: then nobody misses it.
    let _ = chunks.send(last).await;
}

async fn send_all(
    wanted: Wanted,
    reading: &Reading,
    watches: &Watches,
    chunks: &mpsc::Sender<link::SandboxChunk>,
) -> Result<(), ReadError> {
    let request = wanted.request;
    let follow = wanted.follow && !reading.written.is_cancelled();
    let mut left = wanted.length.unwrap_or(u64::MAX);
    let mut tail =
        blocking(move || Tail::open(&wanted.sandbox, &wanted.path, wanted.offset, follow)).await?;
    // The watch is set before the first look, so that nothing is missed between a look and the wait.
    let watch = if follow {
        Some(watches.watch(&tail.parent()?)?)
    } else {
        None
    };
    loop {
        let over = !follow || reading.written.is_cancelled();
        loop {
            if left == 0 {
                return Ok(());
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let (back, read) = blocking(move || {
                let read = tail.next(most);
                Ok((tail, read))
            })
            .await?;
            tail = back;
            let Some((offset, data)) = read? else { break };
            left -= data.len() as u64;
            let chunk = link::SandboxChunk {
                request_id: Some(request),
                offset: Some(offset),
                data: Some(data.into()),
                ..Default::default()
            };
            if chunks.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        let Some(watch) = watch.as_ref().filter(|_| !over) else {
            return Ok(());
        };
        tokio::select! {
            () = watch.changed() => {}
            () = reading.written.cancelled() => {}
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(ReadError::Ended),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    struct Read {
        chunks: mpsc::Receiver<link::SandboxChunk>,
        reading: Reading,
        _watches: Arc<Watches>,
    }

    fn start(
        sandbox: &std::path::Path,
        path: &str,
        offset: i64,
        follow: bool,
        length: Option<u64>,
    ) -> Read {
        let (sender, chunks) = mpsc::channel(4);
        let reading = Reading {
            cancelled: CancellationToken::new(),
            written: CancellationToken::new(),
        };
        let watches = Arc::new(Watches::default());
        let wanted = Wanted {
            request: 7,
            sandbox: sandbox.to_owned(),
            path: path.to_owned(),
            offset,
            length,
            follow,
        };
        tokio::spawn(read(wanted, reading.clone(), watches.clone(), sender));
        Read {
            chunks,
            reading,
            _watches: watches,
        }
    }

    impl Read {
        async fn rest(&mut self) -> Result<Vec<u8>, String> {
            let mut all = Vec::new();
            while let Some(chunk) = self.chunks.recv().await {
                assert_eq!(chunk.request_id, Some(7));
                all.extend_from_slice(chunk.data.as_deref().unwrap_or_default());
                if chunk.end == Some(true) {
                    return chunk.error.map_or(Ok(all), Err);
                }
            }
            panic!("the last chunk says that it is");
        }

        async fn until(&mut self, text: &str) {
            let mut all = String::new();
            while all != text {
                let chunk = self.chunks.recv().await.expect("more");
                assert!(!chunk.end.unwrap_or(false), "{chunk:?} after {all}");
                all.push_str(&String::from_utf8_lossy(
                    chunk.data.as_deref().unwrap_or_default(),
                ));
            }
        }
    }

    async fn whole(sandbox: &std::path::Path, path: &str, offset: i64) -> Result<String, String> {
        let read = start(sandbox, path, offset, false, None).rest().await?;
        Ok(String::from_utf8(read).expect("text"))
    }

    #[tokio::test]
    async fn a_file_is_read_from_either_end() {
        let scratch = tempfile::tempdir().expect("a directory");
        let long: String = ('a'..='z').cycle().take(200_000).collect();
        fs::write(scratch.path().join("f"), &long).expect("writes");
        fs::create_dir(scratch.path().join("d")).expect("makes");
        fs::write(scratch.path().join("d/f"), "inner").expect("writes");
        assert_eq!(
            whole(scratch.path(), "f", 0).await.as_deref(),
            Ok(long.as_str())
        );
        assert_eq!(
            whole(scratch.path(), "f", 199_998).await.as_deref(),
            Ok(&long[199_998..])
        );
        assert_eq!(
            whole(scratch.path(), "f", -3).await.as_deref(),
            Ok(&long[199_997..])
        );
        assert_eq!(
            whole(scratch.path(), "f", -999_999).await.as_deref(),
            Ok(long.as_str())
        );
        assert_eq!(whole(scratch.path(), "f", 999_999).await.as_deref(), Ok(""));
        assert_eq!(whole(scratch.path(), "d/f", 1).await.as_deref(), Ok("nner"));
        let some = start(scratch.path(), "f", 0, false, Some(5)).rest().await;
        assert_eq!(some.as_deref(), Ok(b"abcde".as_slice()));
    }

    #[tokio::test]
    async fn what_leads_out_or_is_no_file_is_refused_in_words() {
        let scratch = tempfile::tempdir().expect("a directory");
        let sandbox = scratch.path().join("s");
        fs::create_dir(&sandbox).expect("makes");
        fs::write(scratch.path().join("secret"), "x").expect("writes");
        std::os::unix::fs::symlink("../secret", sandbox.join("out")).expect("links");
        std::os::unix::fs::symlink("/etc/passwd", sandbox.join("abs")).expect("links");
        std::os::unix::fs::symlink(scratch.path(), sandbox.join("up")).expect("links");
        nix::unistd::mkfifo(&sandbox.join("pipe"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
        for (path, words) in [
            ("../secret", "out of the sandbox"),
            ("/etc/passwd", "out of the sandbox"),
            ("out", "out of the sandbox"),
            ("abs", "out of the sandbox"),
            ("up/secret", "out of the sandbox"),
            ("nothing", "no file"),
            ("no/such/place", "no file"),
            ("pipe", "not a regular file"),
            (".", "not a regular file"),
            ("", "no file"),
            ("a\0b", "no file"),
        ] {
            let refused = whole(&sandbox, path, 0).await.expect_err(path);
            assert!(refused.contains(words), "{path}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_file_that_was_turned_over_is_read_as_one() {
        let scratch = tempfile::tempdir().expect("a directory");
        for (name, text) in [
            ("stdout.2", "one "),
            ("stdout.1", "two "),
            ("stdout", "three"),
            ("stdout.4", "lost"),
        ] {
            fs::write(scratch.path().join(name), text).expect("writes");
        }
        assert_eq!(
            whole(scratch.path(), "stdout", 0).await.as_deref(),
            Ok("one two three")
        );
        assert_eq!(
            whole(scratch.path(), "stdout", -7).await.as_deref(),
            Ok("o three")
        );
        fs::write(scratch.path().join("data"), "a").expect("writes");
        fs::write(scratch.path().join("data.1"), "b").expect("writes");
        assert_eq!(
            whole(scratch.path(), "data", 0).await.as_deref(),
            Ok("a"),
            "only logs are turned over"
        );
    }

    #[tokio::test]
    async fn a_file_that_grows_is_followed_across_turns_until_its_task_has_ended() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("stdout");
        let mut follow = start(scratch.path(), "stdout", 0, true, None);
        let mut file = fs::File::create(&path).expect("creates");
        file.write_all(b"one ").expect("writes");
        follow.until("one ").await;
        file.write_all(b"two ").expect("writes");
        fs::rename(&path, scratch.path().join("stdout.1")).expect("turns over");
        fs::write(&path, "three ").expect("writes");
        follow.until("two three ").await;
        // Two turns at once: what lies between is not lost.
        fs::rename(
            scratch.path().join("stdout.1"),
            scratch.path().join("stdout.2"),
        )
        .expect("turns over");
        fs::rename(&path, scratch.path().join("stdout.1")).expect("turns over");
        fs::write(&path, "four ").expect("writes");
        fs::rename(
            scratch.path().join("stdout.2"),
            scratch.path().join("stdout.3"),
        )
        .expect("turns over");
        fs::rename(
            scratch.path().join("stdout.1"),
            scratch.path().join("stdout.2"),
        )
        .expect("turns over");
        fs::rename(&path, scratch.path().join("stdout.1")).expect("turns over");
        fs::write(&path, "five").expect("writes");
        follow.until("four five").await;
        follow.reading.written.cancel();
        assert_eq!(follow.rest().await.as_deref(), Ok(b"".as_slice()));
    }

    #[tokio::test]
    async fn a_read_that_is_cancelled_says_no_more() {
        let scratch = tempfile::tempdir().expect("a directory");
        let mut follow = start(scratch.path(), "stdout", 0, true, None);
        follow.reading.cancelled.cancel();
        assert!(follow.chunks.recv().await.is_none());
    }
}
