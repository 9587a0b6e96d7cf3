//! Where instances may be placed, given where the others are: UNIQUE, CLUSTER, GROUP_BY, MAX_PER, IS, LIKE, UNLIKE.
//!
//! A constraint names a field of the agent (`hostname`, `@zone`, an attribute). Those that look at other instances are
//! judged against a [`Tally`]: how often each value of the field is in use. An agent that does not have the field
//! satisfies only UNLIKE. The rules are those that Marathon's users know.

use std::collections::BTreeMap;
use std::fmt;

use mezzo_model::constraint::{PatternError, whole_match};
use mezzo_model::resources::Milli;

use super::HeldOffer;

/// What is asked of a field.
#[derive(Clone, Debug)]
pub enum Operator {
    /// No two instances share a value.
    Unique,
    /// All instances share one value: the given one, or that of the first.
    Cluster(Option<String>),
    /// Instances are spread evenly over values; the number is how many values there should be.
    GroupBy(Option<u32>),
    /// At most so many instances share a value.
    MaxPer(u32),
    /// The value equals the given one; numbers are compared as numbers.
    Is(String),
    /// The value matches a pattern, as a whole.
    Like(regex::Regex),
    /// The value does not match a pattern, as a whole.
    Unlike(regex::Regex),
}

/// One condition on where instances go.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// The field it looks at.
    pub field: String,
    /// What it asks.
    pub operator: Operator,
}

/// Why a constraint cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The field has no name.
    #[error("a constraint needs the name of a field, such as hostname or an attribute")]
    NoField,
    /// No such operator.
    #[error("'{0}' is no operator; use UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE, MAX_PER or IS")]
    Operator(String),
    /// UNIQUE takes no value.
    #[error("UNIQUE takes no value")]
    Superfluous,
    /// The operator needs a value.
    #[error("{0} needs a value")]
    Missing(&'static str),
    /// The value is no whole number.
    #[error("{operator} needs a whole number, not '{value}'")]
    Number {
        /// Which operator.
        operator: &'static str,
        /// What was given.
        value: String,
    },
    /// The value of IS holds something else than letters, digits and `_/.-`.
    #[error("IS needs a word of letters, digits and _ / . -, not '{0}'")]
    Word(String),
    /// The pattern cannot be used.
    #[error("{operator}: {source}")]
    Pattern {
        /// Which operator.
        operator: &'static str,
        /// Why.
        source: PatternError,
    },
}

impl Operator {
    fn name(&self) -> &'static str {
        match self {
            Self::Unique => "UNIQUE",
            Self::Cluster(_) => "CLUSTER",
            Self::GroupBy(_) => "GROUP_BY",
            Self::MaxPer(_) => "MAX_PER",
            Self::Is(_) => "IS",
            Self::Like(_) => "LIKE",
            Self::Unlike(_) => "UNLIKE",
        }
    }
}

fn whole_number(operator: &'static str, value: &str) -> Result<u32, ConstraintError> {
    value.trim().parse().map_err(|_| ConstraintError::Number {
        operator,
        value: value.to_owned(),
    })
}

