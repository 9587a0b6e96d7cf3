//! The command line: what it takes, and what it says.

use std::ffi::OsString;

use crate::args::{self, Cli, Command};
use crate::local;
use crate::ops::{AppCommand, JobCommand};
use crate::output::Format;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("mezzo").chain(line.split_whitespace());
    args::read(words.map(OsString::from))
}

#[test]
fn the_command_line_is_consistent() {
    args::command().debug_assert();
}

#[test]
fn every_command_of_the_first_slice_is_there() {
    for line in [
        "status",
        "status --output json",
        "status --credential /etc/mezzo/credential",
        "agents -o json",
        "frameworks --master=zk://h:2181/mezzo",
        "tasks --all web",
        "app deploy a.json b.json --force --no_wait",
        "app deploy - --timeout 5",
        "app list --service h:8080",
        "app scale /web 3",
        "app kill /web --force",
        "job run sum --wait",
        "job run sum.json --batch h:9000",
        "job list -o json",
        "logs -f web",
        "logs --tail 10 web",
        "logs -n 10 web --file trace.txt",
        "local",
        "local a.json b.json --agents 3 --work-dir /x",
        "local --containerizer process --resources cpus:1;mem:64",
        "master --port=0 --work_dir=/x",
        "agent --master=h:5050 --work-dir=/x",
        "service --master=h:5050",
        "batch --zk=zk://h/batch --mesos_user=me",
        "hello --port 0",
        "completions bash",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (line, words) in [
        ("", "Usage"),
        ("fly", "unrecognized subcommand 'fly'"),
        ("app deploy", "<FILE>"),
        ("app scale /web many", "invalid value 'many'"),
        ("app scale /web -1", "unexpected argument"),
        ("status --output xml", "possible values: table, json"),
        ("local --agents 0", "0 is not in 1..=64"),
        ("local --agents 65", "65 is not in 1..=64"),
        (
            "local --containerizer docker",
            "possible values: auto, process, oci",
        ),
        ("logs", "<TASK>"),
        ("job run", "<JOB|FILE>"),
        ("status --principal ann", "--secret_file"),
        (
            "status --credential f --principal ann --secret_file g",
            "cannot be used with",
        ),
        ("master --port=70000", "70000 is not in 0..=65535"),
        ("master --log_format=xml", "possible values: text, json"),
        ("master --log_level=a=b=c", "invalid value"),
        ("batch --zk_session_timeout=soon", "not a duration"),
        ("completions dos", "possible values"),
    ] {
        let refused = parse(line).expect_err(line).to_string();
        assert!(refused.contains(words), "{line}: {refused}");
    }
}

#[test]
fn flags_come_from_the_command_line() {
    let Ok(Cli {
        command: Command::Local(flags),
    }) = parse("local x.json --agents 2")
    else {
        panic!("local");
    };
    let local::Flags { files, agents, .. } = *flags;
    assert_eq!((files.len(), agents), (1, 2));
    let Ok(Cli {
        command: Command::App(AppCommand::Scale { id, instances, .. }),
    }) = parse("app scale /a 3")
    else {
        panic!("scale");
    };
    assert_eq!((id.as_str(), instances), ("/a", 3));
    let Ok(Cli {
        command: Command::Job(JobCommand::Run {
            what, wait, place, ..
        }),
    }) = parse("job run sum -w -o json")
    else {
        panic!("run");
    };
    assert_eq!(
        (what.as_str(), wait, place.output),
        ("sum", true, Format::Json)
    );
}

#[test]
fn every_command_and_flag_is_explained() {
    fn look(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path} is not explained");
        for flag in command.get_arguments() {
            assert!(
                flag.get_help().is_some(),
                "{path}: {} is not explained",
                flag.get_id()
            );
        }
        for below in command.get_subcommands() {
            look(below, &path);
        }
    }
    look(&args::command(), "");
}

#[test]
fn the_help_lists_what_there_is() {
    let help = args::command().render_help().to_string();
    for name in [
        "local",
        "status",
        "agents",
        "frameworks",
        "tasks",
        "app",
        "job",
        "logs",
        "master",
        "agent",
        "service",
        "batch",
        "hello",
        "completions",
        "examples/hello.json",
    ] {
        assert!(help.contains(name), "{name}: {help}");
    }
}

#[test]
fn every_daemon_flag_has_its_environment() {
    let cli = args::command();
    for (daemon, prefix) in [
        ("master", "MEZZO_MASTER_"),
        ("agent", "MEZZO_AGENT_"),
        ("service", "MEZZO_SERVICE_"),
        ("batch", "MEZZO_BATCH_"),
        ("local", "MEZZO_LOCAL_"),
    ] {
        let command = cli.find_subcommand(daemon).expect("a daemon");
        for flag in command.get_arguments() {
            let id = flag.get_id().as_str();
            // The files of `mezzo local` are no flag.
            if matches!(id, "help" | "version" | "files") {
                continue;
            }
            let env = flag
                .get_env()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            assert!(
                env.starts_with(prefix),
                "{daemon} --{id} has the environment {env:?}"
            );
            assert_eq!(env, format!("{prefix}{}", id.to_ascii_uppercase()));
            let long = flag.get_long().unwrap_or_default();
            let with_dashes = long.replace('_', "-");
            let known = flag.get_all_aliases().unwrap_or_default();
            assert!(
                !long.contains('_') || known.contains(&with_dashes.as_str()),
                "{daemon} --{long}"
            );
        }
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let Ok(Cli {
            command: Command::Completions { shell: known },
        }) = parse(&format!("completions {shell}"))
        else {
            panic!("{shell}");
        };
        let mut script = Vec::new();
        clap_complete::generate(known, &mut args::command(), "mezzo", &mut script);
        let script = String::from_utf8(script).expect("text");
        assert!(
            script.contains("mezzo") && script.contains("deploy"),
            "{shell}"
        );
    }
}
