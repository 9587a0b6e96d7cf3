//! Bugs that can be planted: each is a promise broken in the least shell around a core, as a careless author would
//! break it.
//!
//! A simulation that finds none of them proves nothing. Each must be found within 500 seeds.

/// Which planted bugs are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bugs {
    planted: Option<Bug>,
}

/// The bugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The agent says that records are flushed before they are.
    EarlyFlush,
    /// Writes carry no fence, and what a lost session left unanswered is sent again by the next one.
    UnfencedStore,
    /// An agent leaves every other task out of its greeting.
    ForgetfulHello,
    /// The agent's shell repeats an order to launch to a fresh container.
    DoubleLaunch,
    /// The link loses kills.
    LostKill,
    /// The link loses terminal updates, and acknowledges them itself.
    LostTerminal,
    /// A framework's store loses the last commit when the process dies.
    LazyFrameworkStore,
    /// The driver never asks for reconciliation.
    NoReconciliation,
    /// The framework's id is not kept: each life is a new framework.
    ForgottenFrameworkId,
    /// A master that is suspended goes on.
    DeafToSuspension,
    /// A container that is to be destroyed is forgotten instead.
    Orphans,
    /// The detector never says that the leader changed.
    StuckDetector,
    /// The agent's disk loses what was written (not flushed) also when only the process dies.
    LostWrites,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::EarlyFlush,
        Self::UnfencedStore,
        Self::ForgetfulHello,
        Self::DoubleLaunch,
        Self::LostKill,
        Self::LostTerminal,
        Self::LazyFrameworkStore,
        Self::NoReconciliation,
        Self::ForgottenFrameworkId,
        Self::DeafToSuspension,
        Self::Orphans,
        Self::StuckDetector,
        Self::LostWrites,
    ];
}

impl Bugs {
    /// None: the product as it is.
    pub const NONE: Self = Self { planted: None };

    /// One.
    pub fn plant(bug: Bug) -> Self {
        Self { planted: Some(bug) }
    }

    /// Whether this one is planted.
    pub fn has(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }
}
