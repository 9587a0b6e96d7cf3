//! A Python program that takes orders and tells what happens, both as lines of JSON.
//!
//! Invariant: it ends with the test, however that ends.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Nothing here takes long; a bound that is hit means that it never came.
const BOUND: Duration = Duration::from_secs(90);

/// The interpreter with the clients that `./test` installs beside the build; `None` where it did not.
pub fn interpreter(binary: &Path) -> Option<PathBuf> {
    // target/debug/mezzo-under-test -> target/interop/bin/python
    let home = binary.parent()?.parent()?.join("interop");
    // The list of what was installed is written last.
    home.join("clients")
        .exists()
        .then(|| home.join("bin/python"))
}

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    orders: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<Value>,
    told: Vec<Value>,
    log: PathBuf,
}

impl Program {
    /// Starts a script of this folder; its error output goes to `dir/NAME.log`.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(
        python: &Path,
        script: &str,
        dir: &Path,
        name: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/interop")
            .join(script);
        // setpriv(1) sets the parent-death signal and then becomes the interpreter.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let orders = child.stdin.take();
        let output = child.stdout.take().context("no output")?;
        let (teller, lines) = mpsc::unbounded_channel();
        // Ends with the program's output, or with the first line that nobody takes.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let told = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if teller.send(told).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            orders,
            lines,
            told: Vec::new(),
            log,
        })
    }

    /// Gives an order. The number of events so far comes back, to look only at those after it.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn order(&mut self, order: &Value) -> anyhow::Result<usize> {
        let orders = self
            .orders
            .as_mut()
            .context("it takes no orders any more")?;
        writeln!(orders, "{order}").with_context(|| format!("{} has ended", self.name))?;
        Ok(self.told.len())
    }

    /// The first event from the given number on that is the one.
    ///
    /// # Errors
    /// If it does not come in time, or the program ends; all that was told since is in the words.
    pub async fn until(
        &mut self,
        since: usize,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + BOUND;
        let mut at = since;
        loop {
            if let Some(event) = self.told[at..].iter().find(|event| is_it(event)) {
                return Ok(event.clone());
            }
            at = self.told.len();
            match timeout_at(deadline, self.lines.recv()).await {
                Ok(Some(event)) => self.told.push(event),
                Ok(None) => {
                    anyhow::bail!("{} ended before {what}: {}", self.name, self.words(since))
                }
                Err(_) => anyhow::bail!("{} never told {what}: {}", self.name, self.words(since)),
            }
        }
    }

    /// Everything told since, as far as it was waited for.
    pub fn told_since(&self, since: usize) -> &[Value] {
        &self.told[since..]
    }

    /// Waits for the end of a program that was told to end.
    ///
    /// # Errors
    /// If it does not end in time, or badly.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        self.orders = None;
        let deadline = Instant::now() + BOUND;
        while let Some(event) = timeout_at(deadline, self.lines.recv())
            .await
            .with_context(|| format!("{} does not end", self.name))?
        {
            self.told.push(event);
        }
        // Its output is closed, so it is at its end.
        let status: ExitStatus = self.child.wait()?;
        anyhow::ensure!(
            status.success(),
            "{}: {status}: {}",
            self.name,
            self.words(0)
        );
        Ok(())
    }

    fn words(&self, since: usize) -> String {
        let told: String = self.told[since..]
            .iter()
            .map(|event| format!("\n  {event:.400}"))
            .collect();
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(4096)..]).into_owned();
        format!("it told{told}\nand complained\n{log}")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Our own child: an error means that it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
