//! The table of wrong calls, and the scene in which each is made: a victim with an offer and a task, an attacker with
//! an offer.

use mezzo_model::TaskState;
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability::Type as Capability;
use mezzo_wire::v1::scheduler::call::{self, Type};
use mezzo_wire::v1::scheduler::{Call, attribute_constraint as constraint, offer_constraints};

use super::super::super::testing::*;

/// Where a refusal is seen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen {
    /// The call or the stream is refused with a status.
    Status(u16),
    /// The stream opens, holds one ERROR, and closes.
    Error,
    /// The call is taken; a status with this state comes.
    Update(TaskState),
    /// The call is taken and nothing comes of it.
    Nothing,
}

pub(super) struct Row {
    pub name: &'static str,
    pub change: fn(&mut Call, &Scene),
    pub seen: Seen,
    pub words: &'static str,
}

/// A victim with an offer and a task, an attacker with an offer, two agents.
pub(super) struct Scene {
    pub world: World,
    pub victim: Scheduler,
    pub victims_offer: v1::Offer,
    pub attacker: Scheduler,
    pub offer: v1::Offer,
    pub agents: [TestAgent; 2],
}

pub(super) fn scene() -> Scene {
    let mut world = World::new();
    let victim = world.framework("victim");
    let first = world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&victim);
    world.launch(
        &victim,
        &[&offer],
        vec![task("precious", &first.id, "cpus:1;mem:32")],
        1.0,
    );
    world.orders(&first);
    world.pass(1000);
    let victims_offer = world.offer(&victim);
    // It wants no more, so that whatever it gets is somebody else's doing.
    world.suppress(&victim);
    let attacker = world.framework("attacker");
    let second = world.agent("h2", "cpus:4;mem:1024");
    let offer = world.offer(&attacker);
    Scene {
        world,
        victim,
        victims_offer,
        attacker,
        offer,
        agents: [first, second],
    }
}

const NEW: fn(&mut Call) = |call| {
    *call = World::subscribe_call(World::info("new"));
};

fn subscribe(call: &mut Call, change: impl FnOnce(&mut call::Subscribe)) {
    NEW(call);
    change(call.subscribe.as_mut().expect("set"));
    call.framework_id = call
        .subscribe
        .as_ref()
        .and_then(|s| s.framework_info.id.clone());
}

fn multi(info: &mut v1::FrameworkInfo, roles: &[&str]) {
    info.roles = roles.iter().map(ToString::to_string).collect();
    info.capabilities.push(v1::framework_info::Capability {
        r#type: Some(Capability::MultiRole as i32),
    });
}

fn accept(call: &mut Call, scene: &Scene, tasks: Vec<v1::TaskInfo>) {
    call.r#type = Some(Type::Accept as i32);
    call.accept = Some(call::Accept {
        offer_ids: vec![scene.offer.id.clone()],
        operations: vec![launch_operation(tasks)],
        filters: None,
    });
}

fn predicate(regex: &str) -> v1::scheduler::AttributeConstraint {
    v1::scheduler::AttributeConstraint {
        selector: constraint::Selector {
            selector: Some(constraint::selector::Selector::AttributeName("rack".into())),
        },
        predicate: constraint::Predicate {
            predicate: Some(constraint::predicate::Predicate::TextMatches(
                constraint::predicate::TextMatches {
                    regex: regex.into(),
                },
            )),
        },
    }
}

fn constrained(
    subscribe: &mut call::Subscribe,
    role: &str,
    groups: Vec<Vec<v1::scheduler::AttributeConstraint>>,
) {
    let groups = groups.into_iter().map(|attribute_constraints| {
        offer_constraints::role_constraints::Group {
            attribute_constraints,
        }
    });
    let of_role = offer_constraints::RoleConstraints {
        groups: groups.collect(),
    };
    let mut constraints = v1::scheduler::OfferConstraints::default();
    constraints.role_constraints.insert(role.into(), of_role);
    subscribe.offer_constraints = Some(constraints);
}

