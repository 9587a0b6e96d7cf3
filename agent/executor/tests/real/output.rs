//! Output that is kept, turned over, or dropped; never waited for.

use mezzo_executor::plan::OutputLimits;
use mezzo_model::TaskState;

use super::bed::{Bed, state, task};

#[test]
fn output_is_kept_within_its_bound_and_the_newest_is_kept() {
    let mut bed = Bed::shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
    bed.plan.output = OutputLimits {
        file_bytes_max: 10_000,
        old_files_max: 2,
    };
    assert_eq!(state(&bed.run(task())), TaskState::Finished);
    let files = ["stdout.2", "stdout.1", "stdout"].map(|name| bed.read(name));
    for file in &files {
        assert!(
            file.len() <= 10_000 && !file.is_empty(),
            "{} bytes",
            file.len()
        );
    }
    let all = files.concat();
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.last(), Some(&"line 19999"));
    let first: usize = lines[0].strip_prefix("line ").unwrap().parse().unwrap();
    assert_eq!(lines.len(), 20_000 - first, "no line is lost in between");
    assert!(!bed.sandbox("stdout.3").exists());
}

#[test]
fn everything_said_before_the_end_is_there_when_the_end_is_told() {
    let mut bed = Bed::shell("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end >&2");
    let mut agent = bed.running(task());
    agent.hear_update();
    assert_eq!(bed.read("stdout").len(), 3_000_001);
    assert_eq!(bed.read("stderr"), "the end\n");
}

#[test]
fn a_full_disk_drops_output_and_says_so_but_stops_nobody() {
    use std::os::unix::process::CommandExt;
    // A limit on the size of files stands for a disk without space: the write fails in the same place.
    let mut bed = Bed::shell("head -c 300000 /dev/zero | tr '\\0' x; echo done >&2");
    bed.plan.output = OutputLimits {
        file_bytes_max: 0,
        old_files_max: 0,
    };
    bed.start_with(|command| {
        let limit = || {
            use nix::sys::resource::{Resource, setrlimit};
            setrlimit(Resource::RLIMIT_FSIZE, 100_000, 100_000)?;
            Ok(())
        };
        #[allow(unsafe_code)]
        // SAFETY: setrlimit is one system call; nothing is allocated or locked between fork and exec.
        unsafe {
            command.pre_exec(limit);
        }
    });
    let mut agent = bed.accept();
    agent.subscribe();
    agent.launch(task());
    assert_eq!(state(&agent.expect_end()), TaskState::Finished);
    bed.expect_left();
    assert_eq!(bed.read("stdout").len(), 100_000);
    assert_eq!(bed.read("stderr"), "done\n");
}

#[test]
fn dropped_output_is_noted_once_there_is_space_again() {
    use super::bed::{is_root, wait_for_lines};
    use std::os::unix::fs::PermissionsExt;
    if is_root() {
        // Root writes where nobody else may, so the space is made of a small file system instead.
        return dropped_on_a_small_disk();
    }
    // The directory takes no new file when the old one is turned over and gone.
    let mut bed = Bed::shell("echo one; read line < go; echo two; read line < go; echo three");
    let go = bed.fifo("go");
    bed.plan.output = OutputLimits {
        file_bytes_max: 4,
        old_files_max: 0,
    };
    let mut agent = bed.running(task());
    wait_for_lines(&bed.sandbox("stdout"), 1);
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&bed.plan.sandbox, mode(0o555)).unwrap();
    std::fs::write(&go, "\n").unwrap();
    std::fs::set_permissions(&bed.plan.sandbox, mode(0o755)).unwrap();
    std::fs::write(&go, "\n").unwrap();
    agent.expect_end();
}

/// A tmpfs of two pages in the sandbox: the first text fills it, the payload frees it, the next is written with a note.
fn dropped_on_a_small_disk() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        }
    }
    let mut bed = Bed::shell("head -c 20000 /dev/zero | tr '\\0' x; read line < ../go; echo kept");
    let go = bed.dir.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let sandbox = bed.plan.sandbox.clone();
    let data = Some("size=16k");
    mount(
        Some("tmpfs"),
        &sandbox,
        Some("tmpfs"),
        MsFlags::empty(),
        data,
    )
    .unwrap();
    let _mounted = Mounted(sandbox.clone());
    let ballast = bed.sandbox("ballast");
    std::fs::write(&ballast, [0; 8_192]).unwrap();
    let mut agent = bed.running(task());
    // The payload reads only after its first output went into the pipe, which the executor takes before it hears more.
    let full = |name: &str| std::fs::metadata(sandbox.join(name)).map_or(0, |m| m.len());
    let deadline = std::time::Instant::now() + super::bed::PATIENCE;
    while full("stdout") < 4_096 {
        assert!(std::time::Instant::now() < deadline, "nothing is written");
        std::thread::yield_now();
    }
    std::fs::OpenOptions::new()
        .write(true)
        .open(&go)
        .map(|mut go| {
            use std::io::Write;
            std::fs::remove_file(&ballast).unwrap();
            go.write_all(b"\n").unwrap();
        })
        .unwrap();
    agent.expect_end();
    let said = bed.read("stdout");
    assert!(
        said.contains("bytes of output were dropped here: No space left on device"),
        "{said:?}"
    );
    assert!(said.ends_with("kept\n"), "{said:?}");
    bed.expect_left();
}

#[test]
fn a_payload_that_closes_its_output_costs_nothing() {
    let mut bed = Bed::shell("exec >&- 2>&-; read line < go");
    let go = bed.fifo("go");
    let mut agent = bed.running(task());
    let pid = bed.executor_pid();
    let before = cpu_ticks(pid);
    // The FIFO opens when the payload reads it, so its output is closed by now.
    let go = std::fs::OpenOptions::new().write(true).open(go).unwrap();
    for _ in 0..200 {
        // An idle executor stays idle however often it could have been woken.
        std::thread::yield_now();
    }
    assert!(cpu_ticks(pid) - before <= 2, "the executor spins");
    drop(go);
    assert_eq!(
        state(&agent.expect_end()),
        TaskState::Failed,
        "read hears the end"
    );
    bed.expect_left();
}

/// The processor time of a process, in hundredths of a second.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_ascii_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
