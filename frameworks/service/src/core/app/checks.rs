//! Health checks of an app: what is asked, how often, and what follows.

use serde_json::{Map, Value, json};

use super::document::{Fields, Problems};

/// The longest span in a document, in seconds: about thirty years.
pub const MAX_SECS: u64 = 1_000_000_000;

/// The longest path or command of a check, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// Who asks, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckProtocol {
    /// GET by this framework; 200 to 399 is healthy.
    Http,
    /// The same over TLS, whose certificate is not verified.
    Https,
    /// A connection by this framework.
    Tcp,
    /// A shell command by the executor; exit status 0 is healthy.
    Command,
    /// GET by the executor.
    MesosHttp,
    /// GET over TLS by the executor.
    MesosHttps,
    /// A connection by the executor.
    MesosTcp,
}

impl CheckProtocol {
    /// Every protocol with its name in documents.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Http, "HTTP"),
        (Self::Https, "HTTPS"),
        (Self::Tcp, "TCP"),
        (Self::Command, "COMMAND"),
        (Self::MesosHttp, "MESOS_HTTP"),
        (Self::MesosHttps, "MESOS_HTTPS"),
        (Self::MesosTcp, "MESOS_TCP"),
    ];

    /// The protocol of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(protocol, _)| *protocol)
    }

    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(protocol, _)| *protocol == self)
            .map_or("", |(_, name)| name)
    }

    /// Whether the executor does it, beside the task.
    pub const fn by_executor(self) -> bool {
        match self {
            Self::Http | Self::Https | Self::Tcp => false,
            Self::Command | Self::MesosHttp | Self::MesosHttps | Self::MesosTcp => true,
        }
    }

    /// Whether it asks for a path.
    pub const fn is_http(self) -> bool {
        match self {
            Self::Http | Self::Https | Self::MesosHttp | Self::MesosHttps => true,
            Self::Tcp | Self::Command | Self::MesosTcp => false,
        }
    }
}

/// One health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Who asks, and how.
    pub protocol: CheckProtocol,
    /// What to GET; `/` if absent.
    pub path: Option<String>,
    /// A port number of the host.
    pub port: Option<u16>,
    /// A port of the app, by its place.
    pub port_index: Option<usize>,
    /// What the executor runs.
    pub command: Option<String>,
    /// Failures in this span after the launch count for nothing while there was no success, seconds.
    pub grace_secs: u64,
    /// Between two checks, seconds.
    pub interval_secs: u64,
    /// An answer after this span is a failure, seconds.
    pub timeout_secs: u64,
    /// Before the executor's first check, seconds.
    pub delay_secs: u64,
    /// Failures in a row that kill the instance with the next one; 0: never.
    pub max_consecutive_failures: u32,
    /// An answer 100 to 199 changes nothing.
    pub ignore_http_1xx: bool,
}

const FIELDS: [&str; 12] = [
    "protocol",
    "path",
    "port",
    "portIndex",
    "command",
    "gracePeriodSeconds",
    "intervalSeconds",
    "timeoutSeconds",
    "delaySeconds",
    "maxConsecutiveFailures",
    "ignoreHttp1xx",
    "ipProtocol",
];

