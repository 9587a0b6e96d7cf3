//! Where the daemons are that a command talks to: what a flag or the environment says, else a running `mezzo local`
//! of this user, else the usual ports of this machine.

use std::path::{Path, PathBuf};

use mezzo_model::credentials::{Credentials, basic_header};

use crate::context::{self, Context};
use crate::failure::Failure;
use crate::output::Format;

/// Flags that every command has which talks to a running cluster.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Where the cluster is")]
pub struct Where {
    /// The masters: host:port of one of them, zk://host:port/path or file:///directory [default: a running `mezzo
    /// local`, else 127.0.0.1:5050]
    #[arg(
        long,
        env = "MEZZO_MASTER",
        hide_env_values = true,
        value_name = "WHERE"
    )]
    pub master: Option<String>,

    /// The service framework: host:port [default: a running `mezzo local`, else 127.0.0.1:8080]
    #[arg(long, env = "MEZZO_SERVICE", value_name = "HOST:PORT")]
    pub service: Option<String>,

    /// The batch framework: host:port [default: a running `mezzo local`, else 127.0.0.1:9000]
    #[arg(long, env = "MEZZO_BATCH", value_name = "HOST:PORT")]
    pub batch: Option<String>,

    /// A file with your name and your secret, where the cluster asks for them: one line `name secret`
    #[arg(
        long,
        env = "MEZZO_CREDENTIAL",
        conflicts_with_all = ["principal", "secret_file"],
        value_name = "FILE"
    )]
    pub credential: Option<PathBuf>,

    /// Your name, instead of --credential.
    #[arg(
        long,
        env = "MEZZO_PRINCIPAL",
        requires = "secret_file",
        value_name = "NAME"
    )]
    pub principal: Option<String>,

    /// A file with your secret.
    #[arg(
        long = "secret_file",
        alias = "secret-file",
        env = "MEZZO_SECRET_FILE",
        requires = "principal",
        value_name = "FILE"
    )]
    pub secret_file: Option<PathBuf>,

    /// The form of the answer.
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// Where the daemons are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The masters: `host:port`, `zk://` or `file://`.
    pub master: String,
    /// The service framework: `host:port`.
    pub service: String,
    /// The batch framework: `host:port`.
    pub batch: String,
    /// The value of the header that says who asks.
    pub authorization: Option<String>,
}

impl Where {
    /// What was said, and the rest from what there is.
    ///
    /// # Errors
    /// If the secret cannot be read.
    pub fn endpoints(&self) -> Result<Endpoints, Failure> {
        self.with(Context::read(&context::path()).as_ref())
    }

    fn with(&self, context: Option<&Context>) -> Result<Endpoints, Failure> {
        let pick = |given: &Option<String>, found: Option<&String>, usual: &str| {
            given
                .clone()
                .or_else(|| found.cloned())
                .unwrap_or_else(|| usual.to_owned())
        };
        let authorization = match (&self.credential, &self.principal, &self.secret_file) {
            (Some(file), ..) => Some(one_credential(file)?),
            (None, Some(principal), Some(file)) => {
                let secret = read(file)?;
                let secret = secret.trim_end_matches(['\r', '\n']);
                Some(basic_header(principal, secret))
            }
            _ => None,
        };
        Ok(Endpoints {
            master: pick(
                &self.master,
                context.map(|found| &found.master),
                "127.0.0.1:5050",
            ),
            service: pick(
                &self.service,
                context.map(|found| &found.service),
                "127.0.0.1:8080",
            ),
            batch: pick(
                &self.batch,
                context.map(|found| &found.batch),
                "127.0.0.1:9000",
            ),
            authorization,
        })
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|source| Failure::File {
        path: file.to_owned(),
        source,
    })
}

/// The header for the one name and secret of a file of credentials.
fn one_credential(file: &Path) -> Result<String, Failure> {
    let wrong = |words: String| Failure::Document {
        path: file.to_owned(),
        words,
    };
    match Credentials::only_pair(&read(file)?).map_err(|error| wrong(error.to_string()))? {
        Some((principal, secret)) => Ok(basic_header(&principal, &secret)),
        None => Err(wrong(
            "holds more than one name; say which: --principal=NAME and --secret_file=FILE"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Where {
        Where {
            master: None,
            service: None,
            batch: None,
            credential: None,
            principal: None,
            secret_file: None,
            output: Format::Table,
        }
    }

    #[test]
    fn what_was_said_counts_more_than_what_was_found() {
        let found = Context::of_this_process("a:1".to_owned(), "b:2".to_owned(), "c:3".to_owned());
        let given = Where {
            service: Some("x:9".to_owned()),
            ..nothing()
        };
        let places = given.with(Some(&found)).expect("no secret to read");
        assert_eq!(
            (
                places.master.as_str(),
                places.service.as_str(),
                places.batch.as_str()
            ),
            ("a:1", "x:9", "c:3")
        );
        let places = given.with(None).expect("no secret to read");
        assert_eq!(
            (places.master.as_str(), places.batch.as_str()),
            ("127.0.0.1:5050", "127.0.0.1:9000")
        );
    }

    #[test]
    fn a_secret_comes_from_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("secret");
        std::fs::write(&file, "s\n").expect("writes");
        let given = Where {
            principal: Some("ann".to_owned()),
            secret_file: Some(file),
            ..nothing()
        };
        let places = given.with(None).expect("reads");
        assert_eq!(places.authorization.as_deref(), Some("Basic YW5uOnM="));
        let missing = Where {
            secret_file: Some(PathBuf::from("/does/not/exist")),
            ..given
        };
        assert!(
            missing
                .with(None)
                .expect_err("missing")
                .to_string()
                .contains("/does/not/exist")
        );
    }

    #[test]
    fn a_name_and_its_secret_come_from_one_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("credential");
        let given = Where {
            credential: Some(file.clone()),
            ..nothing()
        };
        std::fs::write(&file, "ann s\n").expect("writes");
        let places = given.with(None).expect("reads");
        assert_eq!(places.authorization.as_deref(), Some("Basic YW5uOnM="));
        for (text, words) in [
            ("ann s\nbob hidden\n", "more than one name"),
            ("ann hidden more", "line 1"),
            ("", "no entry"),
        ] {
            std::fs::write(&file, text).expect("writes");
            let refused = given.with(None).expect_err(text).to_string();
            assert!(
                refused.contains(words) && !refused.contains("hidden"),
                "{refused}"
            );
        }
    }
}
