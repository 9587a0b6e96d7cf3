//! Offers: how many runs go into one, and what is not kept from others.

use mezzo_model::task_state::TaskState::{Finished, Running};
use mezzo_model::time::Millis;
use serde_json::json;

use crate::core::testing::{Env, job_id};
use crate::core::{Call, Config};

#[test]
fn an_idle_framework_wants_nothing_and_gives_everything_back_at_once() {
    let mut env = Env::new();
    let offer = env.offer("cpus:64;mem:64000");
    env.expect_decline(&offer);
    env.finish();
}

#[test]
fn many_runs_go_into_one_offer_with_one_accept_and_few_commits() {
    let mut env = Env::new();
    env.job("j", json!({"cpus": 0.1}));
    env.slow = true;
    for _ in 0..500 {
        env.ask(Call::StartRun { job: job_id("j") });
    }
    env.expect_demand(true);
    env.commit();
    env.commit();
    assert_eq!(env.replies.len(), 500);
    env.replies.clear();
    let offer = env.offer("cpus:40;mem:64000");
    env.commit();
    let (launched, refuse) = env.expect_accept(&offer);
    assert_eq!((launched.len(), refuse), (400, 5.0));
    let commits = env.core.totals().commits;
    for one in &launched {
        env.update(&one.task, Running);
    }
    env.commit();
    env.commit();
    for one in &launched {
        env.update(&one.task, Finished);
    }
    env.commit();
    env.commit();
    assert_eq!(env.core.totals().commits - commits, 4);
    assert_eq!(env.commands.len(), 800, "each acknowledged twice");
    let order: Vec<&str> = launched.iter().map(|one| one.task.as_str()).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 400, "no task twice");
}

#[test]
fn an_offer_with_room_for_more_than_one_accept_comes_back_at_once() {
    let mut env = Env::with(Config {
        max_tasks_per_offer: 2,
        ..Config::default()
    });
    env.subscribe();
    env.job("j", json!({"cpus": 0.1}));
    env.start_wanted("j");
    env.start("j");
    env.start("j");
    let offer = env.offer("cpus:40;mem:64000");
    let (launched, refuse) = env.expect_accept(&offer);
    assert_eq!((launched.len(), refuse), (2, 0.0));
    let offer = env.offer("cpus:39;mem:63000");
    env.expect_demand(false);
    assert_eq!(env.expect_accept(&offer).0.len(), 1);
    env.finish();
}

#[test]
fn a_large_run_does_not_hold_up_small_ones() {
    let mut env = Env::new();
    env.job("large", json!({"cpus": 8}));
    env.job("small", json!({"cpus": 0.5}));
    env.start_wanted("large");
    let offer = env.offer("cpus:4;mem:1000");
    env.expect_decline(&offer);
    env.pass(Millis(100));
    env.start("small");
    env.expect_demand(true);
    let offer = env.offer("cpus:4;mem:1000");
    let (launched, _) = env.expect_accept(&offer);
    assert_eq!(launched[0].info.name, "small");
    let offer = env.offer("cpus:8;mem:1000");
    env.expect_demand(false);
    assert_eq!(env.expect_accept(&offer).0[0].info.name, "large");
    env.finish();
}

#[test]
fn declined_offers_are_asked_for_again_only_for_a_run_that_may_fit() {
    let mut env = Env::new();
    env.job("large", json!({"cpus": 8}));
    env.job("larger", json!({"cpus": 9, "mem": 64}));
    env.job("small", json!({"cpus": 0.5}));
    env.start_wanted("large");
    let offer = env.offer("cpus:4;mem:1000");
    env.expect_decline(&offer);
    env.start("larger");
    env.start("large");
    assert!(
        env.commands.is_empty(),
        "they cannot fit where the first does not"
    );
    env.start("small");
    assert!(env.commands.is_empty(), "asked a moment ago");
    env.pass(Millis(100));
    env.expect_demand(true);
    env.start("small");
    assert!(env.commands.is_empty(), "offers for it are on their way");
    env.finish();
}

#[test]
fn reserved_resources_go_first() {
    let mut env = Env::new();
    env.job("j", json!({"cpus": 2}));
    env.start_wanted("j");
    let offer = env.offer("cpus:4;cpus(batch):1.5;mem:32");
    env.expect_demand(false);
    let (launched, _) = env.expect_accept(&offer);
    let cpus: Vec<(usize, f64)> = launched[0]
        .info
        .resources
        .iter()
        .filter(|resource| resource.name == "cpus")
        .map(|resource| {
            (
                resource.reservations.len(),
                resource.scalar.map_or(0.0, |scalar| scalar.value),
            )
        })
        .collect();
    assert_eq!(cpus, [(1, 1.5), (0, 0.5)]);
    env.finish();
}
