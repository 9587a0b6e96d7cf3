//! What a master must not forget: which agents were admitted, which are unreachable, which are gone, and the weights of
//! roles. Frameworks, tasks and executors are not in it; agents and schedulers bring those back.
//!
//! One key holds one agent, so that a change writes little. Values are JSON with a version; a newer one is refused in
//! words. Every write is fenced by the term (see `mezzo_coordination`).
//!
//! Invariant: pure; reading and writing is the shell's business.

use std::collections::BTreeMap;

use bytes::Bytes;
use mezzo_coordination::{Expect, Op, Record};
use mezzo_model::ids::AgentId;
use mezzo_model::{Role, Wall};
use mezzo_wire::{json, v1};
use serde::{Deserialize, Serialize};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const AGENTS: &str = "agents/";
const FORMAT_KEY: &str = "format";
const WEIGHTS_KEY: &str = "weights";

/// What the registry says of an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentState {
    /// It belongs to the cluster.
    Admitted(Box<v1::AgentInfo>),
    /// It was not heard of for too long.
    Unreachable {
        /// Since when.
        since: Wall,
    },
    /// An operator declared it gone, for ever.
    Gone {
        /// Since when.
        since: Wall,
    },
}

/// One change of the registry.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// The registry is written for the first time.
    Format,
    /// An agent joins, or comes back.
    Admit(AgentId, Box<v1::AgentInfo>),
    /// An agent is lost.
    MarkUnreachable(AgentId, Wall),
    /// An agent left.
    Remove(AgentId),
    /// The weights of roles, in thousandths.
    Weights(BTreeMap<Role, u64>),
    /// Nothing is written; asks whether the term still lasts.
    Probe,
}

/// All of the registry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Whether it was ever written.
    pub is_written: bool,
    /// The agents.
    pub agents: BTreeMap<AgentId, AgentState>,
    /// The weights of roles, in thousandths.
    pub weights: BTreeMap<Role, u64>,
}

