//! A run's attempt as the cluster is to see it.

use mezzo_model::time::Millis;
use mezzo_wire::v1;

use super::job::{Command, JobSpec};
use super::run::{Attempt, Run};

/// The task of an attempt.
pub fn info(run: &Run, attempt: &Attempt, resources: Vec<v1::Resource>) -> v1::TaskInfo {
    let spec = &run.spec;
    let grace = spec.run.kill_grace_s.map(|seconds| v1::KillPolicy {
        grace_period: Some(duration(seconds)),
    });
    v1::TaskInfo {
        name: run.key.job.as_str().to_owned(),
        task_id: attempt.task.to_wire(),
        agent_id: attempt.agent.to_wire(),
        resources,
        command: Some(command(run)),
        kill_policy: grace,
        labels: labels(spec),
        max_completion_time: spec.beyond.max_run_s.map(duration),
        ..Default::default()
    }
}

/// About how many bytes the description of a task has.
pub fn size(spec: &JobSpec) -> usize {
    let map = |map: &std::collections::BTreeMap<String, String>| {
        map.iter()
            .map(|(name, value)| name.len() + value.len() + 12)
            .sum::<usize>()
    };
    let command = match &spec.run.command {
        Command::Shell(line) => line.len(),
        Command::Exec(words) => words.iter().map(|word| word.len() + 4).sum(),
    };
    1024 + command + map(&spec.run.env) + map(&spec.labels)
}

/// How gently a task of the job is to be ended.
pub fn kill_policy(spec: &JobSpec) -> Option<v1::KillPolicy> {
    spec.run.kill_grace_s.map(|seconds| v1::KillPolicy {
        grace_period: Some(duration(seconds)),
    })
}

fn command(run: &Run) -> v1::CommandInfo {
    let spec = &run.spec.run;
    let (shell, value, arguments) = match &spec.command {
        Command::Shell(line) => (true, line.clone(), Vec::new()),
        Command::Exec(words) => (
            false,
            words.first().cloned().unwrap_or_default(),
            words.clone(),
        ),
    };
    v1::CommandInfo {
        environment: Some(environment(run)),
        shell: Some(shell),
        value: Some(value),
        arguments,
        user: spec.user.clone(),
        ..Default::default()
    }
}

/// The job's own variables, and ours where it has none of that name.
fn environment(run: &Run) -> v1::Environment {
    let mut entries = run.spec.run.env.clone();
    for (name, value) in [
        ("MEZZO_JOB_ID", run.key.job.to_string()),
        ("MEZZO_RUN_ID", run.key.run.to_string()),
        ("MEZZO_ATTEMPT", run.attempts.to_string()),
    ] {
        entries.entry(name.to_owned()).or_insert(value);
    }
    let variable = |(name, value)| v1::environment::Variable {
        name,
        value: Some(value),
        ..Default::default()
    };
    v1::Environment {
        variables: entries.into_iter().map(variable).collect(),
    }
}

fn labels(spec: &JobSpec) -> Option<v1::Labels> {
    if spec.labels.is_empty() {
        return None;
    }
    let label = |(key, value): (&String, &String)| v1::Label {
        key: key.clone(),
        value: Some(value.clone()),
    };
    Some(v1::Labels {
        labels: spec.labels.iter().map(label).collect(),
    })
}

fn duration(seconds: u64) -> v1::DurationInfo {
    let nanoseconds = i64::try_from(Millis::from_secs(seconds).0.saturating_mul(1_000_000));
    v1::DurationInfo {
        nanoseconds: nanoseconds.unwrap_or(i64::MAX),
    }
}
