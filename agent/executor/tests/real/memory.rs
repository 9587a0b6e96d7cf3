//! What one task costs: an executor and its leash.

use std::fs;

use super::bed::{Bed, children, task};

/// The anonymous memory that a task may cost, in KiB.
const ANONYMOUS_KIB_MAX: u64 = 2_048;

#[test]
fn an_executor_and_its_leash_are_small() {
    let mut bed = Bed::shell("echo > said; sleep 1000");
    let mut said = bed.ear("said");
    let agent = bed.running(task());
    said.hear(1);
    let executor = bed.executor_pid();
    let leash = children(executor)[0];
    let mut sum = 0;
    for (name, pid) in [("executor", executor), ("leash", leash)] {
        let anonymous = rollup(pid, "Anonymous:");
        let pss_anon = rollup(pid, "Pss_Anon:");
        let private = rollup(pid, "Private_Dirty:");
        println!(
            "{name}: anonymous {anonymous} KiB, its share {pss_anon} KiB, private {private} KiB"
        );
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
        assert_eq!(threads, 1, "{name}");
        sum += anonymous;
    }
    assert!(sum <= ANONYMOUS_KIB_MAX, "{sum} KiB");
    drop(agent);
}

fn rollup(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