impl HealthCheck {
    /// Reads a check.
    pub fn read(fields: Fields<'_>, problems: &mut Problems) -> Option<Self> {
        fields.only(&FIELDS, problems);
        let name = fields
            .string("protocol", problems)
            .unwrap_or_else(|| "HTTP".to_owned());
        let Some(protocol) = CheckProtocol::parse(&name) else {
            problems.shape(fields.at("protocol"), "error.unknown.enum.literal");
            return None;
        };
        let command = fields.nested("command", problems, |command, problems| {
            command.only(&["value"], problems);
            match command.string("value", problems) {
                Some(value) => Some(value),
                None => {
                    if !command.has("value") {
                        problems.shape(command.at("value"), "error.path.missing");
                    }
                    None
                }
            }
        });
        if fields
            .string("ipProtocol", problems)
            .is_some_and(|version| version != "IPv4")
        {
            problems.rule(
                fields.at("ipProtocol"),
                "only IPv4 is served on the host network",
            );
        }
        let secs = |key: &str, low: u64, default: u64, problems: &mut Problems| {
            fields
                .whole(key, low, MAX_SECS, problems)
                .unwrap_or(default)
        };
        let check = Self {
            protocol,
            grace_secs: secs("gracePeriodSeconds", 0, 300, problems),
            interval_secs: secs("intervalSeconds", 1, 60, problems),
            timeout_secs: secs("timeoutSeconds", 1, 20, problems),
            delay_secs: secs("delaySeconds", 0, 15, problems),
            path: fields.string("path", problems),
            port: fields
                .whole("port", 1, 65_535, problems)
                .map(|port| port as u16),
            port_index: fields
                .whole("portIndex", 0, 65_535, problems)
                .map(|index| index as usize),
            command,
            max_consecutive_failures: fields
                .whole("maxConsecutiveFailures", 0, 1_000_000, problems)
                .map_or(3, |count| count as u32),
            ignore_http_1xx: fields.bool("ignoreHttp1xx", problems).unwrap_or(false),
        };
        check.judge(fields, problems);
        Some(check)
    }

    fn judge(&self, fields: Fields<'_>, problems: &mut Problems) {
        let is_command = self.protocol == CheckProtocol::Command;
        if is_command != self.command.is_some() {
            let words = if is_command {
                "a COMMAND check needs a command: {\"value\": \"…\"}".to_owned()
            } else {
                format!("a {} check has no command", self.protocol.as_str())
            };
            problems.rule(fields.at("command"), words);
        }
        if self
            .command
            .as_deref()
            .is_some_and(|text| text.trim().is_empty() || !is_plain(text))
        {
            problems.rule(
                fields.at("command/value"),
                "must be a command of at most 4096 bytes",
            );
        }
        if let Some(path) = &self.path {
            if !self.protocol.is_http() {
                let words = format!("a {} check has no path", self.protocol.as_str());
                problems.rule(fields.at("path"), words);
            } else if !is_plain(path) || path.chars().any(|c| c.is_whitespace() || c.is_control()) {
                let words = "must be a URL path of at most 4096 bytes without spaces";
                problems.rule(fields.at("path"), words);
            }
        }
        if self.port.is_some() && self.port_index.is_some() {
            problems.rule(fields.at("port"), "give either port or portIndex, not both");
        }
    }

    /// The document of the check, complete.
    pub fn render(&self) -> Value {
        let mut out = Map::new();
        out.insert("protocol".into(), json!(self.protocol.as_str()));
        out.insert("gracePeriodSeconds".into(), json!(self.grace_secs));
        out.insert("intervalSeconds".into(), json!(self.interval_secs));
        out.insert("timeoutSeconds".into(), json!(self.timeout_secs));
        out.insert("delaySeconds".into(), json!(self.delay_secs));
        out.insert(
            "maxConsecutiveFailures".into(),
            json!(self.max_consecutive_failures),
        );
        out.insert("ipProtocol".into(), json!("IPv4"));
        if matches!(self.protocol, CheckProtocol::Http | CheckProtocol::Https) {
            out.insert("ignoreHttp1xx".into(), json!(self.ignore_http_1xx));
        }
        if let Some(path) = &self.path {
            out.insert("path".into(), json!(path));
        }
        if let Some(port) = self.port {
            out.insert("port".into(), json!(port));
        }
        if let Some(index) = self.port_index {
            out.insert("portIndex".into(), json!(index));
        }
        if let Some(command) = &self.command {
            out.insert("command".into(), json!({ "value": command }));
        }
        Value::Object(out)
    }
}

fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.contains('\0')
}
