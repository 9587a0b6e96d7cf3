//! Logs in directories that play along, and in some that do not.

use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

fn log(dir: &Path, file_bytes_max: u64, old_files_max: u32) -> LogFile {
    let directory = File::open(dir).unwrap().into();
    let limits = OutputLimits {
        file_bytes_max,
        old_files_max,
    };
    LogFile::create(directory, "stdout", limits).unwrap()
}

fn read(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}

#[test]
fn a_full_file_is_turned_over_at_a_line_end_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(dir.path(), 10, 2);
    for line in [
        "one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "seven\n",
    ] {
        log.write(line.as_bytes());
    }
    let read = |name| read(dir.path(), name);
    assert_eq!(read("stdout").as_deref(), Some("six\nseven\n"));
    assert_eq!(read("stdout.1").as_deref(), Some("four\nfive\n"));
    assert_eq!(read("stdout.2").as_deref(), Some("three\n"));
    assert_eq!(read("stdout.3"), None);
}

#[test]
fn one_write_may_fill_many_files_and_a_long_line_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(dir.path(), 4, 2);
    log.write(b"0123456789ab\ncd\n");
    let read = |name| read(dir.path(), name).unwrap();
    let all = ["stdout.2", "stdout.1", "stdout"].map(read).concat();
    assert_eq!(all, "456789ab\ncd\n");
}

#[test]
fn without_old_files_or_without_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut none = log(dir.path(), 5, 0);
    none.write(b"abcd\nefgh\n");
    assert_eq!(read(dir.path(), "stdout").as_deref(), Some("efgh\n"));
    assert_eq!(read(dir.path(), "stdout.1"), None);
    let other = tempfile::tempdir().unwrap();
    let mut endless = log(other.path(), 0, 2);
    endless.write(&[b'x'; 100_000]);
    assert_eq!(
        fs::metadata(other.path().join("stdout")).unwrap().len(),
        100_000
    );
}

#[test]
fn links_and_directories_in_the_way_are_never_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let secret = tempfile::tempdir().unwrap();
    let target = secret.path().join("shadow");
    fs::write(&target, "root").unwrap();
    symlink(&target, dir.path().join("stdout")).unwrap();
    let mut log = log(dir.path(), 4, 1);
    log.write(b"one\n");
    assert_eq!(read(dir.path(), "stdout").as_deref(), Some("one\n"));
    // The payload puts a directory with something in it, and a link, where the next files go.
    fs::remove_file(dir.path().join("stdout")).unwrap();
    symlink(&target, dir.path().join("stdout")).unwrap();
    fs::remove_file(dir.path().join("stdout.1")).unwrap();
    fs::create_dir_all(dir.path().join("stdout.1/full")).unwrap();
    log.write(b"two\n");
    log.write(b"six\n");
    assert_eq!(read(dir.path(), "stdout").as_deref(), Some("six\n"));
    assert_eq!(fs::read_to_string(&target).unwrap(), "root");
}

#[test]
fn blocked_names_do_not_grow_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(dir.path(), 4, 1);
    // With its directory gone no new file can be made; the one that is open keeps its bound.
    log.write(b"one\n");
    fs::remove_dir_all(dir.path()).unwrap();
    for _ in 0..10 {
        log.write(b"two\n");
    }
}

#[test]
fn a_pipe_is_taken_in_bounded_turns_and_drained_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = Output::open(dir.path(), OutputLimits::default(), None).unwrap();
    let mut payload: File = output.stdout.writer().try_clone_to_owned().unwrap().into();
    payload.write_all(b"hello\n").unwrap();
    output.stdout.on_ready();
    output.stdout.on_ready();
    assert_eq!(read(dir.path(), "stdout").as_deref(), Some("hello\n"));
    payload.write_all(b"bye\n").unwrap();
    drop(payload);
    output.drain();
    assert_eq!(read(dir.path(), "stdout").as_deref(), Some("hello\nbye\n"));
    assert_eq!(read(dir.path(), "stderr").as_deref(), Some(""));
}

#[test]
fn what_was_dropped_is_noted_once_there_is_space_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(dir.path(), 0, 0);
    log.write(b"before\n");
    // A device that is always full stands for the disk.
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let kept = log.replace_file(full);
    log.write(b"lost\n");
    log.write(b"lost as well\n");
    log.replace_file(kept);
    log.write(b"after\n");
    assert_eq!(
        read(dir.path(), "stdout").unwrap(),
        "before\n\n[mezzo: 18 bytes of output were dropped here: No space left on device (os error 28)]\nafter\n"
    );
    log.write(b"and on\n");
    assert!(
        read(dir.path(), "stdout")
            .unwrap()
            .ends_with("]\nafter\nand on\n"),
        "noted once"
    );
}