/// Why a registry cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// A newer version of Mezzo wrote it.
    #[error(
        "the registry's record '{key}' was written in format {found}, and this master reads formats up to {FORMAT}; \
         run the newer version of Mezzo that wrote it, or restore a backup from before the upgrade"
    )]
    Newer {
        /// The record.
        key: String,
        /// Its format.
        found: u32,
    },
    /// It is not what was written.
    #[error("the registry's record '{key}' cannot be read: {why}")]
    Corrupt {
        /// The record.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct AgentRecord {
    version: u32,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct WeightsRecord {
    version: u32,
    /// Thousandths by role.
    weights: BTreeMap<String, u64>,
}

/// The key of an agent.
fn agent_key(id: &AgentId) -> String {
    format!("{AGENTS}{id}")
}

fn encode(record: &impl Serialize) -> Bytes {
    // These records have string keys only, so they always are JSON.
    Bytes::from(serde_json::to_vec(record).unwrap_or_default())
}

fn agent_value(state: &str, since: Option<Wall>, info: Option<&v1::AgentInfo>) -> Bytes {
    let agent = info.and_then(|info| serde_json::from_slice(&json::to_vec(info)).ok());
    let (version, since_ms) = (FORMAT, since.map(|since| since.0));
    encode(&AgentRecord {
        version,
        state: state.to_owned(),
        since_ms,
        agent,
    })
}

impl Act {
    /// The operation that carries the act out; `None` if nothing is written.
    pub fn op(&self) -> Option<Op> {
        let put = |key: String, value: Bytes| Op::Put {
            key,
            value,
            expect: Expect::Any,
        };
        match self {
            Self::Format => Some(put(
                FORMAT_KEY.to_owned(),
                encode(&Versioned { version: FORMAT }),
            )),
            Self::Admit(id, info) => Some(put(
                agent_key(id),
                agent_value("admitted", None, Some(info)),
            )),
            Self::MarkUnreachable(id, since) => Some(put(
                agent_key(id),
                agent_value("unreachable", Some(*since), None),
            )),
            Self::Remove(id) => Some(Op::Delete {
                key: agent_key(id),
                expect: Expect::Any,
            }),
            Self::Weights(weights) => {
                let weights = weights
                    .iter()
                    .map(|(role, weight)| (role.to_string(), *weight))
                    .collect();
                let record = WeightsRecord {
                    version: FORMAT,
                    weights,
                };
                Some(put(WEIGHTS_KEY.to_owned(), encode(&record)))
            }
            Self::Probe => None,
        }
    }
}

/// Reads all records.
///
/// # Errors
/// [`RegistryError::Newer`] for what a newer version wrote, [`RegistryError::Corrupt`] for what none wrote.
pub fn decode(records: &[Record]) -> Result<Content, RegistryError> {
    let mut content = Content::default();
    for record in records {
        let key = record.key.as_str();
        let corrupt = |why: String| RegistryError::Corrupt {
            key: key.to_owned(),
            why,
        };
        let known = key == FORMAT_KEY || key == WEIGHTS_KEY || key.starts_with(AGENTS);
        if !known {
            // Somebody else's, such as the counter of terms.
            continue;
        }
        let version: Versioned =
            serde_json::from_slice(&record.value).map_err(|why| corrupt(why.to_string()))?;
        if version.version > FORMAT {
            return Err(RegistryError::Newer {
                key: key.to_owned(),
                found: version.version,
            });
        }
        if key == FORMAT_KEY {
            content.is_written = true;
        } else if key == WEIGHTS_KEY {
            let weights: WeightsRecord =
                serde_json::from_slice(&record.value).map_err(|why| corrupt(why.to_string()))?;
            for (role, weight) in weights.weights {
                let role = Role::parse(&role).map_err(|why| corrupt(why.to_string()))?;
                content.weights.insert(role, weight);
            }
        } else if let Some(id) = key.strip_prefix(AGENTS) {
            let id = AgentId::parse(id).map_err(|why| corrupt(why.to_string()))?;
            content
                .agents
                .insert(id, agent_state(&record.value).map_err(corrupt)?);
        }
    }
    Ok(content)
}

fn agent_state(value: &[u8]) -> Result<AgentState, String> {
    let record: AgentRecord = serde_json::from_slice(value).map_err(|why| why.to_string())?;
    let since = Wall(record.since_ms.unwrap_or(0));
    match record.state.as_str() {
        "admitted" => {
            let agent = record.agent.ok_or("it says nothing of the agent")?;
            let agent = serde_json::to_vec(&agent).map_err(|why| why.to_string())?;
            let info = json::from_slice(&agent).map_err(|why| why.to_string())?;
            Ok(AgentState::Admitted(Box::new(info)))
        }
        "unreachable" => Ok(AgentState::Unreachable { since }),
        "gone" => Ok(AgentState::Gone { since }),
        other => Err(format!("'{other}' is no state of an agent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(act: &Act) -> Record {
        match act.op().expect("an op") {
            Op::Put { key, value, .. } => Record {
                key,
                value,
                version: 1,
            },
            other => panic!("{other:?} writes nothing"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let id = |text: &str| AgentId::parse(text).expect("an id");
        let info = Box::new(v1::AgentInfo {
            hostname: "h".into(),
            port: Some(5051),
            ..Default::default()
        });
        let weights = BTreeMap::from([(Role::parse("a/b").expect("a role"), 2500)]);
        let acts = [
            Act::Format,
            Act::Admit(id("m-S0"), info.clone()),
            Act::MarkUnreachable(id("m-S1"), Wall(77)),
            Act::Weights(weights.clone()),
        ];
        let mut records: Vec<Record> = acts.iter().map(record).collect();
        records.push(Record {
            key: "epoch".into(),
            value: Bytes::from_static(b"\x01"),
            version: 9,
        });
        let content = decode(&records).expect("reads");
        assert!(content.is_written);
        assert_eq!(content.agents[&id("m-S0")], AgentState::Admitted(info));
        assert_eq!(
            content.agents[&id("m-S1")],
            AgentState::Unreachable { since: Wall(77) }
        );
        assert_eq!(content.weights, weights);
    }

    #[test]
    fn a_newer_format_is_refused_in_words() {
        let newer = |key: &str| Record {
            key: key.into(),
            value: Bytes::from_static(b"{\"version\":2,\"state\":{\"new\":\"shape\"}}"),
            version: 1,
        };
        for key in ["format", "agents/m-S0", "weights"] {
            let refused = decode(&[newer(key)]).expect_err("newer").to_string();
            assert!(
                refused.contains("format 2") && refused.contains("up to 1"),
                "{refused}"
            );
        }
        let torn = Record {
            key: "agents/m-S0".into(),
            value: Bytes::from_static(b"{"),
            version: 1,
        };
        assert!(matches!(
            decode(&[torn]),
            Err(RegistryError::Corrupt { .. })
        ));
    }
}
