//! Elections in a directory, by processes that are killed.

use std::time::{Duration, Instant};

use mezzo_coordination::{Detector, Expect, Leadership, Target, Txn};
use nix::sys::signal::Signal;

use crate::child::{Child, PATIENCE};
use crate::stores::{join, leading};

const IGNORED: Duration = Duration::from_secs(10);

async fn address(detector: &mut Detector, wanted: Option<&str>) {
    let wait = async {
        while detector.current().map(|leader| leader.address).as_deref() != wanted {
            detector.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never {wanted:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_leads_when_the_holder_is_killed_and_finds_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let mut first = Child::contend(&url, IGNORED, 5051);
    assert_eq!(first.says("leading"), "1");
    let mut detector = Detector::watch(&Target::parse(&url).unwrap()).unwrap();
    address(&mut detector, Some("127.0.0.1:5051")).await;
    let second = Child::contend(&url, IGNORED, 5052);
    second.says("standby 127.0.0.1:5051");
    for n in 0..20 {
        first.tell(&format!("kept/{n:02} value{n}"));
        first.says("put");
    }
    let killed = Instant::now();
    first.kill();
    assert_eq!(second.says("leading"), "2");
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "the kernel tells at once: {:?}",
        killed.elapsed()
    );
    address(&mut detector, Some("127.0.0.1:5052")).await;
    // A third, here, waits for the second; then it looks at the data.
    let mut third = join(&Target::parse(&url).unwrap(), IGNORED, 5053);
    assert!(
        matches!(third.current(), Leadership::Standby { leader: Some(l) } if l.address == "127.0.0.1:5052")
    );
    second.kill();
    let term = leading(&mut third).await;
    assert_eq!(term.epoch.counter, 3);
    let records = term.store().load("kept/").await.unwrap();
    let values: Vec<&[u8]> = records.iter().map(|record| record.value.as_ref()).collect();
    let expected: Vec<String> = (0..20).map(|n| format!("value{n}")).collect();
    assert_eq!(
        values,
        expected.iter().map(String::as_bytes).collect::<Vec<_>>()
    );
    third.resign().await;
    address(&mut detector, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_survives_a_kill_in_the_middle_of_writing() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let mut acknowledged = 0_u64;
    for round in 0..5 {
        let mut child = Child::contend(&url, IGNORED, 5051);
        // A reader leads between two of them.
        assert_eq!(child.says("leading"), (2 * round + 1).to_string());
        // Some are written and acknowledged, others are on their way when the process ends.
        for _ in 0..20 {
            child.tell(&format!("n/a {}", acknowledged + 1));
            child.says("put");
            acknowledged += 1;
        }
        for extra in 1..=5 {
            child.tell(&format!("n/a {}", acknowledged + extra));
        }
        child.kill();
        // What lies there now is the last acknowledged, or one of those that were on their way.
        let mut reader = join(&Target::parse(&url).unwrap(), IGNORED, 5052);
        let term = leading(&mut reader).await;
        let records = term.store().load("n/").await.unwrap();
        let found: u64 = std::str::from_utf8(&records[0].value)
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            (acknowledged..=acknowledged + 5).contains(&found),
            "{found} after {acknowledged}"
        );
        acknowledged = found;
        reader.resign().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_refuses_and_one_with_room_again_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    // A limit on the size of files stands for the disk: writes beyond it fail, as they do when no room is left.
    let limited =
        "env --ignore-signal=XFSZ prlimit --fsize=3145728:unlimited setpriv --pdeathsig KILL";
    let by: Vec<&str> = limited.split(' ').collect();
    let mut child = Child::contend_under(&by, &url, IGNORED, 5051);
    child.says("leading");
    let value = "x".repeat(200_000);
    let mut written = 0;
    loop {
        child.tell(&format!("fill/{written:03} {value}"));
        match child.says("").as_str() {
            refused if refused.starts_with("refused") => {
                assert_eq!(refused, "refused Unavailable");
                break;
            }
            _ => written += 1,
        }
        assert!(written < 100, "the limit is never met");
    }
    assert!(written > 2, "{written}");
    let pid = child.id().to_string();
    let raised = std::process::Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited"])
        .status();
    assert!(raised.unwrap().success());
    child.tell(&format!("fill/after {value}"));
    assert_eq!(child.says(""), "put fill/after");
    child.kill();
    let mut next = join(&Target::parse(&url).unwrap(), IGNORED, 5052);
    let records = leading(&mut next)
        .await
        .store()
        .load("fill/")
        .await
        .unwrap();
    let found: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
    let all = (0..written).all(|n| found.contains(&format!("fill/{n:03}").as_str()));
    assert!(all && found.contains(&"fill/after"), "{found:?}");
    assert!(records.iter().all(|record| record.value.len() == 200_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_hangs_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let first = Child::contend(&url, IGNORED, 5051);
    first.says("leading");
    let mut second = join(&Target::parse(&url).unwrap(), IGNORED, 5052);
    first.signal(Signal::SIGSTOP);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), second.leading())
            .await
            .is_err()
    );
    first.signal(Signal::SIGCONT);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), second.leading())
            .await
            .is_err()
    );
    first.kill();
    leading(&mut second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resigning_hands_over_within_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::Embedded(dir.path().join("made/on/the/way"));
    let mut first = join(&target, IGNORED, 5051);
    let term = leading(&mut first).await;
    let mut second = join(&target, IGNORED, 5052);
    assert!(matches!(
        second.current(),
        Leadership::Standby { leader: Some(_) }
    ));
    // Handed in before the resignation: carried out.
    let last = term
        .store()
        .commit(Txn::new().put("a/b", "c", Expect::Absent));
    let resigned = Instant::now();
    first.resign().await;
    assert_eq!(last.await, Ok(()));
    let next = leading(&mut second).await;
    assert!(
        resigned.elapsed() < Duration::from_millis(300),
        "{:?}",
        resigned.elapsed()
    );
    assert_eq!(next.epoch.counter, 2);
    assert_eq!(next.store().load("").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_leaves_does_not_disturb_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::Embedded(dir.path().to_owned());
    let mut first = join(&target, IGNORED, 5051);
    leading(&mut first).await;
    let second = join(&target, IGNORED, 5052);
    let third = join(&target, IGNORED, 5053);
    let mut fourth = join(&target, IGNORED, 5054);
    second.resign().await;
    drop(third);
    first.resign().await;
    assert_eq!(
        leading(&mut fourth).await.epoch.counter,
        2,
        "those who left began no term"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let target = Target::Embedded("/proc/nowhere/mezzo".into());
        let candidate = mezzo_coordination::Candidate::master(crate::child::info(1));
        let words = mezzo_coordination::Contender::join(&target, candidate, IGNORED)
            .unwrap_err()
            .to_string();
        assert!(words.contains("cannot use /proc/nowhere/mezzo"), "{words}");
        let words = Detector::watch(&target).unwrap_err().to_string();
        assert!(
            words.contains("cannot watch /proc/nowhere/mezzo"),
            "{words}"
        );
    });
}
