//! The threads of the log: one writes, one flushes, and for a while one makes a snapshot.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Append, LogEvent, OnEvent, codec, frame, recover};

/// Appends that are written together at most.
const BATCH_MAX: usize = 1_024;

/// How long the log waits before it tries again to write to a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(500);

/// Work for the flushing thread, in order.
enum Flush {
    /// Everything up to `end` of the current file is to be flushed; these appends wait for it.
    Up { ids: Vec<u64>, end: u64 },
    /// The current file is finished: flush it and go on with this one.
    Switch(Arc<File>, Arc<AtomicU64>),
}

struct Shared {
    on_event: OnEvent,
    /// Nothing may be promised any more.
    failed: AtomicBool,
}

impl Shared {
    fn tell(&self, event: LogEvent) {
        (self.on_event)(event);
    }

    fn fail(&self, words: String) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            self.tell(LogEvent::Failed { words });
        }
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }
}

struct Writer {
    directory: PathBuf,
    generation: u64,
    file: Arc<File>,
    /// How much of the current file is written, and how much of that is flushed.
    written: u64,
    flushed: Arc<AtomicU64>,
    rotate_bytes: u64,
    shared: Arc<Shared>,
    flushes: mpsc::Sender<Flush>,
    compaction: Option<JoinHandle<()>>,
}

/// Makes an empty log file with its header. The header is written and not flushed.
pub(super) fn new_log(directory: &Path, generation: u64) -> io::Result<File> {
    let mut file = recover::create(&recover::log_path(directory, generation))?;
    file.write_all(&frame::header())?;
    recover::sync_directory(directory)?;
    Ok(file)
}

/// Starts the threads; the one that is returned ends when the channel closes and all is written.
pub(super) fn start(
    directory: &Path,
    generation: u64,
    file: File,
    rotate_bytes: u64,
    requests: mpsc::Receiver<Append>,
    on_event: OnEvent,
) -> io::Result<JoinHandle<()>> {
    let shared = Arc::new(Shared {
        on_event,
        failed: AtomicBool::new(false),
    });
    let file = Arc::new(file);
    let flushed = Arc::new(AtomicU64::new(0));
    let (flushes, flush_receiver) = mpsc::channel();
    let flusher = {
        let (shared, file, flushed) = (shared.clone(), file.clone(), flushed.clone());
        thread::Builder::new()
            .name("log-flush".to_owned())
            .spawn(move || run_flusher(&shared, file, flushed, &flush_receiver))?
    };
    let mut writer = Writer {
        directory: directory.to_owned(),
        generation,
        file,
        written: frame::HEADER_BYTES as u64,
        flushed,
        rotate_bytes,
        shared,
        flushes,
        compaction: None,
    };
    thread::Builder::new()
        .name("log-write".to_owned())
        .spawn(move || {
            while let Ok(first) = requests.recv() {
                let mut batch = vec![first];
                while batch.len() < BATCH_MAX
                    && let Ok(next) = requests.try_recv()
                {
                    batch.push(next);
                }
                writer.write(&batch);
            }
            let Writer {
                flushes,
                compaction,
                ..
            } = writer;
            drop(flushes);
            let _ = flusher.join();
            if let Some(compaction) = compaction {
                let _ = compaction.join();
            }
        })
}

impl Writer {
    fn write(&mut self, batch: &[Append]) {
        if self.shared.has_failed() {
            return;
        }
        let mut buffer = Vec::new();
        let flushed = self.flushed.load(Ordering::Acquire);
        for record in batch.iter().flat_map(|append| &append.records) {
            frame::push(&mut buffer, flushed, |payload| {
                codec::encode(record, payload)
            });
        }
        if let Err(error) = self.write_all(&buffer) {
            let words = format!("the agent's log cannot be written: {error}");
            return self.shared.fail(words);
        }
        self.written += buffer.len() as u64;
        for append in batch.iter().filter(|append| !append.flush) {
            self.shared.tell(LogEvent::Logged { id: append.id });
        }
        let ids: Vec<u64> = batch
            .iter()
            .filter(|append| append.flush)
            .map(|append| append.id)
            .collect();
        if !ids.is_empty() {
            // The flusher lives as long as this sender.
            let _ = self.flushes.send(Flush::Up {
                ids,
                end: self.written,
            });
        }
        if self.written > self.rotate_bytes {
            self.rotate();
        }
    }

