//! [`JobSpec`] to JSON, all defaults filled in, in a form that [`parse`](super::parse) reads back to the same spec.

use mezzo_model::resources::Milli;
use serde_json::{Map, Number, Value, json};

use super::parse::Dialect;
use super::{Command, JobSpec, RestartPolicy};

/// A job in Metronome's JSON, or in ours, which has `run.retries` and `run.maxRunSeconds` besides.
pub fn job(spec: &JobSpec, dialect: Dialect) -> Value {
    let mut top = Map::new();
    top.insert("id".into(), spec.id.as_str().into());
    if let Some(description) = &spec.description {
        top.insert("description".into(), description.as_str().into());
    }
    top.insert("dependencies".into(), json!([]));
    top.insert("labels".into(), json!(spec.labels));
    top.insert("run".into(), run(spec, dialect));
    top.insert("schedules".into(), json!([]));
    Value::Object(top)
}

fn run(spec: &JobSpec, dialect: Dialect) -> Value {
    let run = &spec.run;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.into(), value);
    put("cpus", number(run.need.cpus));
    put("mem", number(run.need.mem));
    put("disk", number(run.need.disk));
    put("gpus", json!(0));
    match &run.command {
        Command::Shell(line) => put("cmd", line.as_str().into()),
        Command::Exec(words) => put("args", json!(words)),
    };
    if let Some(user) = &run.user {
        put("user", user.as_str().into());
    }
    put("env", json!(run.env));
    put("secrets", json!({}));
    put("placement", json!({"constraints": []}));
    put("artifacts", json!([]));
    put("maxLaunchDelay", run.max_launch_delay_s.into());
    put("volumes", json!([]));
    put("networks", json!([]));
    put("restart", restart(spec));
    if let Some(grace) = run.kill_grace_s {
        put("taskKillGracePeriodSeconds", grace.into());
    }
    if dialect == Dialect::Mezzo {
        if let Some(retries) = &spec.beyond.retries {
            let value = json!({
                "count": retries.count,
                "backoffSeconds": retries.backoff_s,
                "backoffFactor": number(retries.backoff_factor),
                "maxBackoffSeconds": retries.max_backoff_s,
            });
            put("retries", value);
        }
        if let Some(limit) = spec.beyond.max_run_s {
            put("maxRunSeconds", limit.into());
        }
    }
    Value::Object(fields)
}

fn restart(spec: &JobSpec) -> Value {
    let policy = match spec.run.restart.policy {
        RestartPolicy::Never => "NEVER",
        RestartPolicy::OnFailure => "ON_FAILURE",
    };
    let mut fields = Map::new();
    fields.insert("policy".into(), policy.into());
    if let Some(deadline) = spec.run.restart.active_deadline_s {
        fields.insert("activeDeadlineSeconds".into(), deadline.into());
    }
    Value::Object(fields)
}

/// Thousandths as a number: whole ones without a fraction, because clients of Metronome read `mem` and `disk` as
/// integers and refuse `128.0`.
pub fn number(amount: Milli) -> Value {
    if amount.0 % 1000 == 0 {
        return Value::from(amount.0 / 1000);
    }
    // Amounts of specs are below 2^53 thousandths, so this is the nearest double, which prints as it was given.
    #[allow(clippy::cast_precision_loss)]
    Number::from_f64(amount.0 as f64 / 1000.0).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parse;
    use super::*;

    fn sample(cpus: i64, grace: Option<u64>, retries: bool, args: bool) -> Value {
        let mut run = json!({
            "cpus": cpus as f64 / 1000.0, "mem": 128.0, "disk": 0, "env": {"A": "b", "C=": "x"},
            "restart": {"policy": "ON_FAILURE", "activeDeadlineSeconds": 60},
        });
        run["env"] = json!({"A": "b"});
        if args {
            run["args"] = json!(["/bin/echo", "a b"]);
        } else {
            run["cmd"] = json!("echo hello");
        }
        if let Some(grace) = grace {
            run["taskKillGracePeriodSeconds"] = json!(grace);
        }
        if retries {
            run["retries"] = json!({"count": 3, "backoffFactor": 1.5});
            run["maxRunSeconds"] = json!(9);
        }
        json!({"id": "a.b", "description": "d", "labels": {"x": "y"}, "run": run})
    }

    #[test]
    fn whole_amounts_have_no_fraction() {
        assert_eq!(number(Milli(128_000)).to_string(), "128");
        assert_eq!(number(Milli(10)).to_string(), "0.01");
        assert_eq!(number(Milli(0)).to_string(), "0");
    }

    #[test]
    fn metronomes_dialect_hides_what_is_ours() {
        let spec = parse::job(&sample(500, None, true, false), Dialect::Mezzo, None).expect("good");
        let shown = job(&spec, Dialect::Metronome);
        assert!(shown["run"].get("retries").is_none());
        assert!(parse::job(&shown, Dialect::Metronome, None).is_ok());
        assert!(parse::job(&job(&spec, Dialect::Mezzo), Dialect::Metronome, None).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_to_the_same(
            cpus in 10_i64..10_000_000, grace in proptest::option::of(0_u64..1000), retries: bool, args: bool,
        ) {
            let spec = parse::job(&sample(cpus, grace, retries, args), Dialect::Mezzo, None).expect("good");
            let shown = job(&spec, Dialect::Mezzo);
            prop_assert_eq!(parse::job(&shown, Dialect::Mezzo, None), Ok(spec));
        }
    }
}
