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