    /// Writes everything. A full disk is waited out: what was written in part is taken back first, so that no reader
    /// finds half a frame before whole ones.
    fn write_all(&self, buffer: &[u8]) -> io::Result<()> {
        let mut stalled = false;
        loop {
            match (&*self.file).write_all(buffer) {
                Ok(()) => break,
                Err(error) if is_full(&error) => {
                    self.take_back()?;
                    if !stalled {
                        stalled = true;
                        self.shared.tell(LogEvent::Stalled {
                            words: format!(
                                "the disk under {} is full ({error}); no task is started before there is room",
                                self.directory.display()
                            ),
                        });
                    }
                    thread::sleep(FULL_DISK_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        if stalled {
            self.shared.tell(LogEvent::Resumed);
        }
        Ok(())
    }

    fn take_back(&self) -> io::Result<()> {
        use std::io::{Seek, SeekFrom};
        self.file.set_len(self.written)?;
        (&*self.file).seek(SeekFrom::Start(self.written))?;
        Ok(())
    }

    /// Begins the next log and has a snapshot made of what came before, unless the last one is still being made. What
    /// came before is flushed first: a reader may rely on every log but the newest being whole. That the next one
    /// cannot be made is no failure of this one, which goes on.
    fn rotate(&mut self) {
        if let Some(compaction) = &self.compaction {
            if !compaction.is_finished() {
                return;
            }
            self.compaction = None;
        }
        if let Err(error) = self.file.sync_data() {
            let words = format!("the agent's log cannot be flushed: {error}");
            return self.shared.fail(words);
        }
        let next = self.generation + 1;
        let Ok(file) = new_log(&self.directory, next) else {
            // Tried again when this one is longer by as much again.
            self.rotate_bytes += self.written;
            return;
        };
        let (file, flushed) = (Arc::new(file), Arc::new(AtomicU64::new(0)));
        let _ = self
            .flushes
            .send(Flush::Switch(file.clone(), flushed.clone()));
        self.file = file;
        self.flushed = flushed;
        self.written = frame::HEADER_BYTES as u64;
        self.generation = next;
        let directory = self.directory.clone();
        let spawned = thread::Builder::new()
            .name("log-compact".to_owned())
            .spawn(move || compact(&directory, next));
        self.compaction = spawned.ok();
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Makes the snapshot of `next` from everything before it, which is flushed. Runs while the log goes on.
fn compact(directory: &Path, next: u64) {
    let made = recover::recover_before(directory, next)
        .and_then(|ledger| recover::write_snapshot(directory, next, &ledger));
    if made.is_ok() {
        recover::remove_before(directory, next);
    }
    // Without a snapshot the logs stay; the next rotation, or the next start, makes one.
}

fn run_flusher(
    shared: &Shared,
    mut file: Arc<File>,
    mut flushed: Arc<AtomicU64>,
    requests: &mpsc::Receiver<Flush>,
) {
    let mut next = requests.recv().ok();
    while let Some(request) = next.take() {
        let (mut waiting, mut end, mut switch) = (Vec::new(), 0, None);
        let mut current = Some(request);
        while let Some(request) = current.take() {
            match request {
                Flush::Up { ids, end: up } => {
                    waiting.extend(ids);
                    end = up;
                    current = requests.try_recv().ok();
                }
                Flush::Switch(file, flushed) => switch = Some((file, flushed)),
            }
        }
        if let Err(error) = file.sync_data() {
            // After a failed flush nobody knows what is on the disk; trying again would prove nothing.
            return shared.fail(format!("the agent's log cannot be flushed: {error}"));
        }
        flushed.fetch_max(end, Ordering::Release);
        for id in waiting {
            shared.tell(LogEvent::Logged { id });
        }
        if let Some((new_file, new_flushed)) = switch {
            (file, flushed) = (new_file, new_flushed);
        }
        next = requests.recv().ok();
    }
}
