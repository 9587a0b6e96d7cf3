//! Offers: used where an instance waits that they suit, given back at once otherwise.
//!
//! Invariant: each offer is answered exactly once. Invariant: the record of every launch is durable before its accept
//! is sent.

use std::collections::BTreeMap;

use mezzo_model::ids::OfferId;
use mezzo_sdk::offers::task::refuse_for;
use mezzo_sdk::offers::{HeldOffer, launch};
use mezzo_sdk::scheduler::SchedulerCommand;
use mezzo_wire::v1;

use super::app_id::AppId;
use super::instance::{Instance, InstanceId, Phase, Place};
use super::io::{NoteLevel, Output};
use super::placement::reasons::{Reason, UnusedOffer};
use super::placement::{Matcher, OpenOffer, Round, task};
use super::state::App;
use super::version::Version;
use super::{Core, Effect};

/// One launch that was decided.
struct Launch {
    instance: InstanceId,
    info: v1::TaskInfo,
}

impl Core {
    /// Offers came.
    pub(super) fn on_offers(&mut self, offers: &[v1::Offer], out: &mut Vec<Output>) {
        self.counters.offers_received += offers.len() as u64;
        let mut declined = Vec::new();
        let mut open = Vec::with_capacity(offers.len());
        for offer in offers {
            match HeldOffer::read(offer) {
                Ok(held) => open.push(OpenOffer::new(held)),
                Err(wrong) => {
                    self.note(
                        NoteLevel::Warn,
                        format!("offer {}: {wrong}", offer.id.value),
                        out,
                    );
                    declined.extend(OfferId::from_wire(&offer.id));
                }
            }
        }
        // What was put off comes first, so that the counts are right.
        self.take_up(true);
        self.keep_up(out);
        let mut launches: BTreeMap<usize, Vec<Launch>> = BTreeMap::new();
        for app in self.launchable() {
            self.place_app(&app, &mut open, &mut launches);
        }
        for (place, offer) in open.iter().enumerate() {
            match launches.remove(&place) {
                Some(launches) => self.accept(offer, launches, out),
                None => declined.push(offer.held.id.clone()),
            }
        }
        if !declined.is_empty() {
            self.counters.offers_declined += declined.len() as u64;
            let filters = Some(refuse_for(self.config.decline.as_secs_f64()));
            out.push(Output::Scheduler(SchedulerCommand::Decline {
                offers: declined,
                filters,
            }));
        }
    }

    /// Apps that wait and may be launched now, the longest wait first.
    pub(super) fn launchable(&self) -> Vec<AppId> {
        let mut apps: Vec<(Version, AppId)> = self
            .waiting
            .iter()
            .filter_map(|id| {
                let app = self.apps.get(id)?;
                let spec = app.wanted.as_ref()?;
                let is_free = self.delays.until(spec, self.now.mono).is_none();
                is_free.then(|| (app.queued_since, id.clone()))
            })
            .collect();
        apps.sort();
        apps.into_iter().map(|(_, id)| id).collect()
    }

    /// Places as many waiting instances of one app as the offers take.
    fn place_app(
        &mut self,
        id: &AppId,
        open: &mut [OpenOffer],
        launches: &mut BTreeMap<usize, Vec<Launch>>,
    ) {
        let Some(app) = self.apps.get(id) else { return };
        let Some(spec) = app.wanted.clone() else {
            return;
        };
        let rules = app.rules.clone();
        let mut fresh = app.fresh;
        let (mut scheduled, placed) = self.members_of(app);
        let mut matcher = Matcher::new(&spec, &rules, placed.iter());
        let mut round = Round::new(open.len());
        let mut launched = Vec::new();
        while !scheduled.is_empty() || fresh > 0 {
            let (most, wall) = (self.config.max_instances_per_offer, self.now.wall);
            let found = round.choose(&matcher, open, most, &self.role, wall, &mut self.port_rng);
            let Some((place, fit)) = found else { break };
            let mut instance = scheduled.pop().unwrap_or_else(|| {
                fresh -= 1;
                let name = InstanceId::new(id.clone(), &self.id_rng.uuid());
                Instance::new(name, spec.clone(), self.now.mono)
            });
            let Some(name) = instance.id.task(instance.incarnation) else {
                continue;
            };
            let offer = &mut open[place];
            let (agent, host) = (&offer.held.agent, &offer.held.hostname);
            let info = task::task_info(&spec, &name, agent, host, &fit, &self.config);
            offer.take(&fit);
            instance.place = offer.place(fit.ports);
            matcher.placed(&instance.place);
            instance.spec = spec.clone();
            instance.enter(Phase::Provisioned, self.now.mono);
            instance.staged_at = Some(Version::from(wall));
            let launch = Launch {
                instance: instance.id.clone(),
                info,
            };
            launches.entry(place).or_default().push(launch);
            launched.push(instance);
        }
        self.take_in(id, fresh, launched, open, &round);
    }