impl Constraint {
    /// Reads a constraint as people write it: field, operator in any case, value.
    ///
    /// # Errors
    /// Says which part is wrong and what would be accepted.
    pub fn parse(
        field: &str,
        operator: &str,
        value: Option<&str>,
    ) -> Result<Self, ConstraintError> {
        if field.is_empty() {
            return Err(ConstraintError::NoField);
        }
        let given = value.filter(|value| !value.is_empty());
        let pattern = |operator: &'static str| {
            let pattern = given.ok_or(ConstraintError::Missing(operator))?;
            whole_match(pattern).map_err(|source| ConstraintError::Pattern { operator, source })
        };
        let operator = match operator.to_ascii_uppercase().as_str() {
            "UNIQUE" if given.is_some() => return Err(ConstraintError::Superfluous),
            "UNIQUE" => Operator::Unique,
            "CLUSTER" => Operator::Cluster(given.map(str::to_owned)),
            "GROUP_BY" => {
                let groups = given
                    .map(|value| whole_number("GROUP_BY", value))
                    .transpose()?;
                Operator::GroupBy(groups)
            }
            "MAX_PER" => {
                let most = given.ok_or(ConstraintError::Missing("MAX_PER"))?;
                Operator::MaxPer(whole_number("MAX_PER", most)?)
            }
            "IS" => {
                let word = given.ok_or(ConstraintError::Missing("IS"))?;
                let fits =
                    |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-');
                if !word.chars().all(fits) {
                    return Err(ConstraintError::Word(word.to_owned()));
                }
                Operator::Is(word.to_owned())
            }
            "LIKE" => Operator::Like(pattern("LIKE")?),
            "UNLIKE" => Operator::Unlike(pattern("UNLIKE")?),
            _ => return Err(ConstraintError::Operator(operator.to_owned())),
        };
        Ok(Self {
            field: field.to_owned(),
            operator,
        })
    }

    /// Whether one more instance may be placed where the field has this value. `wanted` is how many instances there are
    /// to be in all.
    pub fn admits(&self, value: Option<&str>, tally: &Tally, wanted: u32) -> bool {
        let Some(value) = value else {
            return matches!(self.operator, Operator::Unlike(_));
        };
        match &self.operator {
            Operator::Unique => tally.count(value) == 0,
            Operator::Cluster(Some(only)) => value == only,
            Operator::Cluster(None) => tally.first.as_deref().is_none_or(|first| first == value),
            Operator::GroupBy(groups) => tally.spreads(value, *groups, wanted),
            Operator::MaxPer(most) => tally.count(value) < *most,
            Operator::Is(word) => same(word, value),
            Operator::Like(pattern) => pattern.is_match(value),
            Operator::Unlike(pattern) => !pattern.is_match(value),
        }
    }

    /// [`Constraint::admits`] for the agent of an offer.
    pub fn admits_offer(&self, offer: &HeldOffer, tally: &Tally, wanted: u32) -> bool {
        self.admits(offer.field(&self.field).as_deref(), tally, wanted)
    }
}

/// `hostname UNIQUE`, for messages.
impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.operator.name())?;
        match &self.operator {
            Operator::Unique | Operator::Cluster(None) | Operator::GroupBy(None) => Ok(()),
            Operator::Cluster(Some(text)) | Operator::Is(text) => write!(f, " {text}"),
            Operator::GroupBy(Some(number)) | Operator::MaxPer(number) => write!(f, " {number}"),
            Operator::Like(pattern) | Operator::Unlike(pattern) => write!(f, " {pattern}"),
        }
    }
}

fn same(word: &str, value: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().and_then(Milli::from_f64);
    match (number(word), number(value)) {
        (Some(one), Some(other)) => one == other,
        _ => word == value,
    }
}

/// How often each value of one field is in use by placed instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<String, u32>,
    first: Option<String>,
}

