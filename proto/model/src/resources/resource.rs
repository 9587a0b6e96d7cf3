//! One resource: an amount, and all that says which amount it is.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use mezzo_wire::v1;
use mezzo_wire::v1::resource::DiskInfo;
use mezzo_wire::v1::resource::disk_info::source::Type as SourceType;

use super::{Milli, Ranges};
use crate::Role;

/// How much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An amount in thousandths.
    Scalar(Milli),
    /// Whole numbers, such as ports.
    Ranges(Ranges),
    /// Words.
    Set(BTreeSet<Arc<str>>),
}

/// Whether a reservation can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationKind {
    /// Configured on the agent.
    Static,
    /// Made by a framework or an operator.
    Dynamic,
}

/// One level of a reservation stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Reservation {
    /// Whether it can be taken back.
    pub kind: ReservationKind,
    /// For whom.
    pub role: Role,
    /// By whom.
    pub principal: Option<Arc<str>>,
    /// What the one who made it wrote on it.
    pub labels: Option<Arc<v1::Labels>>,
}

/// One resource of a bag.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Such as `cpus`.
    pub name: Arc<str>,
    /// How much of it. For a shared volume: of one copy.
    pub value: Value,
    /// The role it is allocated to, once it is.
    pub allocation: Option<Role>,
    /// Bottom to top, each a strict subrole of the one below.
    pub reservations: Vec<Reservation>,
    /// Which disk, which volume.
    pub disk: Option<Arc<DiskInfo>>,
    /// May be taken back at any time.
    pub revocable: bool,
    /// How many copies of a shared volume; `None` if it is not shared.
    pub shared: Option<u32>,
    /// The resource provider it comes from.
    pub provider: Option<Arc<str>>,
}

static KNOWN: LazyLock<[Arc<str>; 5]> =
    LazyLock::new(|| ["cpus", "mem", "disk", "ports", "gpus"].map(Arc::from));

/// One allocation for each of the usual names.
pub(super) fn intern(name: &str) -> Arc<str> {
    KNOWN
        .iter()
        .find(|known| &***known == name)
        .cloned()
        .unwrap_or_else(|| Arc::from(name))
}

impl Resource {
    /// An unreserved, unallocated resource.
    pub fn new(name: &str, value: Value) -> Self {
        Self {
            name: intern(name),
            value,
            allocation: None,
            reservations: Vec::new(),
            disk: None,
            revocable: false,
            shared: None,
            provider: None,
        }
    }

    /// An unreserved scalar.
    pub fn scalar(name: &str, amount: Milli) -> Self {
        Self::new(name, Value::Scalar(amount))
    }

    /// The amount if it is a scalar.
    pub fn as_scalar(&self) -> Option<Milli> {
        match self.value {
            Value::Scalar(amount) => Some(amount),
            Value::Ranges(_) | Value::Set(_) => None,
        }
    }

    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        let nothing = match &self.value {
            Value::Scalar(amount) => *amount <= Milli::ZERO,
            Value::Ranges(ranges) => ranges.is_empty(),
            Value::Set(words) => words.is_empty(),
        };
        nothing || self.shared == Some(0)
    }

    /// The role at the top of the reservation stack.
    pub fn reservation_role(&self) -> Option<&Role> {
        self.reservations.last().map(|top| &top.role)
    }

    /// Whether a framework of `role` may use it.
    pub fn allocatable_to(&self, role: &Role) -> bool {
        self.reservation_role()
            .is_none_or(|reserved| role.is_within(reserved))
    }

    /// Whether the top of its reservation stack was made at run time.
    pub fn is_dynamically_reserved(&self) -> bool {
        self.reservations
            .last()
            .is_some_and(|top| top.kind == ReservationKind::Dynamic)
    }

    /// Whether it is a volume that outlives tasks.
    pub fn is_persistent_volume(&self) -> bool {
        self.persistence_id().is_some()
    }

    /// The id of the persistent volume.
    pub fn persistence_id(&self) -> Option<&str> {
        self.disk
            .as_ref()?
            .persistence
            .as_ref()
            .map(|persistence| persistence.id.as_str())
    }

    /// Whether it is only ever taken whole: a volume, a mounted or block disk, a raw disk with an id.
    pub fn is_exclusive(&self) -> bool {
        if self.shared.is_some() {
            return false;
        }
        let Some(disk) = &self.disk else { return false };
        if disk.persistence.is_some() {
            return true;
        }
        let Some(source) = &disk.source else {
            return false;
        };
        match SourceType::try_from(source.r#type) {
            Ok(SourceType::Mount | SourceType::Block) => true,
            Ok(SourceType::Raw) => source.id.is_some(),
            _ => false,
        }
    }

    /// Whether all but the amount is the same.
    pub(super) fn same_kind(&self, other: &Self) -> bool {
        self.name == other.name
            && std::mem::discriminant(&self.value) == std::mem::discriminant(&other.value)
            && self.allocation == other.allocation
            && self.revocable == other.revocable
            && self.shared.is_some() == other.shared.is_some()
            // Copies are counted, so one copy must be the same as the other.
            && (self.shared.is_none() || self.value == other.value)
            && self.provider == other.provider
            && self.reservations == other.reservations
            && self.disk == other.disk
    }

    /// Whether the two become one when they meet.
    pub(super) fn merges_with(&self, other: &Self) -> bool {
        !self.is_exclusive() && self.same_kind(other)
    }

    /// Whether `other` could be taken out of this one.
    pub(super) fn holds(&self, other: &Self) -> bool {
        if !self.same_kind(other) {
            return false;
        }
        if self.is_exclusive() {
            return self.value == other.value;
        }
        if let (Some(have), Some(want)) = (self.shared, other.shared) {
            return have >= want;
        }
        match (&self.value, &other.value) {
            (Value::Scalar(have), Value::Scalar(want)) => have >= want,
            (Value::Ranges(have), Value::Ranges(want)) => have.contains(want),
            (Value::Set(have), Value::Set(want)) => have.is_superset(want),
            _ => false,
        }
    }

    /// Adds what [`Resource::merges_with`] allowed.
    pub(super) fn merge(&mut self, other: &Self) {
        if let (Some(have), Some(more)) = (self.shared.as_mut(), other.shared) {
            *have = have.saturating_add(more);
            return;
        }
        match (&mut self.value, &other.value) {
            (Value::Scalar(have), Value::Scalar(more)) => *have += *more,
            (Value::Ranges(have), Value::Ranges(more)) => have.add(more),
            (Value::Set(have), Value::Set(more)) => have.extend(more.iter().cloned()),
            _ => {}
        }
    }

    /// Takes out as much of `other`, which is of the same kind, as is there.
    pub(super) fn take(&mut self, other: &Self) {
        if let (Some(have), Some(less)) = (self.shared.as_mut(), other.shared) {
            *have = have.saturating_sub(less);
            return;
        }
        match (&mut self.value, &other.value) {
            (Value::Scalar(have), Value::Scalar(less)) => *have = have.minus(*less),
            (Value::Ranges(have), Value::Ranges(less)) => have.remove(less),
            (Value::Set(have), Value::Set(less)) => have.retain(|word| !less.contains(word)),
            _ => {}
        }
    }
}
