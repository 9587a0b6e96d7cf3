//! The log against crashes: every cut, every flipped byte, a full rotation.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use mezzo_model::ids::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId};
use mezzo_model::{Epoch, TaskState, Wall};
use mezzo_wire::v1;
use proptest::prelude::*;

use super::*;
use crate::core::record::{
    Completed, ContainerRecord, ExecutorKind, Process, Sandbox, TaskKey, TaskRecord,
};

fn key(framework: &str, task: &str) -> TaskKey {
    (
        FrameworkId::parse(framework).expect("an id"),
        TaskId::parse(task).expect("an id"),
    )
}

fn status(task: &str, state: TaskState, uuid: u8) -> Arc<v1::TaskStatus> {
    Arc::new(v1::TaskStatus {
        task_id: v1::TaskId {
            value: task.to_owned(),
        },
        state: state.number(),
        uuid: Some(vec![uuid; 16].into()),
        ..Default::default()
    })
}

fn container(id: &str, custom: bool) -> Arc<ContainerRecord> {
    Arc::new(ContainerRecord {
        id: ContainerId::parse(id).expect("an id"),
        framework: FrameworkId::parse("fw").expect("an id"),
        executor: ExecutorId::parse("e").expect("an id"),
        agent: AgentId::parse("m-S0").expect("an id"),
        user: Arc::from("nobody"),
        kind: match custom {
            true => ExecutorKind::Custom(Box::default()),
            false => ExecutorKind::Command,
        },
    })
}

/// One record of every kind, so that a kind that is forgotten in the codec is seen.
fn every_kind() -> Vec<Record> {
    let task = key("fw", "t1");
    let framework = v1::FrameworkInfo {
        id: Some(v1::FrameworkId {
            value: "fw".to_owned(),
        }),
        name: "n".to_owned(),
        ..Default::default()
    };
    let id = |text: &str| ContainerId::parse(text).expect("an id");
    vec![
        Record::Boot {
            boot_id: Arc::from("b1"),
        },
        Record::Agent {
            id: Some(AgentId::parse("m-S0").expect("an id")),
        },
        Record::Agent { id: None },
        Record::Epoch(Epoch {
            cluster_id: Arc::from("c"),
            counter: 7,
        }),
        Record::Framework(Arc::new(framework)),
        Record::FrameworkRemoved { id: task.0.clone() },
        Record::Container(container("c1", false)),
        Record::Container(container("c2", true)),
        Record::Started {
            container: id("c1"),
            process: Process { pid: 7, start: 99 },
        },
        Record::Ended {
            container: id("c1"),
            at: Wall(5),
        },
        Record::SandboxRemoved {
            container: id("c1"),
        },
        Record::Task(Arc::new(TaskRecord {
            framework: task.0.clone(),
            id: task.1.clone(),
            container: Some(id("c2")),
            group: Some(Arc::from("g")),
            info: v1::TaskInfo {
                name: "x".to_owned(),
                ..Default::default()
            },
        })),
        Record::Delivered { task: task.clone() },
        Record::Kill {
            task: task.clone(),
            policy: None,
        },
        Record::Kill {
            task: task.clone(),
            policy: Some(v1::KillPolicy::default()),
        },
        Record::Update {
            task: task.clone(),
            status: status("t1", TaskState::Running, 1),
        },
        Record::Acknowledged {
            task: task.clone(),
            uuid: [1; 16],
        },
        Record::Seen {
            task: task.clone(),
            uuids: vec![[1; 16], [2; 16]],
        },
        Record::Completed(Completed {
            task: task.clone(),
            state: TaskState::Killed,
        }),
        Record::Served {
            container: id("c2"),
            tasks: vec![task.1.clone()],
        },
        Record::Sandbox(Sandbox {
            container: id("c3"),
            framework: task.0.clone(),
            executor: ExecutorId::parse("e").expect("an id"),
            agent: AgentId::parse("m-S0").expect("an id"),
            ended: Wall(9),
            tasks: vec![task.1],
        }),
    ]
}

#[test]
fn every_kind_of_record_comes_back_as_it_went() {
    for record in every_kind() {
        let mut payload = Vec::new();
        codec::encode(&record, &mut payload);
        assert_eq!(codec::decode(&payload).as_ref(), Ok(&record));
    }
}

