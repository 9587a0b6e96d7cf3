//! Between messages and lean values: the stack format, the older `role`/`reservation` format, and both at once.

use std::sync::Arc;

use mezzo_wire::v1;
use mezzo_wire::v1::resource::ReservationInfo;
use mezzo_wire::v1::resource::reservation_info::Type as ReservationType;

use super::resource::intern;
use super::validate::{self, InvalidResource};
use super::{Milli, Ranges, Reservation, ReservationKind, Resource, Resources, Value};
use crate::Role;

/// How reservations are written into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFormat {
    /// The stack `reservations`, and no `role`: between agents, and to frameworks that refine reservations.
    Stack,
    /// `role` always, `reservation` for a dynamic one: to frameworks that do not. A stack of several levels cannot be
    /// written so and must have been left out before.
    Old,
    /// Both: what operators read.
    Both,
}

impl Resources {
    /// Checks and takes in messages of either format; an amount of zero is left out.
    ///
    /// # Errors
    /// Names the first resource that is not valid, in Mesos' words.
    pub fn from_wire(wire: &[v1::Resource]) -> Result<Self, InvalidResource> {
        let mut resources = Self::new();
        for message in wire {
            match Resource::from_wire(message) {
                Ok(resource) => resources.insert(resource),
                Err(error) => {
                    return Err(InvalidResource {
                        resource: validate::describe(message),
                        error,
                    });
                }
            }
        }
        Ok(resources)
    }

    /// The name by which other rooms know [`Resources::from_wire`].
    ///
    /// # Errors
    /// As there.
    pub fn try_from_wire(wire: &[v1::Resource]) -> Result<Self, InvalidResource> {
        Self::from_wire(wire)
    }

    /// The messages, in the stack format.
    pub fn to_wire(&self) -> Vec<v1::Resource> {
        self.to_wire_as(WireFormat::Stack)
    }

    /// The messages, in the format that the reader understands. A shared volume is repeated for each copy.
    pub fn to_wire_as(&self, format: WireFormat) -> Vec<v1::Resource> {
        let mut wire = Vec::with_capacity(self.len());
        for resource in self {
            let message = resource.to_wire_as(format);
            for _ in 1..resource.shared.unwrap_or(1) {
                wire.push(message.clone());
            }
            wire.push(message);
        }
        wire
    }
}

impl Resource {
    /// Checks and takes in one message of either format.
    ///
    /// # Errors
    /// Says what is wrong, in Mesos' words.
    pub fn from_wire(wire: &v1::Resource) -> Result<Self, super::ResourceError> {
        validate::check(wire)?;
        let value = if let Some(scalar) = &wire.scalar {
            Value::Scalar(Milli::from_f64(scalar.value).unwrap_or_default())
        } else if let Some(ranges) = &wire.ranges {
            Value::Ranges(Ranges::from_wire(ranges)?)
        } else {
            let items = wire.set.iter().flat_map(|set| &set.item);
            Value::Set(items.map(|item| Arc::from(item.as_str())).collect())
        };
        let allocation = match wire
            .allocation_info
            .as_ref()
            .and_then(|info| info.role.as_ref())
        {
            Some(role) => Some(Role::parse(role)?),
            None => None,
        };
        Ok(Self {
            name: intern(&wire.name),
            value,
            allocation,
            reservations: stack(wire)?,
            disk: wire.disk.clone().map(Arc::from),
            revocable: wire.revocable.is_some(),
            shared: wire.shared.is_some().then_some(1),
            provider: wire
                .provider_id
                .as_ref()
                .map(|id| Arc::from(id.value.as_str())),
        })
    }

    /// One message; of a shared volume, one copy.
    pub fn to_wire_as(&self, format: WireFormat) -> v1::Resource {
        let mut wire = v1::Resource {
            name: self.name.to_string(),
            allocation_info: self
                .allocation
                .as_ref()
                .map(|role| v1::resource::AllocationInfo {
                    role: Some(role.to_string()),
                }),
            disk: self.disk.as_deref().cloned().map(Box::new),
            revocable: self.revocable.then(Default::default),
            shared: self.shared.map(|_| Default::default()),
            provider_id: self.provider.as_ref().map(|id| v1::ResourceProviderId {
                value: id.to_string(),
            }),
            ..Default::default()
        };
        match &self.value {
            Value::Scalar(amount) => {
                wire.r#type = v1::value::Type::Scalar as i32;
                wire.scalar = Some(v1::value::Scalar {
                    value: amount.to_f64(),
                });
            }
            Value::Ranges(ranges) => {
                wire.r#type = v1::value::Type::Ranges as i32;
                wire.ranges = Some(ranges.to_wire());
            }
            Value::Set(words) => {
                wire.r#type = v1::value::Type::Set as i32;
                let item = words.iter().map(ToString::to_string).collect();
                wire.set = Some(v1::value::Set { item });
            }
        }
        if format != WireFormat::Old {
            wire.reservations = self.reservations.iter().map(Reservation::to_wire).collect();
        }
        if format != WireFormat::Stack {
            self.write_old_format(&mut wire);
        }
        wire
    }

