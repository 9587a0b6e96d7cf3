//! What became of a job's runs: counts for ever, the runs themselves as many as are kept.
//!
//! Invariant: counts only grow while a job exists; what is kept of runs is bounded for each job and in all.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use mezzo_model::time::Wall;

use super::io::{EndedRun, HistoryView};
use super::job::JobId;
use super::run::{RunId, RunKey};

/// The past of one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    view: HistoryView,
}

impl History {
    /// What is stored of it besides the runs.
    pub fn counts(&self) -> (u64, u64, Option<Wall>, Option<Wall>) {
        let view = &self.view;
        (
            view.success_count,
            view.failure_count,
            view.last_success_at,
            view.last_failure_at,
        )
    }

    /// Takes the counts back from the store.
    pub fn set_counts(
        &mut self,
        success: u64,
        failure: u64,
        last_success: Option<Wall>,
        last_failure: Option<Wall>,
    ) {
        self.view.success_count = success;
        self.view.failure_count = failure;
        self.view.last_success_at = last_success;
        self.view.last_failure_at = last_failure;
    }

    /// How many runs have ended, ever.
    pub fn ended(&self) -> u64 {
        self.view
            .success_count
            .saturating_add(self.view.failure_count)
    }

    /// Counts a run that ended now, and keeps it.
    pub fn add(&mut self, run: Arc<EndedRun>) {
        let at = Some(run.finished_at);
        if run.success {
            self.view.success_count = self.view.success_count.saturating_add(1);
            self.view.last_success_at = at;
        } else {
            self.view.failure_count = self.view.failure_count.saturating_add(1);
            self.view.last_failure_at = at;
        }
        self.keep(run);
    }

    /// Keeps a run that was counted before.
    pub fn keep(&mut self, run: Arc<EndedRun>) {
        self.list(run.success).push_front(run);
    }

    /// Takes the oldest run of a kind out if there are more than may be.
    pub fn trim(&mut self, success: bool, most: usize) -> Option<Arc<EndedRun>> {
        let list = self.list(success);
        if list.len() > most {
            list.pop_back()
        } else {
            None
        }
    }

    /// Takes a run out.
    pub fn remove(&mut self, id: &RunId) {
        self.view.successful.retain(|run| run.id != *id);
        self.view.failed.retain(|run| run.id != *id);
    }

    /// A run that is kept.
    pub fn find(&self, id: &RunId) -> Option<&Arc<EndedRun>> {
        self.view
            .successful
            .iter()
            .chain(&self.view.failed)
            .find(|run| run.id == *id)
    }

    /// All runs that are kept.
    pub fn runs(&self) -> impl Iterator<Item = &Arc<EndedRun>> {
        self.view.successful.iter().chain(&self.view.failed)
    }

    /// How it is shown; a summary has no runs.
    pub fn view(&self, with_runs: bool) -> HistoryView {
        if with_runs {
            return self.view.clone();
        }
        let (success_count, failure_count, last_success_at, last_failure_at) = self.counts();
        HistoryView {
            success_count,
            failure_count,
            last_success_at,
            last_failure_at,
            successful: VecDeque::new(),
            failed: VecDeque::new(),
        }
    }

    fn list(&mut self, success: bool) -> &mut VecDeque<Arc<EndedRun>> {
        if success {
            &mut self.view.successful
        } else {
            &mut self.view.failed
        }
    }
}

/// All ended runs of all jobs that are kept, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Kept(BTreeSet<(Wall, RunKey)>);

impl Kept {
    /// Adds a run.
    pub fn insert(&mut self, job: &JobId, run: &EndedRun) {
        self.0.insert(entry(job, run));
    }

    /// Takes a run out.
    pub fn remove(&mut self, job: &JobId, run: &EndedRun) {
        self.0.remove(&entry(job, run));
    }

    /// Takes the oldest out if there are more than may be.
    pub fn trim(&mut self, most: usize) -> Option<RunKey> {
        if self.0.len() > most {
            self.0.pop_first().map(|(_, key)| key)
        } else {
            None
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn entry(job: &JobId, run: &EndedRun) -> (Wall, RunKey) {
    (
        run.finished_at,
        RunKey {
            job: job.clone(),
            run: run.id.clone(),
        },
    )
}
