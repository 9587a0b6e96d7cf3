//! Why a framework has no offer: the allocator's own verdict, with what only the core knows: who asks for what by id,
//! and which offers are out.

use mezzo_model::{Now, Role};
use serde::Serialize;

use super::Core;
use super::io::Refusal;
use crate::allocator::{Skip, Verdict};
use crate::keys::{AgentKey, FrameworkKey};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The id of a framework.
    pub framework: String,
    /// One of its roles.
    pub role: String,
    /// The id of an agent; all if there is none.
    pub agent: Option<String>,
}

/// The answer, as it goes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The id of the framework.
    pub framework_id: String,
    /// The role.
    pub role: String,
    /// How many are served before it; `None` if it takes no part.
    pub ahead: Option<usize>,
    /// How many take part.
    pub of: Option<usize>,
    /// For each agent, why.
    pub agents: Vec<AgentAnswer>,
    /// So many agents are not told of; they can be asked about one by one.
    pub left_out: usize,
}

/// Why an agent is or is not offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentAnswer {
    /// The id of the agent.
    pub agent_id: String,
    /// Its host name.
    pub hostname: String,
    /// `OFFERED`, or the name of the first reason why not.
    pub reason: &'static str,
    /// In words.
    pub text: &'static str,
    /// What would change it.
    pub change: &'static str,
    /// Offers of the agent that the framework has in the role.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offer_ids: Vec<String>,
    /// For how many seconds a filter still holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_secs: Option<String>,
    /// Who holds what there, if that is why nothing is left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
}

/// Who holds something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The id of the framework.
    pub framework_id: String,
    /// In which of its roles.
    pub role: String,
    /// Offered and in use together.
    pub resources: String,
    /// How much of it is in offers that are out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<String>,
}

impl Core {
    /// Answers a question; `None` while a cycle of the allocator is due, within milliseconds: ask again after the next
    /// input.
    ///
    /// # Errors
    /// 400 for what is no role, 404 for what is not known.
    pub fn explain(&self, now: Now, question: &Question) -> Option<Result<Answer, Refusal>> {
        if !self.allocator.is_quiet(now.mono) {
            return None;
        }
        Some(self.answer(now, question))
    }

    fn answer(&self, now: Now, question: &Question) -> Result<Answer, Refusal> {
        let role = Role::parse(&question.role).map_err(|error| Refusal::bad(error.to_string()))?;
        let unknown = |what, id: &str| Refusal::new(404, format!("{what} {id} is not known"));
        let framework = self
            .framework_by_id(&question.framework)
            .ok_or_else(|| unknown("framework", &question.framework))?;
        let agent = match &question.agent {
            Some(id) => Some(self.agent_by_id(id).ok_or_else(|| unknown("agent", id))?),
            None => None,
        };
        let said = self.allocator.explain(now.mono, framework, &role, agent);
        let agents = said
            .agents
            .iter()
            .filter_map(|(agent, verdict)| {
                self.agent_answer(now, *agent, framework, &role, verdict)
            })
            .collect();
        Ok(Answer {
            framework_id: question.framework.clone(),
            role: role.to_string(),
            ahead: said.standing.map(|standing| standing.ahead),
            of: said.standing.map(|standing| standing.of),
            agents,
            left_out: said.left_out,
        })
    }

    fn agent_answer(
        &self,
        now: Now,
        key: AgentKey,
        framework: FrameworkKey,
        role: &Role,
        verdict: &Verdict,
    ) -> Option<AgentAnswer> {
        let agent = self.agents.get(&key)?;
        let offers = agent.offers.iter().filter_map(|key| self.offers.get(key));
        let offer_ids: Vec<String> = offers
            .filter(|offer| offer.framework == framework && offer.role == *role)
            .map(|offer| offer.id.to_string())
            .collect();
        let mut remaining_secs = None;
        let mut holders = Vec::new();
        let (reason, text, change) = match verdict {
            _ if !offer_ids.is_empty() => (
                "OFFERED",
                "the framework has an offer of the agent",
                "it is answered, or taken back after its timeout",
            ),
            Verdict::Offer { .. } => (
                "DUE",
                "an offer is about to be made",
                "the next cycle, within milliseconds",
            ),
            Verdict::Skip(skip) => {
                match skip {
                    Skip::Filtered { until } => {
                        let left = until.since(now.mono).as_secs_f64();
                        remaining_secs = Some(format!("{left:.3}"));
                    }
                    Skip::NothingFree | Skip::Reserved | Skip::Unable | Skip::TooSmall => {
                        holders = self.holders(key);
                    }
                    _ => {}
                }
                (skip.name(), skip.text(), skip.remedy())
            }
        };
        Some(AgentAnswer {
            agent_id: agent.id.to_string(),
            hostname: agent.info.hostname.clone(),
            reason,
            text,
            change,
            offer_ids,
            remaining_secs,
            holders,
        })
    }

    fn holders(&self, agent: AgentKey) -> Vec<Holder> {
        let Some(at) = self.agents.get(&agent) else {
            return Vec::new();
        };
        let held = self.allocator.held_on(agent);
        held.filter_map(|(key, role, resources)| {
            let mut offered = mezzo_model::resources::Resources::new();
            for offer in at.offers.iter().filter_map(|key| self.offers.get(key)) {
                if offer.framework == key && offer.role == *role {
                    offered += &offer.resources;
                }
            }
            Some(Holder {
                framework_id: self.frameworks.get(&key)?.id.to_string(),
                role: role.to_string(),
                resources: resources.to_string(),
                offered: (!offered.is_empty()).then(|| offered.to_string()),
            })
        })
        .collect()
    }
}
