//! What to do with offers, as pure functions: hold them, see what fits, pick ports, judge constraints, pack many tasks
//! over many offers, write the operations down.
//!
//! Invariant: nothing here sends anything or keeps time; a pool knows only what was put into it.

pub mod constraint;
pub mod fit;
pub mod pack;
pub mod pool;
pub mod task;

pub use constraint::{Constraint, ConstraintError, Operator, Tally};
pub use fit::{Fit, Misfit, PortWish, Request, fit};
pub use pack::{Demand, Packing, Placement, Strategy, pack};
pub use pool::{HeldOffer, OfferError, OfferPool};
pub use task::{TaskSpec, launch};
