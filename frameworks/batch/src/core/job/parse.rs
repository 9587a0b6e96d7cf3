//! JSON to [`JobSpec`]: Metronome's schema, strictly, and what of it is served so far.
//!
//! A field that is not served yet is refused by name unless it says what its absence says, so that every document
//! that is accepted is carried out in full.

use std::collections::BTreeMap;

use mezzo_model::resources::Milli;
use serde_json::{Value, json};

use super::reader::{Errors, MAX_TEXT_BYTES, Object, kind, text};
use super::{
    Beyond, Command, FieldError, JobId, JobSpec, Need, Restart, RestartPolicy, Retries, RunSpec,
};

/// The pause before a failed attempt is repeated is at most so long where nothing is said, in seconds.
pub const DEFAULT_MAX_LAUNCH_DELAY_S: u64 = 3600;

/// All texts of a spec together, in bytes: what is launched with hundreds of others in one message.
pub const MAX_SPEC_BYTES: usize = 256 * 1024;

/// Times in specs, in seconds: ten years.
const MAX_SECONDS: u64 = 315_360_000;

/// Amounts in specs. Beyond any machine, far below what thousandths in 64 bits hold.
const MAX_AMOUNT: f64 = 1e9;

/// The fields that a document may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Metronome's own: `/v1`.
    Metronome,
    /// Metronome's and ours: `/v2`, and the store.
    Mezzo,
}

/// Reads a job.
///
/// `path_id` is the id of the address that the document was sent to: it takes the place of the document's own,
/// which must be there all the same.
///
/// # Errors
/// Everything that is wrong with the document, in the order of its fields.
pub fn job(
    document: &Value,
    dialect: Dialect,
    path_id: Option<&JobId>,
) -> Result<JobSpec, Vec<FieldError>> {
    let mut errors = Errors::default();
    let spec = read_job(document, dialect, path_id, &mut errors);
    match spec {
        Some(spec) if errors.is_empty() => Ok(spec),
        _ => Err(errors.into_vec()),
    }
}

fn read_job(
    document: &Value,
    dialect: Dialect,
    path_id: Option<&JobId>,
    errors: &mut Errors,
) -> Option<JobSpec> {
    let mut top = Object::new("", document, errors)?;
    let id = match top.required("id", errors) {
        Some(value) => {
            text("/id", value, errors).and_then(|id| match (path_id, JobId::parse(id)) {
                (Some(path_id), _) => Some(path_id.clone()),
                (None, Ok(id)) => Some(id),
                (None, Err(error)) => {
                    errors.add("/id", error.to_string());
                    None
                }
            })
        }
        None => None,
    };
    let description = top.text("description", errors).map(str::to_owned);
    let labels = top.texts("labels", errors);
    top.not_served("dependencies", &[json!([])], errors);
    top.not_served("schedules", &[json!([])], errors);
    let run = top.required("run", errors).and_then(|run| {
        let run = Object::new("/run", run, errors)?;
        read_run(run, dialect, errors)
    });
    top.finish(errors);
    let (run, beyond) = run?;
    let spec = JobSpec {
        id: id?,
        description,
        labels,
        run,
        beyond,
    };
    let bytes = bytes_of(&spec);
    if bytes > MAX_SPEC_BYTES {
        let words = format!(
            "the texts of the job are {bytes} bytes, at most {MAX_SPEC_BYTES} are possible"
        );
        errors.add("/", words);
    }
    Some(spec)
}

fn read_run(
    mut run: Object<'_>,
    dialect: Dialect,
    errors: &mut Errors,
) -> Option<(RunSpec, Beyond)> {
    for name in ["cpus", "mem", "disk"] {
        run.required(name, errors);
    }
    let cpus = run.amount("cpus", 0.01, MAX_AMOUNT, errors);
    let mem = run.amount("mem", 32.0, MAX_AMOUNT, errors);
    let disk = run.amount("disk", 0.0, MAX_AMOUNT, errors);
    refuse_gpus(&mut run, errors);
    let command = read_command(&mut run, errors);
    let user = run.text("user", errors).map(str::to_owned);
    if user.as_deref().is_some_and(|user| !is_user(user)) {
        errors.add(
            "/run/user",
            "must be the name of a user: 1 to 32 characters, no blanks, no ':' or '/'",
        );
    }
    let env = read_env(&mut run, errors);
    let max_launch_delay_s = run
        .whole("maxLaunchDelay", 1, MAX_SECONDS, errors)
        .unwrap_or(DEFAULT_MAX_LAUNCH_DELAY_S);
    let restart = read_restart(&mut run, errors);
    let kill_grace_s = run.whole("taskKillGracePeriodSeconds", 0, MAX_SECONDS, errors);
    refuse_unserved(&mut run, errors);
    let beyond = match dialect {
        Dialect::Metronome => Beyond::default(),
        Dialect::Mezzo => Beyond {
            retries: read_retries(&mut run, errors),
            max_run_s: run.whole("maxRunSeconds", 1, MAX_SECONDS, errors),
        },
    };
    run.finish(errors);
    let need = Need {
        cpus: cpus?,
        mem: mem?,
        disk: disk?,
    };
    let run = RunSpec {
        need,
        command: command?,
        user,
        env,
        max_launch_delay_s,
        restart,
        kill_grace_s,
    };
    Some((run, beyond))
}

fn refuse_gpus(run: &mut Object<'_>, errors: &mut Errors) {
    if let Some(value) = run.value("gpus")
        && value.as_f64() != Some(0.0)
    {
        errors.add(
            "/run/gpus",
            "gpus are not served yet; leave it out or give 0",
        );
    }
}

