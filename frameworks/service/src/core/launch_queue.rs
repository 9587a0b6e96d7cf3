//! Launch delay: an app whose tasks fail is launched again ever more slowly.
//!
//! Source: Marathon's back-off, kept for each (app, configuration). The first failure delays by `backoffSeconds`,
//! each further one multiplies by `backoffFactor`, up to `maxLaunchDelaySeconds`. Failures that come while a delay
//! is running do not raise it: twenty instances that fall with their agent are one failure, not twenty.
//!
//! Invariant: an entry exists only while it delays something or may be raised again.

use std::collections::BTreeMap;

use mezzo_model::Millis;

use super::app::{AppSpec, Backoff};
use super::app_id::AppId;
use super::version::Version;

/// What a delay belongs to: an app at one configuration.
type Key = (AppId, Version);

/// The delays of all apps.
#[derive(Clone, Debug, Default)]
pub struct Delays {
    entries: BTreeMap<Key, Delay>,
}

#[derive(Clone, Copy, Debug)]
struct Delay {
    /// The present delay.
    span: Millis,
    /// No launch before this.
    until: Millis,
    /// The last failure or launch; the entry is forgotten `max` after it.
    touched: Millis,
    max: Millis,
}

fn key(spec: &AppSpec) -> Key {
    (spec.id.clone(), spec.version_info.last_config_change_at)
}

fn grown(backoff: &Backoff, span: Millis) -> Millis {
    // The cast saturates, and the limit bounds it.
    Millis((span.0 as f64 * backoff.factor).round() as u64)
}

impl Delays {
    /// A task of the app failed.
    pub fn failed(&mut self, spec: &AppSpec, now: Millis) {
        let max = Millis::from_secs(spec.backoff.max_launch_delay_secs);
        let first = Millis::from_secs(spec.backoff.secs).min(max);
        let entry = self.entries.entry(key(spec));
        let delay = entry
            .and_modify(|delay| {
                if now >= delay.until {
                    delay.span = grown(&spec.backoff, delay.span).max(first).min(max);
                    delay.until = now + delay.span;
                }
            })
            .or_insert(Delay {
                span: first,
                until: now + first,
                touched: now,
                max,
            });
        delay.touched = now;
    }

    /// A task of the app came a step further; the entry stays for as long as it may matter.
    pub fn progressed(&mut self, spec: &AppSpec, now: Millis) {
        if let Some(delay) = self.entries.get_mut(&key(spec)) {
            delay.touched = now;
        }
    }

    /// Forgets the delay of an app at every configuration. Whether there was one.
    pub fn reset(&mut self, app: &AppId) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(own, _), _| own != app);
        before != self.entries.len()
    }

    /// Forgets the delay of an app that was deleted.
    pub fn reset_if_deleted(&mut self, app: &AppId, is_deleted: bool) {
        if is_deleted {
            self.reset(app);
        }
    }

    /// The instant before which the app must not be launched, if it has not come.
    pub fn until(&self, spec: &AppSpec, now: Millis) -> Option<Millis> {
        self.entries
            .get(&key(spec))
            .map(|delay| delay.until)
            .filter(|until| *until > now)
    }

    /// Forgets what no longer matters.
    pub fn expire(&mut self, now: Millis) {
        self.entries
            .retain(|_, delay| now < delay.until || now.since(delay.touched) <= delay.max);
    }

    /// Apps whose delay ended in the span after `last` up to `now`.
    pub fn ended(&self, last: Millis, now: Millis) -> Vec<AppId> {
        let ended = self
            .entries
            .iter()
            .filter(|(_, d)| d.until > last && d.until <= now);
        ended.map(|((app, _), _)| app.clone()).collect()
    }

    /// When the next delay ends.
    pub fn next_deadline(&self, now: Millis) -> Option<Millis> {
        self.entries
            .values()
            .map(|delay| delay.until)
            .filter(|until| *until > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::app::AppUpdate;

    fn spec(secs: u64, factor: f64, max: u64) -> AppSpec {
        let id = AppId::parse("/a").expect("good");
        let mut spec = AppUpdate::default().apply(None, id, "*");
        spec.backoff = Backoff {
            secs,
            factor,
            max_launch_delay_secs: max,
        };
        spec
    }

    #[test]
    fn delays_grow_to_their_limit_and_fade() {
        let (mut delays, spec) = (Delays::default(), spec(2, 2.0, 7));
        let mut now = Millis(0);
        for expected in [2000, 4000, 7000, 7000] {
            delays.failed(&spec, now);
            let until = delays.until(&spec, now).expect("delayed");
            assert_eq!(until.since(now), Millis(expected));
            assert_eq!(delays.ended(now, until), vec![spec.id.clone()]);
            now = until;
        }
        delays.expire(now);
        delays.failed(&spec, now);
        assert_eq!(
            delays.until(&spec, now),
            Some(now + Millis(7000)),
            "still remembered"
        );
        let later = now + Millis(7001 + 7000);
        delays.expire(later);
        delays.failed(&spec, later);
        assert_eq!(
            delays.until(&spec, later),
            Some(later + Millis(2000)),
            "forgotten"
        );
    }

    #[test]
    fn failures_at_once_count_once_and_a_new_configuration_begins_anew() {
        let (mut delays, mut spec) = (Delays::default(), spec(1, 10.0, 300));
        for _ in 0..20 {
            delays.failed(&spec, Millis(5));
        }
        assert_eq!(delays.until(&spec, Millis(5)), Some(Millis(1005)));
        spec.version_info.last_config_change_at = Version(7);
        assert_eq!(delays.until(&spec, Millis(5)), None);
        assert!(delays.reset(&spec.id));
        assert!(!delays.reset(&spec.id));
    }
}
