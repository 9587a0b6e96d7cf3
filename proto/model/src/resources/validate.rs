//! What is checked of a resource that comes from outside, in Mesos' order and words.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use mezzo_wire::v1;
use mezzo_wire::v1::resource::ReservationInfo;
use mezzo_wire::v1::resource::disk_info::source::Type as SourceType;
use mezzo_wire::v1::resource::reservation_info::Type as ReservationType;

use super::{Milli, Ranges, RangesError};
use crate::role::{Role, RoleError};

/// The longest description of a resource in an error, in bytes.
const MAX_SHOWN: usize = 512;

/// A resource of a list that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Resource '{resource}' is invalid: {error}")]
pub struct InvalidResource {
    /// The resource in words.
    pub resource: String,
    /// What is wrong with it.
    #[source]
    pub error: ResourceError,
}

/// What is wrong with one resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each variant is its words
pub enum ResourceError {
    #[error("Empty resource name")]
    EmptyName,
    #[error("Invalid resource type")]
    UnknownType,
    #[error("Unsupported resource type")]
    UnsupportedType,
    #[error("Invalid scalar resource")]
    ScalarShape,
    #[error("Invalid scalar resource: value <= 0")]
    NotPositive,
    #[error("Invalid scalar resource: value is not a number up to 10^12")]
    NotFinite,
    #[error("Invalid ranges resource")]
    RangesShape,
    #[error(transparent)]
    Ranges(#[from] RangesError),
    #[error("Invalid set resource")]
    SetShape,
    #[error("Invalid set resource: duplicated elements")]
    DuplicateElements,
    #[error("DiskInfo should not be set for {name} resource")]
    DiskOfNoDisk { name: String },
    #[error("{field} should not be set for {kind} disk source")]
    DiskSourceField {
        field: &'static str,
        kind: &'static str,
    },
    #[error("Unsupported 'DiskInfo.Source.Type'")]
    DiskSourceType,
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(
        "'Resource.ReservationInfo.{field}' must not be set for the 'Resource.reservation' field"
    )]
    OldReservationField { field: &'static str },
    #[error("Invalid reservation: role \"*\" cannot be dynamically reserved")]
    StarReservedDynamically,
    #[error("Invalid reservation: 'Resource.ReservationInfo.{field}' field must be set.")]
    ReservationFieldMissing { field: &'static str },
    #[error("Invalid reservation: role \"*\" cannot be reserved")]
    StarReserved,
    #[error("Invalid refined reservation: A refined reservation cannot be STATIC")]
    RefinedStatic,
    #[error("Invalid refined reservation: role '{role}' is not a refinement of '{below}'")]
    NoRefinement { role: String, below: String },
    #[error("Invalid resource format: {0}")]
    MixedFormats(&'static str),
    #[error("Resource {name} cannot be shared")]
    SharedNoDisk { name: String },
    #[error("Only persistent volumes can be shared")]
    SharedNoVolume,
}

/// Checks one message. Everything that [`super::Resources::from_wire`] relies on is checked here.
pub(super) fn check(resource: &v1::Resource) -> Result<(), ResourceError> {
    if resource.name.is_empty() {
        return Err(ResourceError::EmptyName);
    }
    check_value(resource)?;
    check_disk(resource)?;
    if resource.reservations.is_empty() {
        check_old_reservation(resource)?;
    } else {
        check_stack(&resource.reservations)?;
        check_mixed_formats(resource)?;
    }
    if let Some(allocation) = &resource.allocation_info
        && let Some(role) = &allocation.role
    {
        Role::parse(role)?;
    }
    if resource.shared.is_some() {
        if resource.name != "disk" {
            return Err(ResourceError::SharedNoDisk {
                name: resource.name.clone(),
            });
        }
        if resource
            .disk
            .as_ref()
            .is_none_or(|disk| disk.persistence.is_none())
        {
            return Err(ResourceError::SharedNoVolume);
        }
    }
    Ok(())
}

fn check_value(resource: &v1::Resource) -> Result<(), ResourceError> {
    let kind =
        v1::value::Type::try_from(resource.r#type).map_err(|_| ResourceError::UnknownType)?;
    match (kind, &resource.scalar, &resource.ranges, &resource.set) {
        (v1::value::Type::Scalar, Some(scalar), None, None) => {
            let value = scalar.value;
            match Milli::from_f64(value) {
                _ if value < 0.0 => Err(ResourceError::NotPositive),
                None => Err(ResourceError::NotFinite),
                Some(amount) if value != 0.0 && amount <= Milli::ZERO => {
                    Err(ResourceError::NotPositive)
                }
                Some(_) => Ok(()),
            }
        }
        (v1::value::Type::Scalar, ..) => Err(ResourceError::ScalarShape),
        (v1::value::Type::Ranges, None, Some(ranges), None) => {
            Ranges::from_wire(ranges)?;
            Ok(())
        }
        (v1::value::Type::Ranges, ..) => Err(ResourceError::RangesShape),
        (v1::value::Type::Set, None, None, Some(set)) => {
            let different: BTreeSet<&String> = set.item.iter().collect();
            if different.len() == set.item.len() {
                Ok(())
            } else {
                Err(ResourceError::DuplicateElements)
            }
        }
        (v1::value::Type::Set, ..) => Err(ResourceError::SetShape),
        (v1::value::Type::Text, ..) => Err(ResourceError::UnsupportedType),
    }
}

fn check_disk(resource: &v1::Resource) -> Result<(), ResourceError> {
    let Some(disk) = &resource.disk else {
        return Ok(());
    };
    if resource.name != "disk" {
        return Err(ResourceError::DiskOfNoDisk {
            name: resource.name.clone(),
        });
    }
    let Some(source) = &disk.source else {
        return Ok(());
    };
    let kind = match SourceType::try_from(source.r#type) {
        Ok(SourceType::Path | SourceType::Mount) => return Ok(()),
        Ok(SourceType::Block) => "BLOCK",
        Ok(SourceType::Raw) => "RAW",
        Ok(SourceType::Unknown) | Err(_) => return Err(ResourceError::DiskSourceType),
    };
    if source.mount.is_some() {
        return Err(ResourceError::DiskSourceField {
            field: "Mount",
            kind,
        });
    }
    if source.path.is_some() {
        return Err(ResourceError::DiskSourceField {
            field: "Path",
            kind,
        });
    }
    Ok(())
}

/// The format before reservation stacks: `role`, and `reservation` if it was made at run time.
fn check_old_reservation(resource: &v1::Resource) -> Result<(), ResourceError> {
    let role = resource.role.as_deref().unwrap_or("*");
    Role::parse(role)?;
    let Some(reservation) = &resource.reservation else {
        return Ok(());
    };
    if reservation.r#type.is_some() {
        return Err(ResourceError::OldReservationField { field: "type" });
    }
    if reservation.role.is_some() {
        return Err(ResourceError::OldReservationField { field: "role" });
    }
    if role == "*" {
        return Err(ResourceError::StarReservedDynamically);
    }
    Ok(())
}

fn check_stack(stack: &[ReservationInfo]) -> Result<(), ResourceError> {
    let mut below: Option<Role> = None;
    for reservation in stack {
        let kind = reservation
            .r#type
            .and_then(|kind| ReservationType::try_from(kind).ok());
        let kind = match kind {
            Some(ReservationType::Unknown) | None => {
                return Err(ResourceError::ReservationFieldMissing { field: "type" });
            }
            Some(kind) => kind,
        };
        let Some(role) = &reservation.role else {
            return Err(ResourceError::ReservationFieldMissing { field: "role" });
        };
        let role = Role::parse(role)?;
        if role.is_star() {
            return Err(ResourceError::StarReserved);
        }
        if let Some(below) = &below {
            if kind == ReservationType::Static {
                return Err(ResourceError::RefinedStatic);
            }
            if !role.is_strict_subrole_of(below) {
                let (role, below) = (role.to_string(), below.to_string());
                return Err(ResourceError::NoRefinement { role, below });
            }
        }
        below = Some(role);
    }
    Ok(())
}

/// Both formats at once are accepted where they say the same.
fn check_mixed_formats(resource: &v1::Resource) -> Result<(), ResourceError> {
    let refuse = |words| Err(ResourceError::MixedFormats(words));
    let [single] = resource.reservations.as_slice() else {
        if resource.role.is_some() {
            return refuse(
                "'Resource.role' must not be set if there is more than one reservation in \
                 'Resource.reservations'",
            );
        }
        if resource.reservation.is_some() {
            return refuse(
                "'Resource.reservation' must not be set if there is more than one reservation in \
                 'Resource.reservations'",
            );
        }
        return Ok(());
    };
    if resource.role.is_some() && resource.role != single.role {
        return refuse(
            "'Resource.role' does not match the role of the single reservation in \
             'Resource.reservations'",
        );
    }
    if single.r#type == Some(ReservationType::Static as i32) {
        if resource.reservation.is_some() {
            return refuse(
                "'Resource.reservation' must not be set if the single reservation in \
                 'Resource.reservations' is STATIC",
            );
        }
        return Ok(());
    }
    if resource.role.is_some() != resource.reservation.is_some() {
        return refuse(
            "'Resource.role' and 'Resource.reservation' must either be both set or both not set \
             if the single reservation in 'Resource.reservations' is DYNAMIC",
        );
    }
    if let Some(old) = &resource.reservation
        && (old.principal != single.principal || old.labels != single.labels)
    {
        return refuse(
            "'Resource.reservation' does not match the single reservation in \
             'Resource.reservations'",
        );
    }
    Ok(())
}

/// A message in words, valid or not, such as `cpus:-1`.
pub(super) fn describe(resource: &v1::Resource) -> String {
    let mut text = resource.name.clone();
    // Writing to a String cannot fail.
    if let Some(role) = resource
        .allocation_info
        .as_ref()
        .and_then(|info| info.role.as_ref())
    {
        let _ = write!(text, "(allocated: {role})");
    }
    if let Some(role) = resource.role.as_deref().filter(|role| *role != "*") {
        let _ = write!(text, "(reservations: [({role})])");
    }
    if let Some(scalar) = &resource.scalar {
        let value = scalar.value;
        // A huge float would print hundreds of digits.
        let _ = if value.abs() < 1e15 {
            write!(text, ":{value}")
        } else {
            write!(text, ":{value:e}")
        };
    } else if let Some(ranges) = &resource.ranges {
        let shown: Vec<String> = ranges
            .range
            .iter()
            .take(32)
            .map(|r| format!("{}-{}", r.begin, r.end))
            .collect();
        let _ = write!(text, ":[{}]", shown.join(", "));
    } else if let Some(set) = &resource.set {
        let shown: Vec<&str> = set.item.iter().take(32).map(String::as_str).collect();
        let _ = write!(text, ":{{{}}}", shown.join(", "));
    }
    if text.len() > MAX_SHOWN {
        let cut = (0..=MAX_SHOWN)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Resources;
    use super::*;

    fn scalar(name: &str, value: f64) -> v1::Resource {
        v1::Resource {
            name: name.into(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        }
    }

    fn dynamic(role: &str) -> ReservationInfo {
        ReservationInfo {
            r#type: Some(ReservationType::Dynamic as i32),
            role: Some(role.into()),
            ..Default::default()
        }
    }

    fn refused(resource: v1::Resource) -> String {
        Resources::from_wire(&[resource])
            .expect_err("invalid")
            .to_string()
    }

    #[test]
    fn bad_values_are_refused_in_known_words() {
        assert_eq!(
            refused(scalar("cpus", -1.0)),
            "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0"
        );
        assert!(refused(scalar("cpus", 0.0001)).ends_with("value <= 0"));
        assert!(refused(scalar("cpus", f64::NAN)).contains("not a number"));
        assert!(refused(scalar("cpus", f64::NEG_INFINITY)).ends_with("value <= 0"));
        assert!(refused(scalar("cpus", 1e300)).contains("cpus:1e300"));
        assert!(refused(scalar("", 1.0)).contains("Empty resource name"));
        let shape = v1::Resource {
            scalar: None,
            ..scalar("cpus", 1.0)
        };
        assert!(refused(shape).contains("Invalid scalar resource"));
        let unknown = v1::Resource {
            r#type: 9,
            ..scalar("cpus", 1.0)
        };
        assert!(refused(unknown).contains("Invalid resource type"));
        let text = v1::Resource {
            r#type: 3,
            ..scalar("cpus", 1.0)
        };
        assert!(refused(text).contains("Unsupported resource type"));
        let set = v1::value::Set {
            item: vec!["a".into(), "a".into()],
        };
        let set = v1::Resource {
            r#type: 2,
            scalar: None,
            set: Some(set),
            ..scalar("w", 1.0)
        };
        assert!(refused(set).contains("duplicated elements"));
        let disk = v1::Resource {
            disk: Some(Default::default()),
            ..scalar("cpus", 1.0)
        };
        assert!(refused(disk).contains("DiskInfo should not be set for cpus resource"));
        let shared = v1::Resource {
            shared: Some(Default::default()),
            ..scalar("disk", 1.0)
        };
        assert!(refused(shared).contains("Only persistent volumes can be shared"));
        assert_eq!(
            Resources::from_wire(&[scalar("disk", 0.0)]),
            Ok(Resources::new())
        );
    }

    #[test]
    fn bad_reservations_are_refused_in_known_words() {
        let with = |stack: Vec<ReservationInfo>| v1::Resource {
            reservations: stack,
            ..scalar("cpus", 1.0)
        };
        assert!(refused(with(vec![dynamic("*")])).contains("role \"*\" cannot be reserved"));
        assert!(
            refused(with(vec![dynamic("a"), dynamic("b")]))
                .contains("'b' is not a refinement of 'a'")
        );
        let fixed = ReservationInfo {
            r#type: Some(ReservationType::Static as i32),
            ..dynamic("a/b")
        };
        assert!(refused(with(vec![dynamic("a"), fixed])).contains("cannot be STATIC"));
        let missing = ReservationInfo {
            role: None,
            ..dynamic("a")
        };
        assert!(refused(with(vec![missing])).contains("ReservationInfo.role' field must be set"));
        let both = v1::Resource {
            role: Some("b".into()),
            ..with(vec![dynamic("a")])
        };
        assert!(refused(both).contains("Invalid resource format"));
        let star = v1::Resource {
            reservation: Some(Default::default()),
            ..scalar("cpus", 1.0)
        };
        assert!(refused(star).contains("cannot be dynamically reserved"));
        let role = v1::Resource {
            role: Some("-x".into()),
            ..scalar("cpus", 1.0)
        };
        assert!(refused(role).contains("starts with a dash"));
    }
}
