//! A framework's own executor under the keeper: it finds its agent by itself, the keeper sees to the rest.

use mezzo_executor::plan::{CommandLine, EndedHow, ExecutorRole};
use mezzo_model::TaskState;
use mezzo_wire::v1::executor::event;
use nix::sys::signal::Signal;

use super::bed::{Bed, example, signal, task};

#[test]
fn a_custom_executor_is_kept_and_its_end_is_recorded() {
    let mut bed =
        Bed::shell("echo $MEZZO_AGENT_SOCKET; echo $MESOS_EXECUTOR_AUTHENTICATION_TOKEN; exit 9");
    bed.plan.role = ExecutorRole::Custom;
    bed.start();
    bed.expect_left();
    assert_eq!(bed.ended().how, EndedHow::Exited(9));
    assert!(!bed.ended().killed);
    let socket = bed.plan.agent.socket.display();
    assert_eq!(bed.read("stdout"), format!("{socket}\na secret\n"));
}

#[test]
fn a_custom_executor_is_ended_by_a_sigterm_of_its_keeper() {
    let mut bed = Bed::shell("trap 'exit 0' TERM; echo ready > said; while :; do sleep 0.01; done");
    bed.plan.role = ExecutorRole::Custom;
    let mut said = bed.ear("said");
    bed.start();
    said.hear(1);
    signal(bed.executor_pid(), Signal::SIGTERM);
    bed.expect_left();
    assert_eq!(bed.ended().how, EndedHow::Exited(0));
    assert!(bed.ended().killed);
}

#[test]
fn a_custom_executor_that_is_not_there_is_recorded_too() {
    let mut bed = Bed::new(CommandLine::Exec {
        program: "/no/such/executor".into(),
        arguments: vec![],
    });
    bed.plan.role = ExecutorRole::Custom;
    bed.start();
    bed.expect_left();
    let ended = bed.ended();
    assert_eq!(ended.how, EndedHow::NotStarted);
    assert!(
        ended.message.contains("No such file or directory"),
        "{}",
        ended.message
    );
}

#[test]
fn an_executor_of_the_sdk_finds_its_agent_through_its_environment() {
    let mut bed = Bed::new(CommandLine::Exec {
        program: example("custom_executor").to_str().unwrap().into(),
        arguments: vec![],
    });
    bed.plan.role = ExecutorRole::Custom;
    let mut agent = bed.subscribed();
    let mut echoed = task();
    echoed.data = Some("an answer".into());
    agent.launch(echoed);
    assert_eq!(
        agent.expect(TaskState::Running).data.as_deref(),
        Some(&b"an answer"[..])
    );
    agent.expect(TaskState::Finished);
    agent.say(event::Type::Shutdown, |_| {});
    bed.expect_left();
    assert_eq!(bed.ended().how, EndedHow::Exited(0));
    assert_eq!(bed.read("stdout"), "the executor is here\n");
}
