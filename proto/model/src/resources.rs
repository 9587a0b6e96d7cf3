//! The algebra of offers: bags of resources that are added, subtracted and compared without a float.
//!
//! Scalars are integers in thousandths, rounded as Mesos rounds (half away from zero); ranges are coalesced
//! intervals of whole numbers; sets hold words. Two resources merge if all that describes them is the same
//! (name, kind, allocation, reservation stack, disk, revocable, provider); persistent volumes and exclusive
//! disks never merge; a shared volume is counted in copies.
//!
//! Invariant: no operation yields a negative amount, and `(a + b) - b == a`.

mod display;
mod quantities;
mod ranges;
mod resource;
mod scalar;
mod text;
mod validate;
mod wire;

#[cfg(test)]
mod laws;

use std::ops::{Add, AddAssign};

pub use quantities::Quantities;
pub use ranges::{Ranges, RangesError};
pub use resource::{Reservation, ReservationKind, Resource, Value};
pub use scalar::Milli;
pub use text::TextError;
pub use validate::{InvalidResource, ResourceError};
pub use wire::WireFormat;

use crate::Role;

/// A bag of resources. Equality does not look at order.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    items: Vec<Resource>,
}

impl Resources {
    /// No resources.
    pub const fn new() -> Self {
        Self { items: Vec::new() }
    }

