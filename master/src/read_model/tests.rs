//! Readers see what the core says, as of one moment, and a thread that fell behind starts over.

use mezzo_model::ids::{AgentId, FrameworkId, OfferId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::{Role, TaskState, Wall};
use mezzo_wire::v1;

use super::*;
use crate::keys::{AgentKey, FrameworkKey, OfferKey};

fn bag(text: &str) -> Resources {
    Resources::parse(text).expect("reads")
}

fn framework(key: u32) -> Change {
    let id = FrameworkId::parse(&format!("m-{key:04}")).expect("an id");
    let info = v1::FrameworkInfo {
        name: "f".into(),
        id: Some(id.to_wire()),
        ..Default::default()
    };
    Change::Framework(Box::new(FrameworkView {
        key: FrameworkKey(key),
        id,
        info: info.into(),
        active: true,
        connected: true,
        recovered: false,
        registered: Wall(1000),
        reregistered: None,
        unregistered: None,
        offer_constraints: None,
    }))
}

fn agent(key: u32) -> Change {
    let id = AgentId::parse(&format!("m-S{key}")).expect("an id");
    let info = v1::AgentInfo {
        hostname: "h".into(),
        id: Some(id.to_wire()),
        ..Default::default()
    };
    Change::Agent(Box::new(AgentView {
        key: AgentKey(key),
        id,
        info: info.into(),
        total: bag("cpus:4;mem:1024"),
        active: true,
        version: Arc::from("0.1.0"),
        registered: Wall(1000),
        reregistered: None,
    }))
}

fn task(framework: u32, name: &str) -> Change {
    let info = v1::Task {
        task_id: name.into(),
        resources: bag("cpus:1;mem:32").allocated_to(&Role::star()).to_wire(),
        ..Default::default()
    };
    Change::Task {
        framework: FrameworkKey(framework),
        agent: AgentKey(1),
        id: TaskId::parse(name).expect("an id"),
        info: info.into(),
        state: TaskState::Staging,
    }
}

fn update(framework: u32, name: &str, state: TaskState) -> Change {
    let status = v1::TaskStatus {
        task_id: name.into(),
        state: state.number(),
        ..Default::default()
    };
    let id = TaskId::parse(name).expect("an id");
    Change::TaskUpdate {
        framework: FrameworkKey(framework),
        id,
        state,
        status: status.into(),
    }
}

fn gone(framework: u32, name: &str, fate: Fate) -> Change {
    let id = TaskId::parse(name).expect("an id");
    Change::TaskGone {
        framework: FrameworkKey(framework),
        id,
        fate,
        state: TaskState::Finished,
    }
}

fn offer(key: u64) -> Change {
    Change::Offer {
        key: OfferKey(key),
        id: OfferId::parse(&format!("m-O{key}")).expect("an id"),
        framework: FrameworkKey(1),
        agent: AgentKey(1),
        role: Role::star(),
        resources: bag("cpus:3;mem:992"),
    }
}

fn read(changes: Vec<Change>, limits: Limits) -> v1::master::response::GetState {
    let mut model = Model::new(limits);
    for change in changes {
        model.apply(change);
    }
    let answer = pages::answer(&model, Page::State, &Default::default());
    answer.get_state.expect("the state")
}

#[test]
fn the_state_adds_up() {
    let changes = vec![
        framework(1),
        agent(1),
        offer(7),
        task(1, "t1"),
        update(1, "t1", TaskState::Running),
    ];
    let state = read(changes, Limits::default());
    let agents = state.get_agents.expect("agents").agents;
    let amounts = |wire: &[v1::Resource]| {
        Resources::from_wire(wire)
            .expect("valid")
            .unallocated()
            .to_string()
    };
    assert_eq!(amounts(&agents[0].allocated_resources), "cpus:1; mem:32");
    assert_eq!(amounts(&agents[0].offered_resources), "cpus:3; mem:992");
    assert!(
        agents[0]
            .total_resources
            .iter()
            .all(|resource| resource.role.as_deref() == Some("*"))
    );
    let frameworks = state.get_frameworks.expect("frameworks").frameworks;
    assert_eq!(
        amounts(&frameworks[0].allocated_resources),
        "cpus:1; mem:32"
    );
    assert_eq!(frameworks[0].offers[0].id.value, "m-O7");
    let tasks = state.get_tasks.expect("tasks").tasks;
    assert_eq!(tasks[0].state, TaskState::Running.number());
    assert_eq!(
        tasks[0].status_update_state,
        Some(TaskState::Running.number())
    );
}

#[test]
fn what_is_past_is_kept_within_limits() {
    let limits = Limits {
        completed_frameworks: 1,
        completed_tasks: 2,
    };
    let mut changes = vec![framework(1), framework(2), agent(1)];
    for name in ["a", "b", "c"] {
        changes.extend([task(1, name), gone(1, name, Fate::Completed)]);
    }
    changes.extend([
        task(1, "lost"),
        gone(1, "lost", Fate::Unreachable),
        task(2, "live"),
    ]);
    let state = read(changes.clone(), limits);
    let tasks = state.get_tasks.expect("tasks");
    let names = |tasks: &[v1::Task]| {
        tasks
            .iter()
            .map(|task| task.task_id.value.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names(&tasks.completed_tasks), "b c");
    assert_eq!(names(&tasks.unreachable_tasks), "lost");
    assert_eq!(names(&tasks.tasks), "live");

    let done = |key| Change::FrameworkCompleted {
        key: FrameworkKey(key),
        at: Wall(9000),
    };
    changes.extend([done(1), done(2)]);
    let state = read(changes, limits);
    let frameworks = state.get_frameworks.expect("frameworks");
    assert!(frameworks.frameworks.is_empty());
    assert_eq!(frameworks.completed_frameworks.len(), 1);
    assert!(!frameworks.completed_frameworks[0].active);
    assert_eq!(
        names(&state.get_tasks.expect("tasks").completed_tasks),
        "live"
    );
}

#[test]
fn statuses_of_one_state_are_one() {
    let mut changes = vec![framework(1), agent(1), task(1, "t")];
    changes.extend(vec![update(1, "t", TaskState::Running); 5]);
    changes.push(update(1, "t", TaskState::Killing));
    let tasks = read(changes.clone(), Limits::default())
        .get_tasks
        .expect("tasks")
        .tasks;
    assert_eq!(tasks[0].statuses.len(), 2);
    for _ in 0..100 {
        changes.extend([
            update(1, "t", TaskState::Running),
            update(1, "t", TaskState::Killing),
        ]);
    }
    let tasks = read(changes, Limits::default())
        .get_tasks
        .expect("tasks")
        .tasks;
    assert_eq!(tasks[0].statuses.len(), 32);
}

#[test]
fn records_of_what_is_not_there_are_passed_over() {
    let changes = vec![
        task(9, "t"),
        update(9, "t", TaskState::Running),
        gone(9, "t", Fate::Completed),
        Change::OfferGone(OfferKey(3)),
        Change::AgentRemoved(AgentKey(3)),
        Change::FrameworkCompleted {
            key: FrameworkKey(9),
            at: Wall(1),
        },
        offer(1),
    ];
    let state = read(changes, Limits::default());
    assert!(state.get_tasks.expect("tasks").tasks.is_empty());
}

#[tokio::test]
async fn a_read_sees_everything_that_was_handed_over_before() {
    let (mut feed, reader) = start(Limits::default(), Default::default()).expect("starts");
    feed.push(vec![framework(1)], Vec::new);
    let answer = reader.read(Page::Frameworks).await.expect("answers");
    assert_eq!(
        answer.get_frameworks.expect("frameworks").frameworks.len(),
        1
    );
    drop(feed);
    assert!(
        reader.read(Page::Master).await.is_ok(),
        "readers outlive the feed"
    );
}

#[tokio::test]
async fn a_thread_that_fell_behind_starts_over_from_a_dump() {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let mut feed = Feed {
        messages: sender.clone(),
        waiting: waiting.clone(),
        is_behind: false,
    };
    for _ in 0..MAX_BATCHES {
        feed.push(vec![framework(1)], || panic!("not behind"));
    }
    assert!(!feed.is_behind());
    feed.push(vec![framework(2)], || panic!("not caught up"));
    feed.push(vec![framework(3)], || panic!("not caught up"));
    assert!(feed.is_behind());
    let reader = Reader {
        messages: sender,
        places: Arc::new(Semaphore::new(1)),
    };
    let thread = std::thread::spawn(move || {
        run(&receiver, &waiting, Limits::default(), &Default::default())
    });
    let count = |answer: Response| answer.get_frameworks.expect("frameworks").frameworks.len();
    assert_eq!(
        count(reader.read(Page::Frameworks).await.expect("answers")),
        1
    );
    feed.push(Vec::new(), || {
        vec![framework(1), framework(2), framework(3)]
    });
    assert!(!feed.is_behind());
    assert_eq!(
        count(reader.read(Page::Frameworks).await.expect("answers")),
        3
    );
    drop((feed, reader));
    thread.join().expect("ends");
}