#[test]
fn records_that_are_none_are_refused_in_words() {
    assert_eq!(codec::decode(&[]), Err(CodecError::Empty));
    assert_eq!(codec::decode(&[99]), Err(CodecError::Kind(99)));
    assert!(matches!(
        codec::decode(&[1, 0xff]),
        Err(CodecError::Message { kind: 1, .. })
    ));
    assert_eq!(codec::decode(&[1]), Err(CodecError::Value("boot id")));
    let bad_id = [2, 0x3a, 3, b'a', b'/', b'b'];
    let words = codec::decode(&bad_id)
        .expect_err("an id with a slash")
        .to_string();
    assert!(words.contains("invalid characters"), "{words}");
}

#[test]
fn crc_is_the_castagnoli_one() {
    // The check value of the catalogue of parametrised CRC algorithms.
    assert_eq!(frame::crc32c(b"123456789"), 0xe306_9283);
}

/// An open log of which the test hears.
struct Opened {
    log: Log,
    events: mpsc::Receiver<LogEvent>,
    ledger: Ledger,
}

fn open(directory: &Path, rotate_bytes: u64) -> Result<Opened, OpenError> {
    let (sender, events) = mpsc::channel();
    let on_event = Box::new(move |event| {
        let _ = sender.send(event);
    });
    let (log, ledger) = Log::open_with(directory, on_event, rotate_bytes)?;
    Ok(Opened {
        log,
        events,
        ledger,
    })
}

impl Opened {
    fn append(&self, id: u64, records: Vec<Record>, flush: bool) {
        self.log.append(id, records, flush);
    }

    fn until_logged(&self, id: u64) {
        let wait = std::time::Duration::from_secs(20);
        loop {
            match self.events.recv_timeout(wait).expect("the log answers") {
                LogEvent::Logged { id: logged } if logged == id => return,
                LogEvent::Logged { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn update(task: u64, uuid: u8) -> Record {
    Record::Update {
        task: key("fw", &format!("t{task}")),
        status: status(&format!("t{task}"), TaskState::Running, uuid),
    }
}

fn task(number: u64) -> Record {
    let (framework, id) = key("fw", &format!("t{number}"));
    Record::Task(Arc::new(TaskRecord {
        framework,
        id,
        container: None,
        group: None,
        info: v1::TaskInfo::default(),
    }))
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path(), ROTATE_BYTES).expect("opens");
    first.append(0, vec![task(1), update(1, 1)], false);
    first.append(1, vec![update(1, 2)], true);
    first.until_logged(1);
    first.log.close();
    let second = open(directory.path(), ROTATE_BYTES).expect("opens again");
    let known = second.ledger.tasks().next().expect("the task");
    assert_eq!(known.1.pending.len(), 2);
    assert_eq!(second.log.torn_bytes(), 0);
}

#[test]
fn both_kinds_of_appends_are_told_in_their_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), ROTATE_BYTES).expect("opens");
    for id in 0..200 {
        opened.append(id, vec![task(id)], id % 3 == 0);
    }
    let wait = std::time::Duration::from_secs(20);
    let told: Vec<u64> = (0..200)
        .map(
            |_| match opened.events.recv_timeout(wait).expect("an event") {
                LogEvent::Logged { id } => id,
                other => panic!("{other:?}"),
            },
        )
        .collect();
    for flushed in [true, false] {
        let of_kind: Vec<u64> = told
            .iter()
            .copied()
            .filter(|id| (id % 3 == 0) == flushed)
            .collect();
        assert!(of_kind.is_sorted(), "{of_kind:?}");
    }
}

#[test]
fn a_long_log_is_followed_by_a_new_one_and_stays_bounded() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), 4_096).expect("opens");
    for id in 0..3_000 {
        let uuid = (id % 250) as u8;
        let acknowledged = Record::Acknowledged {
            task: key("fw", "t1"),
            uuid: [uuid; 16],
        };
        let records = match id {
            0 => vec![task(1)],
            _ => vec![update(1, uuid), acknowledged],
        };
        opened.append(id, records, id % 50 == 0);
        if id % 50 == 0 {
            opened.until_logged(id);
        }
    }
    opened.log.close();
    let first = recover::log_path(directory.path(), 1);
    assert!(
        !first.exists(),
        "the first log was followed by others and removed"
    );
    let again = open(directory.path(), 4_096).expect("opens again");
    let bytes: u64 = fs::read_dir(directory.path())
        .expect("lists")
        .map(|entry| {
            entry
                .and_then(|entry| entry.metadata())
                .expect("a file")
                .len()
        })
        .sum();
    assert!(
        bytes < 6_000,
        "{bytes} bytes are left of some 300 kB written"
    );
    let known = again.ledger.tasks().next().expect("the task");
    assert!(known.1.pending.is_empty(), "all was acknowledged");
}