    /// Whether nothing is in the bag.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many different resources are in the bag.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The resources, coalesced, in the order in which they first came.
    pub fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.items.iter()
    }

    /// Puts one resource in.
    pub fn insert(&mut self, resource: Resource) {
        if resource.is_empty() {
            return;
        }
        match self
            .items
            .iter_mut()
            .find(|item| item.merges_with(&resource))
        {
            Some(item) => item.merge(&resource),
            None => self.items.push(resource),
        }
    }

    /// Whether `other` could be taken out of this bag. O(n * m) in the number of different resources.
    pub fn contains(&self, other: &Self) -> bool {
        // A resource that cannot be divided is matched one to one; everything else has at most one
        // counterpart, because both bags are coalesced.
        let mut used: Vec<usize> = Vec::new();
        other.items.iter().all(|wanted| {
            let exclusive = wanted.is_exclusive();
            let found = self.items.iter().enumerate().position(|(index, item)| {
                item.holds(wanted) && !(exclusive && used.contains(&index))
            });
            match found {
                Some(index) => {
                    if exclusive {
                        used.push(index);
                    }
                    true
                }
                None => false,
            }
        })
    }

    /// Takes `other` out, or `None` if it is not all there.
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        if !self.contains(other) {
            return None;
        }
        let mut rest = self.clone();
        rest.remove(other);
        Some(rest)
    }

    /// Takes `other` out in place; `false`, changing nothing, if it is not all there.
    pub fn try_remove(&mut self, other: &Self) -> bool {
        let held = self.contains(other);
        if held {
            self.remove(other);
        }
        held
    }

    /// Takes out as much of `other` as is there.
    pub fn remove(&mut self, other: &Self) {
        for unwanted in &other.items {
            let found = self.items.iter().position(|item| {
                if unwanted.is_exclusive() {
                    item.holds(unwanted)
                } else {
                    item.same_kind(unwanted)
                }
            });
            if let Some(index) = found {
                self.items[index].take(unwanted);
                if self.items[index].is_empty() {
                    self.items.remove(index);
                }
            }
        }
    }

    /// The resources for which `keep` is true.
    pub fn filter(&self, mut keep: impl FnMut(&Resource) -> bool) -> Self {
        Self {
            items: self
                .items
                .iter()
                .filter(|item| keep(item))
                .cloned()
                .collect(),
        }
    }

    /// Drops the resources for which `keep` is false.
    pub fn retain(&mut self, keep: impl FnMut(&Resource) -> bool) {
        self.items.retain(keep);
    }

    /// Each resource changed by `change`, coalesced again.
    pub fn map(&self, mut change: impl FnMut(&mut Resource)) -> Self {
        let mut changed = Self::new();
        for item in &self.items {
            let mut item = item.clone();
            change(&mut item);
            changed.insert(item);
        }
        changed
    }

    /// The resources of that name.
    pub fn get(&self, name: &str) -> Self {
        self.filter(|item| &*item.name == name)
    }

    /// The sum of all scalars of that name, however reserved or allocated.
    pub fn scalar(&self, name: &str) -> Milli {
        self.named(name)
            .filter_map(Resource::as_scalar)
            .fold(Milli::ZERO, |sum, one| sum + one)
    }

    /// The union of all ranges of that name.
    pub fn ranges(&self, name: &str) -> Ranges {
        let mut union = Ranges::new();
        for item in self.named(name) {
            if let Value::Ranges(ranges) = &item.value {
                union.add(ranges);
            }
        }
        union
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.items.iter().filter(move |item| &*item.name == name)
    }

    /// The scalars by name, whatever else describes them. Shared volumes count once.
    pub fn quantities(&self) -> Quantities {
        let mut quantities = Quantities::new();
        for item in &self.items {
            if let Value::Scalar(amount) = item.value {
                quantities.add(&item.name, amount);
            }
        }
        quantities
    }

    /// The same resources as allocated to `role`.
    pub fn allocated_to(&self, role: &Role) -> Self {
        self.map(|item| item.allocation = Some(role.clone()))
    }

    /// The same resources without any allocation.
    pub fn unallocated(&self) -> Self {
        self.map(|item| item.allocation = None)
    }

    /// The same resources with every reservation popped.
    pub fn to_unreserved(&self) -> Self {
        self.map(|item| item.reservations.clear())
    }

    /// Pushes a reservation onto the stack of each.
    pub fn push_reservation(&self, reservation: &Reservation) -> Self {
        self.map(|item| item.reservations.push(reservation.clone()))
    }

    /// Pops the top reservation of each; what is unreserved stays as it is.
    pub fn pop_reservation(&self) -> Self {
        self.map(|item| {
            item.reservations.pop();
        })
    }

    /// What is reserved to nobody.
    pub fn unreserved(&self) -> Self {
        self.filter(|item| item.reservations.is_empty())
    }

    /// What is reserved, to whomever.
    pub fn reserved(&self) -> Self {
        self.filter(|item| !item.reservations.is_empty())
    }

    /// What is reserved to exactly this role.
    pub fn reserved_to(&self, role: &Role) -> Self {
        self.filter(|item| item.reservation_role() == Some(role))
    }

    /// What a framework of `role` may use: the unreserved, and what is reserved to the role or one above it.
    pub fn allocatable_to(&self, role: &Role) -> Self {
        self.filter(|item| item.allocatable_to(role))
    }

    /// What may be taken back at any time.
    pub fn revocable(&self) -> Self {
        self.filter(|item| item.revocable)
    }

    /// What may not be taken back.
    pub fn non_revocable(&self) -> Self {
        self.filter(|item| !item.revocable)
    }

    /// Shared volumes.
    pub fn shared(&self) -> Self {
        self.filter(|item| item.shared.is_some())
    }

    /// Everything but shared volumes.
    pub fn non_shared(&self) -> Self {
        self.filter(|item| item.shared.is_none())
    }

    /// Persistent volumes.
    pub fn persistent_volumes(&self) -> Self {
        self.filter(Resource::is_persistent_volume)
    }
}

impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        self.items.len() == other.items.len() && self.contains(other) && other.contains(self)
    }
}

impl Eq for Resources {}

impl AddAssign<&Resources> for Resources {
    fn add_assign(&mut self, other: &Self) {
        for item in &other.items {
            self.insert(item.clone());
        }
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Self) {
        if self.items.is_empty() {
            *self = other;
            return;
        }
        for item in other.items {
            self.insert(item);
        }
    }
}

impl Add<&Resources> for &Resources {
    type Output = Resources;
    fn add(self, other: &Resources) -> Resources {
        let mut sum = self.clone();
        sum += other;
        sum
    }
}

impl Add for Resources {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl FromIterator<Resource> for Resources {
    fn from_iter<I: IntoIterator<Item = Resource>>(items: I) -> Self {
        let mut bag = Self::new();
        for item in items {
            bag.insert(item);
        }
        bag
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Resource;
    type IntoIter = std::slice::Iter<'a, Resource>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}
