//! Calls about what waits for offers.

use crate::core::Core;
use crate::core::app_id::AppId;
use crate::core::request::{Answer, QueueView, Refusal};

impl Core {
    pub(super) fn queue(&self, last_unused_offers: bool) -> Answer {
        let now = self.now.mono;
        let mut views: Vec<QueueView> = self
            .waiting
            .iter()
            .filter_map(|id| {
                let app = self.apps.get(id)?;
                let spec = app.wanted.clone()?;
                let until = self.delays.until(&spec, now);
                Some(QueueView {
                    delay_left_ms: until.map_or(0, |until| until.since(now).0),
                    spec,
                    count: app.queued,
                    since: app.queued_since,
                    stats: app.stats.clone(),
                    last_unused_offers,
                })
            })
            .collect();
        views.sort_by_key(|view| view.since);
        Answer::Queue(views)
    }

    pub(super) fn reset_delay(&mut self, id: &AppId) -> Result<Answer, Refusal> {
        if !self.waiting.contains(id) {
            return Err(Refusal::NotQueued(id.clone()));
        }
        self.delays.reset(id);
        self.demand.fresh = true;
        self.dirty.insert(id.clone());
        Ok(Answer::Done)
    }
}
