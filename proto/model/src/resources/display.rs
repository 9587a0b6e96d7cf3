//! Resources in words, as Mesos prints them: `cpus(allocated: *):0.1; mem(allocated: *):32`.

use std::fmt;

use mezzo_wire::v1::resource::DiskInfo;
use mezzo_wire::v1::resource::disk_info::source::Type as SourceType;

use super::{Reservation, ReservationKind, Resource, Resources, Value};

impl fmt::Display for ReservationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "STATIC",
            Self::Dynamic => "DYNAMIC",
        })
    }
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{}", self.kind, self.role)?;
        if let Some(principal) = &self.principal {
            write!(f, ",{principal}")?;
        }
        if let Some(labels) = &self.labels {
            f.write_str(",{")?;
            for (index, label) in labels.labels.iter().enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                write!(f, "{separator}{}", label.key)?;
                if let Some(value) = &label.value {
                    write!(f, ": {value}")?;
                }
            }
            f.write_str("}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(amount) => amount.fmt(f),
            Self::Ranges(ranges) => ranges.fmt(f),
            Self::Set(words) => {
                f.write_str("{")?;
                for (index, word) in words.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{word}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_disk(disk: &DiskInfo, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut separator = "";
    if let Some(source) = &disk.source {
        let kind = SourceType::try_from(source.r#type).unwrap_or_default();
        f.write_str(kind.as_str_name())?;
        let root = match kind {
            SourceType::Path => source.path.as_ref().and_then(|path| path.root.as_deref()),
            SourceType::Mount => source
                .mount
                .as_ref()
                .and_then(|mount| mount.root.as_deref()),
            _ => source.id.as_deref(),
        };
        if let Some(root) = root {
            write!(f, ":{root}")?;
        }
        separator = ",";
    }
    if let Some(persistence) = &disk.persistence {
        write!(f, "{separator}{}", persistence.id)?;
    }
    if let Some(volume) = &disk.volume {
        write!(f, ":{}", volume.container_path)?;
    }
    Ok(())
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(role) = &self.allocation {
            write!(f, "(allocated: {role})")?;
        }
        if !self.reservations.is_empty() {
            f.write_str("(reservations: [")?;
            for (index, reservation) in self.reservations.iter().enumerate() {
                let separator = if index == 0 { "" } else { "," };
                write!(f, "{separator}{reservation}")?;
            }
            f.write_str("])")?;
        }
        if let Some(disk) = &self.disk {
            f.write_str("[")?;
            write_disk(disk, f)?;
            f.write_str("]")?;
        }
        if self.revocable {
            f.write_str("{REV}")?;
        }
        match self.shared {
            Some(1) => f.write_str("<SHARED>")?,
            Some(copies) => write!(f, "<SHARED>x{copies}")?,
            None => {}
        }
        write!(f, ":{}", self.value)
    }
}

/// Separated by `; `; `{}` for an empty bag.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (index, resource) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{resource}")?;
        }
        Ok(())
    }
}