#[test]
fn a_newer_version_is_refused_in_words() {
    let directory = tempfile::tempdir().expect("a directory");
    open(directory.path(), ROTATE_BYTES)
        .expect("opens")
        .log
        .close();
    let newest = recover::snapshot_path(directory.path(), 1);
    let mut bytes = fs::read(&newest).expect("reads");
    bytes[8] = 2;
    fs::write(&newest, bytes).expect("writes");
    let words = open(directory.path(), ROTATE_BYTES)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        words.contains("version 2") && words.contains("or a newer one"),
        "{words}"
    );
}

#[test]
fn a_missing_log_in_the_middle_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    open(directory.path(), ROTATE_BYTES)
        .expect("opens")
        .log
        .close();
    fs::write(recover::log_path(directory.path(), 3), frame::header()).expect("writes");
    let words = open(directory.path(), ROTATE_BYTES)
        .err()
        .expect("refused")
        .to_string();
    assert!(words.contains("000002.log is missing"), "{words}");
}

/// A log file of `count` frames, of which the first `flushed` were flushed before the others were written. Gives the
/// bytes and the end of each frame.
fn file(count: usize, flushed: usize) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = frame::header().to_vec();
    let mut ends = Vec::new();
    let mut known = 0;
    for at in 0..count {
        if at == flushed {
            known = bytes.len() as u64;
        }
        let record = update(at as u64, at as u8);
        frame::push(&mut bytes, known, |payload| codec::encode(&record, payload));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_file_cut_anywhere_gives_the_whole_frames_before_the_cut(
        count in 1_usize..12,
        cut in any::<prop::sample::Index>(),
    ) {
        let (bytes, ends) = file(count, 0);
        let cut = cut.index(bytes.len() + 1);
        let found = frame::read(&bytes[..cut], false).expect("a torn tail is no damage");
        let whole = ends.iter().filter(|end| **end <= cut).count();
        prop_assert_eq!(found.payloads.len(), whole);
        let kept = if whole == 0 { frame::HEADER_BYTES.min(cut) } else { ends[whole - 1] };
        let torn = if cut < frame::HEADER_BYTES { cut } else { cut - kept };
        prop_assert_eq!(found.torn_bytes, torn as u64);
    }

    #[test]
    fn a_tail_of_garbage_is_left_out(
        count in 0_usize..8,
        garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (mut bytes, _) = file(count, 0);
        bytes.extend_from_slice(&garbage);
        let found = frame::read(&bytes, false).expect("garbage at the end is a torn tail");
        prop_assert!(found.payloads.len() >= count);
    }

    #[test]
    fn damage_in_what_was_flushed_is_named_and_behind_it_is_torn_off(
        count in 2_usize..12,
        flushed in 1_usize..11,
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let flushed = flushed.min(count - 1);
        let (mut bytes, ends) = file(count, flushed);
        let at = frame::HEADER_BYTES + at.index(bytes.len() - frame::HEADER_BYTES);
        bytes[at] ^= 1 << bit;
        let broken = ends.iter().filter(|end| **end <= at).count();
        match frame::read(&bytes, false) {
            Err(FrameError::Damaged { offset }) => {
                prop_assert!(broken < flushed, "frame {} had not been flushed", broken);
                let start = if broken == 0 { frame::HEADER_BYTES } else { ends[broken - 1] };
                prop_assert_eq!(offset, start as u64);
            }
            Ok(found) => {
                prop_assert!(broken >= flushed, "damage in what was flushed went unseen");
                prop_assert_eq!(found.payloads.len(), broken);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn no_bytes_at_all_make_the_reader_fall_over(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = frame::read(&bytes, false);
        let _ = frame::read(&bytes, true);
        let _ = codec::decode(&bytes);
        let mut file = frame::header().to_vec();
        file.extend_from_slice(&bytes);
        let _ = frame::read(&file, false);
    }
}
