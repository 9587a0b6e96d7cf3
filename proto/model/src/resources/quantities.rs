//! Scalars by name: what fairness, quota and thresholds are counted in.

use std::fmt;
use std::sync::Arc;

use super::Milli;

/// Positive amounts, ordered by name. What is not listed is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantities(Vec<(Arc<str>, Milli)>);

impl Quantities {
    /// Nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The amount of that name.
    pub fn get(&self, name: &str) -> Milli {
        self.0
            .binary_search_by(|(own, _)| (**own).cmp(name))
            .map_or(Milli::ZERO, |index| self.0[index].1)
    }

    /// Puts an amount in; what is not positive is passed over.
    pub fn add(&mut self, name: &Arc<str>, amount: Milli) {
        if amount <= Milli::ZERO {
            return;
        }
        match self.0.binary_search_by(|(own, _)| (**own).cmp(name)) {
            Ok(index) => self.0[index].1 += amount,
            Err(index) => self.0.insert(index, (name.clone(), amount)),
        }
    }

    /// Puts all amounts of `other` in.
    pub fn add_all(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.add(name, *amount);
        }
    }

    /// Takes the amounts of `other` out, never below zero.
    pub fn remove_all(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if let Ok(index) = self.0.binary_search_by(|(own, _)| own.cmp(name)) {
                self.0[index].1 = self.0[index].1.minus(*amount);
                if self.0[index].1 == Milli::ZERO {
                    self.0.remove(index);
                }
            }
        }
    }

    /// Whether each amount of `other` is at most the one here.
    pub fn contains(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(name, amount)| self.get(name) >= *amount)
    }

    /// The amounts, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Milli)> {
        self.0.iter().map(|(name, amount)| (name, *amount))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `cpus:2; mem:1024`, and `{}` for nothing.
impl fmt::Display for Quantities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("{}");
        }
        for (index, (name, amount)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{name}:{amount}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_come_and_go() {
        let mut have = Quantities::new();
        have.add(&Arc::from("mem"), Milli::whole(64));
        have.add(&Arc::from("cpus"), Milli(500));
        have.add(&Arc::from("cpus"), Milli(600));
        have.add(&Arc::from("gpus"), Milli::ZERO);
        assert_eq!(have.to_string(), "cpus:1.1; mem:64");
        let mut less = Quantities::new();
        less.add(&Arc::from("cpus"), Milli(1100));
        assert!(have.contains(&less) && !less.contains(&have));
        have.remove_all(&less);
        assert_eq!(have.get("cpus"), Milli::ZERO);
        have.remove_all(&less);
        assert_eq!(have.to_string(), "mem:64");
        assert_eq!(Quantities::new().to_string(), "{}");
    }
}