    fn write_old_format(&self, wire: &mut v1::Resource) {
        match self.reservations.as_slice() {
            [] => wire.role = Some(String::from("*")),
            [single] => {
                wire.role = Some(single.role.to_string());
                if single.kind == ReservationKind::Dynamic {
                    wire.reservation = Some(ReservationInfo {
                        r#type: None,
                        role: None,
                        ..single.to_wire()
                    });
                }
            }
            // Only the stack says what it is.
            _ => {}
        }
    }
}

impl Reservation {
    /// Checks and takes in one level of a stack.
    ///
    /// # Errors
    /// If the role is none; an absent type counts as dynamic.
    pub fn from_wire(wire: &ReservationInfo) -> Result<Self, crate::role::RoleError> {
        let kind = if wire.r#type == Some(ReservationType::Static as i32) {
            ReservationKind::Static
        } else {
            ReservationKind::Dynamic
        };
        Ok(Self {
            kind,
            role: Role::parse(wire.role.as_deref().unwrap_or("*"))?,
            principal: wire.principal.as_deref().map(Arc::from),
            labels: wire.labels.clone().map(Arc::new),
        })
    }

    /// The message that carries it.
    pub fn to_wire(&self) -> ReservationInfo {
        let kind = match self.kind {
            ReservationKind::Static => ReservationType::Static,
            ReservationKind::Dynamic => ReservationType::Dynamic,
        };
        ReservationInfo {
            r#type: Some(kind as i32),
            role: Some(self.role.to_string()),
            principal: self.principal.as_ref().map(ToString::to_string),
            labels: self.labels.as_deref().cloned(),
        }
    }
}

/// The stack of a message that was checked, whichever format it has.
fn stack(wire: &v1::Resource) -> Result<Vec<Reservation>, super::ResourceError> {
    if !wire.reservations.is_empty() {
        let stack: Result<_, _> = wire
            .reservations
            .iter()
            .map(Reservation::from_wire)
            .collect();
        return Ok(stack?);
    }
    let role = Role::parse(wire.role.as_deref().unwrap_or("*"))?;
    if role.is_star() {
        return Ok(Vec::new());
    }
    let reservation = match &wire.reservation {
        Some(old) => Reservation {
            kind: ReservationKind::Dynamic,
            role,
            principal: old.principal.as_deref().map(Arc::from),
            labels: old.labels.clone().map(Arc::new),
        },
        None => Reservation {
            kind: ReservationKind::Static,
            role,
            principal: None,
            labels: None,
        },
    };
    Ok(vec![reservation])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Resource {
        Resources::parse(text)
            .expect("reads")
            .iter()
            .next()
            .expect("one")
            .clone()
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let role = Role::parse("eng").expect("a role");
        let principal = Some(Arc::from("ann"));
        let dynamic = Reservation {
            kind: ReservationKind::Dynamic,
            role: role.clone(),
            principal,
            labels: None,
        };
        let plain = Resources::from_iter([one("cpus:1"), one("mem(eng):2")]);
        let reserved = Resources::from_iter([one("disk:3")]).push_reservation(&dynamic);
        let all = (&plain + &reserved).allocated_to(&role);
        for format in [WireFormat::Stack, WireFormat::Old, WireFormat::Both] {
            let wire = all.to_wire_as(format);
            assert_eq!(Resources::from_wire(&wire), Ok(all.clone()), "{format:?}");
        }
        let old = all.to_wire_as(WireFormat::Old);
        assert_eq!(old[0].role.as_deref(), Some("*"));
        assert_eq!(old[1].role.as_deref(), Some("eng"));
        assert!(old[1].reservation.is_none() && old[1].reservations.is_empty());
        let old_dynamic = old[2].reservation.as_ref().expect("dynamic");
        assert_eq!(old_dynamic.principal.as_deref(), Some("ann"));
        assert!(old_dynamic.role.is_none() && old_dynamic.r#type.is_none());
        assert!(all.to_wire().iter().all(|resource| resource.role.is_none()));
    }

    #[test]
    fn a_shared_volume_is_repeated_for_each_copy() {
        let disk = v1::resource::DiskInfo {
            persistence: Some(v1::resource::disk_info::Persistence {
                id: "v1".into(),
                principal: None,
            }),
            ..Default::default()
        };
        let mut volume = one("disk(eng):5");
        volume.disk = Some(Arc::new(disk));
        volume.shared = Some(1);
        let two = Resources::from_iter([volume.clone(), volume.clone()]);
        assert_eq!(two.len(), 1);
        assert_eq!(two.to_wire().len(), 2);
        assert_eq!(Resources::from_wire(&two.to_wire()), Ok(two.clone()));
        let single = Resources::from_iter([volume]);
        assert_eq!(two.checked_sub(&single), Some(single.clone()));
        assert_eq!(single.checked_sub(&two), None);
        assert_eq!(
            two.to_string(),
            "disk(reservations: [(STATIC,eng)])[v1]<SHARED>x2:5"
        );
    }
}
