//! Each thing that can be wrong with a task, and the words for it.

use mezzo_model::TaskState;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;

use super::super::testing::*;
use super::launches::ready;

#[test]
fn each_wrong_task_is_refused_in_its_words() {
    type Change = fn(&mut v1::TaskInfo);
    let rows: &[(Change, &str)] = &[
        (
            |t| t.task_id.value = "bad/id".into(),
            "'bad/id' contains invalid characters",
        ),
        (|t| t.task_id.value = String::new(), "ID must not be empty"),
        (|t| t.task_id.value = "..".into(), "'..' is disallowed"),
        (
            |t| t.task_id.value = "x".repeat(300),
            "ID must not be greater than 255 characters",
        ),
        (
            |t| t.agent_id.value = "other".into(),
            "Task uses invalid agent other while agent",
        ),
        (|t| t.resources.clear(), "Task uses no resources"),
        (
            |t| t.resources[0].scalar = Some(v1::value::Scalar { value: -1.0 }),
            "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0",
        ),
        (
            |t| t.resources[0].scalar = Some(v1::value::Scalar { value: f64::NAN }),
            "Resource 'cpus:NaN' is invalid",
        ),
        (
            |t| t.resources[0].scalar = Some(v1::value::Scalar { value: 1e300 }),
            "Resource 'cpus:1e300' is invalid",
        ),
        (
            |t| {
                t.resources[0].allocation_info = Some(v1::resource::AllocationInfo {
                    role: Some("x".into()),
                })
            },
            "The resources have multiple allocation roles",
        ),
        (
            |t| t.resources.push(bag("gpus:0.5").to_wire().remove(0)),
            "The 'gpus' resource must be an unsigned integer",
        ),
        (
            |t| t.command = None,
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        (
            |t| {
                t.kill_policy = Some(v1::KillPolicy {
                    grace_period: Some(v1::DurationInfo { nanoseconds: -1 }),
                })
            },
            "Task's 'kill_policy.grace_period' must be non-negative",
        ),
        (
            |t| t.max_completion_time = Some(v1::DurationInfo { nanoseconds: -1 }),
            "Task's `max_completion_time` must be non-negative",
        ),
        (
            |t| t.check = Some(Default::default()),
            "Task uses invalid check: CheckInfo must specify 'type'",
        ),
        (
            |t| t.health_check = Some(Default::default()),
            "Task uses invalid health check: HealthCheck must specify 'type'",
        ),
        (
            |t| {
                t.health_check = Some(v1::HealthCheck {
                    http: Some(v1::health_check::HttpCheckInfo {
                        port: 80,
                        path: Some("x".into()),
                        ..Default::default()
                    }),
                    ..Default::default()
                });
            },
            "The path 'x' of HTTP health check must start with '/'",
        ),
        (
            |t| {
                t.health_check = Some(v1::HealthCheck {
                    r#type: Some(v1::health_check::Type::Tcp as i32),
                    tcp: Some(v1::health_check::TcpCheckInfo {
                        port: 80,
                        ..Default::default()
                    }),
                    interval_seconds: Some(f64::NAN),
                    ..Default::default()
                });
            },
            "Expecting 'interval_seconds' to be non-negative",
        ),
        (
            |t| {
                let variable = v1::environment::Variable {
                    name: "A".into(),
                    ..Default::default()
                };
                let environment = v1::Environment {
                    variables: vec![variable],
                };
                t.command.as_mut().expect("set").environment = Some(environment);
            },
            "Environment variable 'A' of type 'VALUE' must have a value set",
        ),
        (
            |t| {
                t.container = Some(v1::ContainerInfo {
                    r#type: 1,
                    ..Default::default()
                })
            },
            "Task's `ContainerInfo` is invalid: DockerInfo 'docker' is not set",
        ),
        (
            |t| {
                t.limits
                    .insert("disk".into(), v1::value::Scalar { value: 1.0 });
            },
            "Only cpus and mem may be included in a task's resource limits",
        ),
        (
            |t| {
                t.limits
                    .insert("mem".into(), v1::value::Scalar { value: 1.0 });
            },
            "The memory limit must be greater than or equal to the memory request",
        ),
        (
            |t| {
                t.command = None;
                t.executor = Some(v1::ExecutorInfo {
                    executor_id: "e".into(),
                    ..Default::default()
                });
            },
            "'ExecutorInfo.command' must be set",
        ),
        (
            |t| {
                t.command = None;
                t.executor = Some(v1::ExecutorInfo {
                    executor_id: "e".into(),
                    framework_id: Some("zzz".into()),
                    command: Some(Default::default()),
                    ..Default::default()
                });
            },
            "ExecutorInfo has an invalid FrameworkID (Actual: zzz",
        ),
    ];
    for (change, words) in rows {
        let (mut world, scheduler, agent, offer) = ready("cpus:4;mem:1024");
        let mut info = task("t1", &agent.id, "cpus:1;mem:32");
        change(&mut info);
        world.launch(&scheduler, &[&offer], vec![info], 1.0);
        let status = world.update(&scheduler);
        assert_eq!(status.state, TaskState::Error.number(), "{words}");
        let message = status.message.unwrap_or_default();
        assert!(
            message.contains(words),
            "{message:?} does not say {words:?}"
        );
        // And the cluster still launches a task.
        world.pass(1000);
        let offer = world.offer(&scheduler);
        world.launch(
            &scheduler,
            &[&offer],
            vec![task("t1", &agent.id, "cpus:1;mem:32")],
            600.0,
        );
        assert!(
            matches!(world.orders(&agent).as_slice(), [Order::RunTask(_)]),
            "{words}"
        );
        world.finish();
    }
}