impl Tally {
    /// The tally of instances, oldest first. An instance without the field counts nowhere.
    pub fn of<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut tally = Self::default();
        for value in values {
            tally.add(value);
        }
        tally
    }

    /// One more instance.
    pub fn add(&mut self, value: Option<&str>) {
        let Some(value) = value else { return };
        if self.first.is_none() {
            self.first = Some(value.to_owned());
        }
        match self.counts.get_mut(value) {
            Some(count) => *count = count.saturating_add(1),
            None => drop(self.counts.insert(value.to_owned(), 1)),
        }
    }

    /// How many instances have this value.
    pub fn count(&self, value: &str) -> u32 {
        self.counts.get(value).copied().unwrap_or(0)
    }

    /// How many different values are in use.
    pub fn groups(&self) -> usize {
        self.counts.len()
    }

    fn spreads(&self, value: &str, groups: Option<u32>, wanted: u32) -> bool {
        let used = self.count(value);
        let Some(groups) = groups.filter(|groups| *groups > 0) else {
            // Any number of groups: a new one always, a used one if no other is smaller.
            let smallest = self.counts.values().min().copied().unwrap_or(0);
            return used == 0 || used == smallest;
        };
        let share = wanted / groups;
        let remainder = wanted % groups;
        let over = self.counts.values().fold(0u32, |sum, count| {
            sum.saturating_add(count.saturating_sub(share))
        });
        let has_room = |count: u32| count < share || (count == share && over < remainder);
        if used > 0 {
            return has_room(used);
        }
        // A further value than was asked for is taken only when those in use have their share.
        let new_is_due = u32::try_from(self.groups()).is_ok_and(|open| open < groups);
        new_is_due || !self.counts.values().any(|count| has_room(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(operator: &str, value: Option<&str>) -> Constraint {
        Constraint::parse("rack", operator, value).expect("a good constraint")
    }

    /// Places `wanted` instances on racks that are offered in turn; where they went.
    fn place(constraint: &Constraint, racks: &[Option<&str>], wanted: u32) -> Vec<String> {
        let mut tally = Tally::default();
        let mut placed = Vec::new();
        let mut turn = racks.iter().cycle();
        for _ in 0..wanted {
            let mut offered = turn.by_ref().take(racks.len());
            let admitted = offered.find(|rack| constraint.admits(**rack, &tally, wanted));
            let Some(rack) = admitted else { break };
            tally.add(*rack);
            placed.push(rack.unwrap_or("-").to_owned());
        }
        placed
    }

    #[test]
    fn operators_place_as_people_expect() {
        let racks = [Some("r1"), Some("r2"), Some("r3"), None];
        for (operator, value, wanted, expected) in [
            ("UNIQUE", None, 5, "r1 r2 r3"),
            ("unique", None, 2, "r1 r2"),
            ("CLUSTER", None, 3, "r1 r1 r1"),
            ("CLUSTER", Some("r2"), 2, "r2 r2"),
            ("CLUSTER", Some("r9"), 2, ""),
            ("MAX_PER", Some("2"), 7, "r1 r2 r3 r1 r2 r3"),
            ("MAX_PER", Some("0"), 7, ""),
            ("IS", Some("r3"), 2, "r3 r3"),
            ("LIKE", Some("r[23]"), 3, "r2 r3 r2"),
            ("LIKE", Some("r"), 2, ""),
            ("UNLIKE", Some("r[12]"), 1, "r3"),
            ("UNLIKE", Some("r.*"), 2, "- -"),
            ("GROUP_BY", None, 4, "r1 r2 r3 r1"),
            ("GROUP_BY", Some("3"), 6, "r1 r2 r3 r1 r2 r3"),
            ("GROUP_BY", Some("2"), 3, "r1 r2 r1"),
            ("GROUP_BY", Some("0"), 3, "r1 r2 r3"),
        ] {
            let constraint = read(operator, value);
            assert_eq!(
                place(&constraint, &racks, wanted).join(" "),
                expected,
                "{constraint}"
            );
        }
    }

    #[test]
    fn groups_stay_even_whatever_the_order() {
        for groups in [None, Some("2"), Some("3"), Some("5")] {
            let constraint = read("GROUP_BY", groups);
            let racks = [Some("c"), Some("a"), Some("b")];
            let placed = place(&constraint, &racks, 9);
            let count = |rack: &str| placed.iter().filter(|one| *one == rack).count();
            if groups == Some("3") || groups.is_none() {
                assert_eq!(
                    (count("a"), count("b"), count("c")),
                    (3, 3, 3),
                    "{groups:?}"
                );
            }
            assert!(placed.len() >= 3, "{groups:?} {placed:?}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let tally = Tally::default();
        assert!(read("IS", Some("2.50")).admits(Some("2.5"), &tally, 1));
        assert!(!read("IS", Some("2.5")).admits(Some("2.6"), &tally, 1));
        assert!(!read("IS", Some("abc")).admits(Some("abd"), &tally, 1));
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_words() {
        for (field, operator, value, words) in [
            ("", "UNIQUE", None, "name of a field"),
            ("rack", "NEAR", Some("x"), "'NEAR' is no operator"),
            ("rack", "UNIQUE", Some("x"), "takes no value"),
            ("rack", "LIKE", None, "LIKE needs a value"),
            ("rack", "MAX_PER", Some("many"), "whole number, not 'many'"),
            ("rack", "GROUP_BY", Some("-1"), "whole number"),
            ("rack", "LIKE", Some("("), "not a regular expression"),
            ("rack", "IS", Some("a b"), "not 'a b'"),
        ] {
            let refused = Constraint::parse(field, operator, value)
                .expect_err(words)
                .to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