pub(super) const ROWS: &[Row] = &[
    // ---- the ladder ----------------------------------------------------------------------------------------------
    Row {
        name: "no type",
        change: |c, _| c.r#type = None,
        seen: Seen::Status(400),
        words: "Failed to validate scheduler::Call: Expecting 'type' to be present",
    },
    Row {
        name: "unknown type",
        change: |c, _| c.r#type = Some(999),
        seen: Seen::Status(400),
        words: "Expecting 'type' to be present",
    },
    Row {
        name: "type UNKNOWN",
        change: |c, _| c.r#type = Some(0),
        seen: Seen::Status(501),
        words: "UNKNOWN",
    },
    Row {
        name: "no framework",
        change: |c, _| c.framework_id = None,
        seen: Seen::Status(400),
        words: "Expecting 'framework_id' to be present",
    },
    Row {
        name: "unknown framework",
        change: |c, _| c.framework_id = Some("nope".into()),
        seen: Seen::Status(400),
        words: "Framework cannot be found",
    },
    Row {
        name: "over-long framework",
        change: |c, _| c.framework_id = Some("x".repeat(100_000).into()),
        seen: Seen::Status(400),
        words: "Framework cannot be found",
    },
    Row {
        name: "another's framework",
        change: |c, s| c.framework_id = Some(s.victim.id.clone()),
        seen: Seen::Status(400),
        words: "didn't match the stream ID currently associated with framework ID",
    },
    // ---- missing parts -------------------------------------------------------------------------------------------
    Row {
        name: "accept",
        change: |c, _| c.r#type = Some(Type::Accept as i32),
        seen: Seen::Status(400),
        words: "Expecting 'accept' to be present",
    },
    Row {
        name: "decline",
        change: |c, _| c.r#type = Some(Type::Decline as i32),
        seen: Seen::Status(400),
        words: "Expecting 'decline' to be present",
    },
    Row {
        name: "accept inverse",
        change: |c, _| c.r#type = Some(Type::AcceptInverseOffers as i32),
        seen: Seen::Status(400),
        words: "Expecting 'accept_inverse_offers' to be present",
    },
    Row {
        name: "decline inverse",
        change: |c, _| c.r#type = Some(Type::DeclineInverseOffers as i32),
        seen: Seen::Status(400),
        words: "Expecting 'decline_inverse_offers' to be present",
    },
    Row {
        name: "kill",
        change: |c, _| c.r#type = Some(Type::Kill as i32),
        seen: Seen::Status(400),
        words: "Expecting 'kill' to be present",
    },
    Row {
        name: "shutdown",
        change: |c, _| c.r#type = Some(Type::Shutdown as i32),
        seen: Seen::Status(400),
        words: "Expecting 'shutdown' to be present",
    },
    Row {
        name: "acknowledge",
        change: |c, _| c.r#type = Some(Type::Acknowledge as i32),
        seen: Seen::Status(400),
        words: "Expecting 'acknowledge' to be present",
    },
    Row {
        name: "acknowledge operation",
        change: |c, _| c.r#type = Some(Type::AcknowledgeOperationStatus as i32),
        seen: Seen::Status(400),
        words: "Expecting 'acknowledge_operation_status' to be present",
    },
    Row {
        name: "reconcile",
        change: |c, _| c.r#type = Some(Type::Reconcile as i32),
        seen: Seen::Status(400),
        words: "Expecting 'reconcile' to be present",
    },
    Row {
        name: "reconcile operations",
        change: |c, _| c.r#type = Some(Type::ReconcileOperations as i32),
        seen: Seen::Status(400),
        words: "Expecting 'reconcile_operations' to be present",
    },
    Row {
        name: "message",
        change: |c, _| c.r#type = Some(Type::Message as i32),
        seen: Seen::Status(400),
        words: "Expecting 'message' to be present",
    },
    Row {
        name: "request",
        change: |c, _| c.r#type = Some(Type::Request as i32),
        seen: Seen::Status(400),
        words: "Expecting 'request' to be present",
    },
    Row {
        name: "update framework",
        change: |c, _| c.r#type = Some(Type::UpdateFramework as i32),
        seen: Seen::Status(400),
        words: "Expecting 'update_framework' to be present",
    },
    Row {
        name: "a uuid of 3 bytes",
        change: |c, s| {
            c.r#type = Some(Type::Acknowledge as i32);
            c.acknowledge = Some(call::Acknowledge {
                agent_id: s.agents[0].id.clone(),
                task_id: "t".into(),
                uuid: bytes::Bytes::from_static(b"abc"),
            });
        },
        seen: Seen::Status(400),
        words: "Not a valid UUID",
    },
    Row {
        name: "an operation's uuid without agent",
        change: |c, _| {
            c.r#type = Some(Type::AcknowledgeOperationStatus as i32);
            c.acknowledge_operation_status = Some(call::AcknowledgeOperationStatus {
                agent_id: None,
                resource_provider_id: None,
                uuid: bytes::Bytes::from_static(b"0123456789abcdef"),
                operation_id: v1::OperationId { value: "o".into() },
            });
        },
        seen: Seen::Status(400),
        words: "Expecting 'agent_id' to be present",
    },
    Row {
        name: "update of another id",
        change: |c, _| {
            c.r#type = Some(Type::UpdateFramework as i32);
            let info = World::info("x");
            c.update_framework = Some(call::UpdateFramework {
                framework_info: info,
                ..Default::default()
            });
        },
        seen: Seen::Status(400),
        words: "'framework_id' differs from 'update_framework.framework_info.id'",
    },
    Row {
        name: "update to a bad role",
        change: |c, s| {
            c.r#type = Some(Type::UpdateFramework as i32);
            let mut info = s.attacker.info.clone();
            info.role = Some("-bad".into());
            c.update_framework = Some(call::UpdateFramework {
                framework_info: info,
                ..Default::default()
            });
        },
        seen: Seen::Status(400),
        words: "FrameworkInfo update is not valid: 'FrameworkInfo.role' is not a valid role",
    },
    // ---- subscriptions -------------------------------------------------------------------------------------------
    Row {
        name: "subscribe without its part",
        change: |c, _| {
            NEW(c);
            c.subscribe = None;
        },
        seen: Seen::Status(400),
        words: "Expecting 'subscribe' to be present",
    },
    Row {
        name: "ids differ",
        change: |c, _| {
            NEW(c);
            c.framework_id = Some("other".into());
        },
        seen: Seen::Status(400),
        words: "'framework_id' differs from 'subscribe.framework_info.id'",
    },
    Row {
        name: "role with a dash",
        change: |c, _| subscribe(c, |s| s.framework_info.role = Some("-bad".into())),
        seen: Seen::Error,
        words: "'FrameworkInfo.role' is not a valid role: Role component '-bad' is invalid because it starts with a dash",
    },
    Row {
        name: "role with space",
        change: |c, _| subscribe(c, |s| s.framework_info.role = Some("a b".into())),
        seen: Seen::Error,
        words: "whitespace",
    },
    Row {
        name: "empty role",
        change: |c, _| subscribe(c, |s| s.framework_info.role = Some(String::new())),
        seen: Seen::Error,
        words: "Empty role name is invalid",
    },
    Row {
        name: "role and roles",
        change: |c, _| {
            subscribe(c, |s| {
                multi(&mut s.framework_info, &["a"]);
                s.framework_info.role = Some("a".into());
            })
        },
        seen: Seen::Error,
        words: "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
    },
    Row {
        name: "roles without capability",
        change: |c, _| subscribe(c, |s| s.framework_info.roles = vec!["a".into()]),
        seen: Seen::Error,
        words: "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable",
    },
    Row {
        name: "roles twice",
        change: |c, _| subscribe(c, |s| multi(&mut s.framework_info, &["a", "a"])),
        seen: Seen::Error,
        words: "'FrameworkInfo.roles' contains duplicate items: { a }",
    },
    Row {
        name: "a bad one among roles",
        change: |c, _| subscribe(c, |s| multi(&mut s.framework_info, &["a", "b//c"])),
        seen: Seen::Error,
        words: "'FrameworkInfo.roles' contains invalid role: Role 'b//c' cannot contain two adjacent",
    },
    Row {
        name: "ten thousand roles",
        change: |c, _| {
            subscribe(c, |s| {
                multi(&mut s.framework_info, &[]);
                s.framework_info.roles = (0..10_000).map(|i| format!("r{i}")).collect();
            })
        },
        seen: Seen::Error,
        words: "at most 1000 are accepted",
    },
    Row {
        name: "suppressed stranger",
        change: |c, _| subscribe(c, |s| s.suppressed_roles = vec!["zzz".into()]),
        seen: Seen::Error,
        words: "Suppressed roles { zzz } are not contained in the set of roles",
    },
    Row {
        name: "id with a slash",
        change: |c, _| subscribe(c, |s| s.framework_info.id = Some("a/b".into())),
        seen: Seen::Error,
        words: "'a/b' contains invalid characters",
    },
    Row {
        name: "over-long id",
        change: |c, _| subscribe(c, |s| s.framework_info.id = Some("x".repeat(300).into())),
        seen: Seen::Error,
        words: "ID must not be greater than 255 characters",
    },
    Row {
        name: "negative failover",
        change: |c, _| subscribe(c, |s| s.framework_info.failover_timeout = Some(-1.0)),
        seen: Seen::Error,
        words: "The framework failover_timeout (-1) is invalid",
    },
    Row {
        name: "no number of failover",
        change: |c, _| subscribe(c, |s| s.framework_info.failover_timeout = Some(f64::NAN)),
        seen: Seen::Error,
        words: "The framework failover_timeout (NaN) is invalid",
    },
    Row {
        name: "eternal failover",
        change: |c, _| subscribe(c, |s| s.framework_info.failover_timeout = Some(1e300)),
        seen: Seen::Error,
        words: "failover_timeout",
    },
    Row {
        name: "filters of a strange role",
        change: |c, _| {
            subscribe(c, |s| {
                s.framework_info
                    .offer_filters
                    .insert("zzz".into(), Default::default());
            })
        },
        seen: Seen::Error,
        words: "role 'zzz', which is not among the framework's roles",
    },
    Row {
        name: "negative filters",
        change: |c, _| {
            subscribe(c, |s| {
                let mut quantities = v1::offer_filters::ResourceQuantities::default();
                quantities
                    .quantities
                    .insert("cpus".into(), v1::value::Scalar { value: -1.0 });
                let least = v1::offer_filters::MinAllocatableResources {
                    quantities: vec![quantities],
                };
                let filters = v1::OfferFilters {
                    min_allocatable_resources: Some(least),
                };
                s.framework_info.offer_filters.insert("*".into(), filters);
            })
        },
        seen: Seen::Error,
        words: "must be a positive number",
    },
    Row {
        name: "constraints of a strange role",
        change: |c, _| subscribe(c, |s| constrained(s, "zzz", vec![])),
        seen: Seen::Error,
        words: "Offer constraints are given for role 'zzz'",
    },
    Row {
        name: "no constraint groups",
        change: |c, _| subscribe(c, |s| constrained(s, "*", vec![])),
        seen: Seen::Error,
        words: "at least one group",
    },
    Row {
        name: "an empty constraint group",
        change: |c, _| subscribe(c, |s| constrained(s, "*", vec![vec![]])),
        seen: Seen::Error,
        words: "at least one constraint",
    },
    Row {
        name: "a pattern that is none",
        change: |c, _| subscribe(c, |s| constrained(s, "*", vec![vec![predicate("(")]])),
        seen: Seen::Error,
        words: "is not a regular expression",
    },
    Row {
        name: "a pattern that explodes",
        change: |c, _| {
            subscribe(c, |s| {
                constrained(s, "*", vec![vec![predicate("(a{1000}){1000}")]])
            })
        },
        seen: Seen::Error,
        words: "too large",
    },
    Row {
        name: "too many constraints",
        change: |c, _| subscribe(c, |s| constrained(s, "*", vec![vec![predicate("a"); 1001]])),
        seen: Seen::Error,
        words: "more than 1000 constraints",
    },
    // ---- offers and tasks ----------------------------------------------------------------------------------------
    Row {
        name: "the victim's offer",
        change: |c, s| {
            accept(c, s, vec![task("steal", &s.agents[0].id, "cpus:1;mem:32")]);
            c.accept.as_mut().expect("set").offer_ids = vec![s.victims_offer.id.clone()];
        },
        seen: Seen::Update(TaskState::Dropped),
        words: "is not an offer of this framework",
    },
    Row {
        name: "both offers",
        change: |c, s| {
            accept(c, s, vec![task("steal", &s.agents[0].id, "cpus:1;mem:32")]);
            c.accept
                .as_mut()
                .expect("set")
                .offer_ids
                .push(s.victims_offer.id.clone());
        },
        seen: Seen::Update(TaskState::Dropped),
        words: "is not an offer of this framework",
    },
    Row {
        name: "an offer that never was",
        change: |c, s| {
            accept(c, s, vec![task("t", &s.agents[1].id, "cpus:1;mem:32")]);
            c.accept.as_mut().expect("set").offer_ids = vec!["nonsense".into()];
        },
        seen: Seen::Update(TaskState::Dropped),
        words: "Offer nonsense is no longer valid",
    },
    Row {
        name: "an offer spelled otherwise",
        change: |c, s| {
            accept(c, s, vec![task("t", &s.agents[1].id, "cpus:1;mem:32")]);
            let id = s.offer.id.value.replace("-O", "-O0");
            c.accept.as_mut().expect("set").offer_ids = vec![id.into()];
        },
        seen: Seen::Update(TaskState::Dropped),
        words: "is no longer valid",
    },
    Row {
        name: "no offers",
        change: |c, s| {
            accept(c, s, vec![task("t", &s.agents[1].id, "cpus:1;mem:32")]);
            c.accept.as_mut().expect("set").offer_ids.clear();
        },
        seen: Seen::Update(TaskState::Dropped),
        words: "No offers specified",
    },
    Row {
        name: "twice the same offer",
        change: |c, s| {
            accept(c, s, vec![task("t", &s.agents[1].id, "cpus:8;mem:32")]);
            c.accept
                .as_mut()
                .expect("set")
                .offer_ids
                .push(s.offer.id.clone());
        },
        seen: Seen::Update(TaskState::Dropped),
        words: "Duplicate offer",
    },
    Row {
        name: "more than offered",
        change: |c, s| accept(c, s, vec![task("t", &s.agents[1].id, "cpus:4.001;mem:32")]),
        seen: Seen::Update(TaskState::Error),
        words: "is more than available",
    },
    Row {
        name: "absurd amounts",
        change: |c, s| {
            accept(
                c,
                s,
                vec![task("t", &s.agents[1].id, "cpus:999999999999;mem:1")],
            )
        },
        seen: Seen::Update(TaskState::Error),
        words: "is more than available",
    },
    Row {
        name: "a foreign agent",
        change: |c, s| accept(c, s, vec![task("t", &s.agents[0].id, "cpus:1;mem:32")]),
        seen: Seen::Update(TaskState::Error),
        words: "Task uses invalid agent",
    },
    Row {
        name: "an id that climbs",
        change: |c, s| {
            accept(
                c,
                s,
                vec![task("../../etc", &s.agents[1].id, "cpus:1;mem:32")],
            )
        },
        seen: Seen::Update(TaskState::Error),
        words: "contains invalid characters",
    },
    Row {
        name: "reserved resources that are not",
        change: |c, s| accept(c, s, vec![task("t", &s.agents[1].id, "cpus(eng):1;mem:32")]),
        seen: Seen::Update(TaskState::Error),
        words: "is more than available",
    },
    Row {
        name: "decline of the victim's offer",
        change: |c, s| {
            c.r#type = Some(Type::Decline as i32);
            c.decline = Some(call::Decline {
                offer_ids: vec![s.victims_offer.id.clone()],
                filters: None,
            });
        },
        seen: Seen::Nothing,
        words: "",
    },
    Row {
        name: "kill of the victim's task",
        change: |c, _| {
            c.r#type = Some(Type::Kill as i32);
            c.kill = Some(call::Kill {
                task_id: "precious".into(),
                agent_id: None,
                kill_policy: None,
            });
        },
        seen: Seen::Update(TaskState::Unknown),
        words: "Task is unknown",
    },
    Row {
        name: "kill with an id that breaks the rule",
        change: |c, _| {
            c.r#type = Some(Type::Kill as i32);
            c.kill = Some(call::Kill {
                task_id: "a/b".into(),
                agent_id: Some("../x".into()),
                kill_policy: None,
            });
        },
        seen: Seen::Update(TaskState::Unknown),
        words: "Task is unknown",
    },
    Row {
        name: "message to the victim's executor",
        change: |c, s| {
            c.r#type = Some(Type::Message as i32);
            c.message = Some(call::Message {
                agent_id: s.agents[0].id.clone(),
                executor_id: "precious".into(),
                data: bytes::Bytes::new(),
            });
        },
        seen: Seen::Nothing,
        words: "",
    },
    Row {
        name: "shutdown of the victim's executor",
        change: |c, s| {
            c.r#type = Some(Type::Shutdown as i32);
            c.shutdown = Some(call::Shutdown {
                agent_id: s.agents[0].id.clone(),
                executor_id: "precious".into(),
            });
        },
        seen: Seen::Nothing,
        words: "",
    },
    Row {
        name: "acknowledgement for the victim",
        change: |c, s| {
            c.r#type = Some(Type::Acknowledge as i32);
            c.acknowledge = Some(call::Acknowledge {
                agent_id: "nobody".into(),
                task_id: "precious".into(),
                uuid: bytes::Bytes::copy_from_slice(&uuid("precious", TaskState::Running)),
            });
            let _ = s;
        },
        seen: Seen::Nothing,
        words: "",
    },
];