fn refuse_unserved(run: &mut Object<'_>, errors: &mut Errors) {
    let empty_list = [json!([])];
    let empty_map = [json!({})];
    run.not_served("docker", &[], errors);
    run.not_served("ucr", &[], errors);
    run.not_served("volumes", &empty_list, errors);
    run.not_served("artifacts", &empty_list, errors);
    run.not_served("networks", &[json!([]), json!([{"mode": "host"}])], errors);
    run.not_served("secrets", &empty_map, errors);
    if let Some(mut placement) = run.object("placement", errors) {
        placement.not_served("constraints", &empty_list, errors);
        placement.finish(errors);
    }
}

fn read_command(run: &mut Object<'_>, errors: &mut Errors) -> Option<Command> {
    let cmd = run.text("cmd", errors);
    let has_cmd = run.value("cmd").is_some();
    let args = run.value("args");
    match args {
        Some(_) if has_cmd => {
            errors.add(
                "/run/args",
                "give cmd (a line for the shell) or args (a program and its arguments), not both",
            );
            None
        }
        Some(Value::Array(words)) if words.is_empty() => {
            errors.add(
                "/run/args",
                "must not be empty: the first entry is the program",
            );
            None
        }
        Some(Value::Array(words)) => {
            let words: Vec<Option<&str>> = words
                .iter()
                .enumerate()
                .map(|(index, word)| text(&format!("/run/args/{index}"), word, errors))
                .collect();
            let words: Option<Vec<String>> = words
                .into_iter()
                .map(|word| word.map(str::to_owned))
                .collect();
            let words = words?;
            if words.first().is_some_and(String::is_empty) {
                errors.add("/run/args/0", "must not be empty: it is the program");
                return None;
            }
            Some(Command::Exec(words))
        }
        Some(other) => {
            errors.add(
                "/run/args",
                format!("must be an array of texts, not {}", kind(other)),
            );
            None
        }
        None if !has_cmd => {
            errors.add(
                "/run",
                "needs cmd (a line for the shell) or args (a program and its arguments)",
            );
            None
        }
        None => {
            let cmd = cmd?;
            if cmd.trim().is_empty() {
                errors.add("/run/cmd", "must not be empty");
                return None;
            }
            Some(Command::Shell(cmd.to_owned()))
        }
    }
}

fn read_env(run: &mut Object<'_>, errors: &mut Errors) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let entries = match run.value("env") {
        None => return env,
        Some(Value::Object(entries)) => entries,
        Some(other) => {
            errors.add(
                "/run/env",
                format!("must be an object of texts, not {}", kind(other)),
            );
            return env;
        }
    };
    for (name, value) in entries {
        let shown: String = name.chars().take(100).collect();
        let path = format!("/run/env/{}", shown.replace('~', "~0").replace('/', "~1"));
        if name.is_empty() || name.contains(['=', '\0']) || name.len() > MAX_TEXT_BYTES {
            errors.add(
                path,
                "is no name for an environment variable: not empty, no '=', no NUL",
            );
            continue;
        }
        if value.get("secret").is_some() {
            errors.add(path, "secrets are not served yet; give the value itself");
            continue;
        }
        if let Some(value) = text(&path, value, errors) {
            env.insert(name.clone(), value.to_owned());
        }
    }
    env
}

fn read_restart(run: &mut Object<'_>, errors: &mut Errors) -> Restart {
    let never = Restart {
        policy: RestartPolicy::Never,
        active_deadline_s: None,
    };
    let Some(mut restart) = run.object("restart", errors) else {
        return never;
    };
    let policy = match restart.required("policy", errors).map(Value::as_str) {
        Some(Some("ON_FAILURE")) => RestartPolicy::OnFailure,
        Some(Some("NEVER")) | None => RestartPolicy::Never,
        Some(_) => {
            errors.add("/run/restart/policy", "must be NEVER or ON_FAILURE");
            RestartPolicy::Never
        }
    };
    let active_deadline_s = restart.whole("activeDeadlineSeconds", 1, MAX_SECONDS, errors);
    restart.finish(errors);
    Restart {
        policy,
        active_deadline_s,
    }
}

fn read_retries(run: &mut Object<'_>, errors: &mut Errors) -> Option<Retries> {
    let mut retries = run.object("retries", errors)?;
    retries.required("count", errors);
    let count = retries.whole("count", 0, 10_000, errors);
    let backoff_s = retries
        .whole("backoffSeconds", 0, MAX_SECONDS, errors)
        .unwrap_or(1);
    let backoff_factor = retries
        .amount("backoffFactor", 1.0, 100.0, errors)
        .unwrap_or(Milli(2000));
    let max_backoff_s = retries
        .whole("maxBackoffSeconds", 0, MAX_SECONDS, errors)
        .unwrap_or(300);
    retries.finish(errors);
    let count = u32::try_from(count?).ok()?;
    Some(Retries {
        count,
        backoff_s,
        backoff_factor,
        max_backoff_s,
    })
}

fn is_user(name: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == ':' || c == '/';
    (1..=32).contains(&name.len()) && !name.starts_with('-') && !name.contains(forbidden)
}

fn bytes_of(spec: &JobSpec) -> usize {
    let map = |map: &BTreeMap<String, String>| {
        map.iter()
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
    };
    let command = match &spec.run.command {
        Command::Shell(line) => line.len(),
        Command::Exec(words) => words.iter().map(String::len).sum(),
    };
    command
        + map(&spec.labels)
        + map(&spec.run.env)
        + spec.description.as_ref().map_or(0, String::len)
}
