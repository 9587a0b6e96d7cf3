//! Writing a framework: implement [`Scheduler`], hand it to [`run`].
//!
//! The machinery around a scheduler ([`core::FrameworkCore`]) keeps a ledger of its tasks, writes each launch to the
//! store before it is asked for, acknowledges a status once everything that followed from it is stored, and answers
//! every new subscription with what the scheduler believes in. The same machinery runs under [`crate::testing`].
//!
//! Invariant: a scheduler's methods are called one at a time and never wait.

pub mod context;
pub mod core;
pub mod ledger;
mod run;

use bytes::Bytes;
use mezzo_model::ids::{AgentId, ExecutorId, FrameworkId, OfferId, TaskId};
use mezzo_wire::v1;

pub use context::{Context, Decline};
pub use ledger::{Ledger, LedgerTask};
pub use run::{RunConfig, RunError, run};

/// What decides what runs where. Every method has a default, which does nothing (and gives offers back).
pub trait Scheduler: Send {
    /// The framework is subscribed, for the first time or again. Offers of before are void.
    fn subscribed(&mut self, cx: &mut Context<'_>, framework_id: &FrameworkId, resubscribed: bool) {
        let _ = (cx, framework_id, resubscribed);
    }

    /// Resources to use, keep for later, or give back.
    fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<v1::Offer>) {
        cx.decline(&offers, Decline::NothingToRun);
    }

    /// An offer is void.
    fn rescinded(&mut self, cx: &mut Context<'_>, offer: &OfferId) {
        let _ = (cx, offer);
    }

    /// The state of a task; the ledger knows it already. The status is acknowledged after this method returned and
    /// what it asked to keep is stored.
    fn update(&mut self, cx: &mut Context<'_>, status: &v1::TaskStatus) {
        let _ = (cx, status);
    }

    /// Bytes from an executor.
    fn message(
        &mut self,
        cx: &mut Context<'_>,
        agent: &AgentId,
        executor: &ExecutorId,
        data: &Bytes,
    ) {
        let _ = (cx, agent, executor, data);
    }

    /// An agent was lost, or an executor ended.
    fn failure(
        &mut self,
        cx: &mut Context<'_>,
        agent: Option<&AgentId>,
        executor: Option<&ExecutorId>,
        status: Option<i32>,
    ) {
        let _ = (cx, agent, executor, status);
    }

    /// The subscription was lost; the driver is at work on the next one.
    fn disconnected(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// Something was refused, in words. After a fatal refusal the framework stops.
    fn refused(&mut self, cx: &mut Context<'_>, message: &str, fatal: bool) {
        let _ = (cx, message, fatal);
    }

    /// A timer set by [`Context::set_timer`] has come.
    fn timer(&mut self, cx: &mut Context<'_>, timer: u64) {
        let _ = (cx, timer);
    }

    /// Called after each of the methods above: the one place to compare what is with what should be.
    fn balance(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// The tasks that the scheduler believes in, asked after each subscription: the master is asked about each until
    /// it answered. By default the whole ledger.
    fn believes(&self, ledger: &Ledger) -> Vec<(TaskId, Option<AgentId>)> {
        ledger.named()
    }

    /// How many tasks there should be running, if that is known. [`crate::testing`] holds the scheduler to it.
    fn wanted(&self) -> Option<usize> {
        None
    }
}