    /// The instances of an app that wait, and the places of those that do not, oldest first.
    fn members_of(&self, app: &App) -> (Vec<Instance>, Vec<Place>) {
        let members = || {
            let all = app.instances.iter().filter_map(|id| self.instances.get(id));
            all.filter(|one| one.is_present())
        };
        let scheduled = members()
            .filter(|one| one.phase == Phase::Scheduled)
            .cloned()
            .collect();
        let mut placed: Vec<&Instance> = members()
            .filter(|one| one.has_task() && app.is_current(one))
            .collect();
        placed.sort_by_key(|one| (one.staged_at, one.id.clone()));
        (
            scheduled,
            placed.into_iter().map(|one| one.place.clone()).collect(),
        )
    }

    /// Takes over what was decided for an app.
    fn take_in(
        &mut self,
        id: &AppId,
        fresh: u32,
        launched: Vec<Instance>,
        open: &[OpenOffer],
        round: &Round,
    ) {
        let at = Version::from(self.now.wall);
        if let Some(app) = self.apps.get_mut(id) {
            app.fresh = fresh;
            app.queued = app.queued.saturating_sub(launched.len() as u32);
            app.instances
                .extend(launched.iter().map(|one| one.id.clone()));
            // A placement may open places that rules forbade before; a full offer may have room for more.
            let is_full = open
                .iter()
                .any(|o| o.launches >= self.config.max_instances_per_offer);
            if !launched.is_empty() && app.queued > 0 && (!app.rules.is_empty() || is_full) {
                self.demand.fresh = true;
            }
            for (place, offer) in open.iter().enumerate() {
                if round.was_used(place) {
                    app.stats.used(offer.held.agent.as_str(), at);
                } else if let Some(reason) = round.refusal(place) {
                    app.stats.refused(unused(offer, reason, at));
                }
            }
        }
        self.counters.tasks_launched += launched.len() as u64;
        for instance in launched {
            let key = instance.id.clone();
            self.instances.insert(key.clone(), instance);
            self.arm(&key);
        }
        self.dirty.insert(id.clone());
    }

    /// Writes the launches down and lets the accept follow.
    fn accept(&mut self, offer: &OpenOffer, launches: Vec<Launch>, out: &mut Vec<Output>) {
        self.counters.offers_used += 1;
        self.journal.seal();
        let mut tasks = Vec::with_capacity(launches.len());
        let mut infos = Vec::with_capacity(launches.len());
        for launch in launches {
            self.put_instance(&launch.instance);
            if let Some(instance) = self.instances.get(&launch.instance) {
                tasks.push((launch.instance.clone(), instance.incarnation));
            }
            infos.push(launch.info);
        }
        let is_full = offer.launches >= self.config.max_instances_per_offer;
        let secs = if is_full {
            0.0
        } else {
            self.config.decline.as_secs_f64()
        };
        let accept = SchedulerCommand::Accept {
            offers: vec![offer.held.id.clone()],
            operations: vec![launch(infos)],
            filters: Some(refuse_for(secs)),
        };
        if let Some(effect) = self.journal.after(Effect::Launch { tasks, accept }) {
            self.perform(effect, out);
        }
        self.journal.seal();
    }
}

fn unused(offer: &OpenOffer, reason: Reason, at: Version) -> UnusedOffer {
    UnusedOffer {
        id: offer.held.id.to_string(),
        agent: offer.held.agent.to_string(),
        host: offer.held.hostname.clone(),
        resources: offer.held.resources.clone(),
        attributes: offer.place(Vec::new()).attributes,
        reason,
        at,
    }
}
