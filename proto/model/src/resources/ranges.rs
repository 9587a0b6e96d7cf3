//! Coalesced intervals of whole numbers, both ends included: ports, mostly.

use std::fmt;

use mezzo_wire::v1;

/// The most intervals that are accepted from outside.
pub const MAX_INTERVALS: usize = 65_536;

/// Sorted intervals `(begin, end)`, both included, none touching another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u64, u64)>);

/// Why intervals are not accepted, in Mesos' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// An interval that ends before it begins.
    #[error("Invalid ranges resource: begin > end")]
    Inverted,
    /// Two intervals of one list share a number.
    #[error("Invalid ranges resource: overlapping ranges")]
    Overlapping,
    /// More than [`MAX_INTERVALS`].
    #[error("Invalid ranges resource: more than {MAX_INTERVALS} ranges")]
    TooMany,
    /// A text that is not `[1-2,5-9]`.
    #[error("Expecting ranges such as [31000-32000,8080-8080], got '{text}'")]
    Text {
        /// What was given.
        text: String,
    },
}

impl Ranges {
    /// No number at all.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One interval; empty if `end` lies before `begin`.
    pub fn single(begin: u64, end: u64) -> Self {
        Self(if begin <= end {
            vec![(begin, end)]
        } else {
            Vec::new()
        })
    }

    /// Checks and coalesces a list as it came from outside.
    ///
    /// # Errors
    /// [`RangesError::Inverted`], [`RangesError::Overlapping`], [`RangesError::TooMany`].
    pub fn checked(mut list: Vec<(u64, u64)>) -> Result<Self, RangesError> {
        if list.len() > MAX_INTERVALS {
            return Err(RangesError::TooMany);
        }
        if list.iter().any(|(begin, end)| begin > end) {
            return Err(RangesError::Inverted);
        }
        list.sort_unstable();
        if list.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
            return Err(RangesError::Overlapping);
        }
        Ok(Self::coalesce(list))
    }

    /// Reads `[1-2,5-9]`; a single number stands for itself.
    ///
    /// # Errors
    /// [`RangesError::Text`] for another shape, and those of [`Ranges::checked`].
    pub fn parse(text: &str) -> Result<Self, RangesError> {
        let refuse = || RangesError::Text {
            text: text.to_owned(),
        };
        let inner = text
            .trim()
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .ok_or_else(refuse)?;
        let mut list = Vec::new();
        for interval in inner
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (begin, end) = interval.split_once('-').unwrap_or((interval, interval));
            let begin = begin.trim().parse().map_err(|_| refuse())?;
            let end = end.trim().parse().map_err(|_| refuse())?;
            list.push((begin, end));
        }
        Self::checked(list)
    }

    /// Takes intervals out of their message.
    ///
    /// # Errors
    /// Those of [`Ranges::checked`].
    pub fn from_wire(wire: &v1::value::Ranges) -> Result<Self, RangesError> {
        Self::checked(
            wire.range
                .iter()
                .map(|range| (range.begin, range.end))
                .collect(),
        )
    }

    /// The message that carries the intervals.
    pub fn to_wire(&self) -> v1::value::Ranges {
        let range = self
            .0
            .iter()
            .map(|&(begin, end)| v1::value::Range { begin, end })
            .collect();
        v1::value::Ranges { range }
    }

    fn coalesce(mut list: Vec<(u64, u64)>) -> Self {
        list.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(list.len());
        for (begin, end) in list {
            match merged.last_mut() {
                Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        Self(merged)
    }

    /// Whether no number is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The intervals, ascending.
    pub fn intervals(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// How many numbers are in it; saturates.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, (begin, end)| {
            sum.saturating_add(end - begin).saturating_add(1)
        })
    }

    /// The numbers, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|&(begin, end)| begin..=end)
    }

    /// Whether the number is in it.
    pub fn has(&self, number: u64) -> bool {
        let after = self.0.partition_point(|&(begin, _)| begin <= number);
        after > 0 && number <= self.0[after - 1].1
    }

    /// Whether every number of `other` is in it.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|&(begin, end)| {
            let after = self.0.partition_point(|&(own, _)| own <= begin);
            after > 0 && end <= self.0[after - 1].1
        })
    }

    /// Whether the two share a number.
    pub fn overlaps(&self, other: &Self) -> bool {
        other.0.iter().any(|&(begin, end)| {
            let after = self.0.partition_point(|&(own, _)| own <= end);
            after > 0 && begin <= self.0[after - 1].1
        })
    }

    /// Puts the numbers of `other` in.
    pub fn add(&mut self, other: &Self) {
        let mut list = std::mem::take(&mut self.0);
        list.extend_from_slice(&other.0);
        *self = Self::coalesce(list);
    }

    /// Takes the numbers of `other` out; those that are not there are passed over.
    pub fn remove(&mut self, other: &Self) {
        let mut rest = Vec::with_capacity(self.0.len() + other.0.len());
        let mut holes = other.0.iter().copied().peekable();
        for &(begin, end) in &self.0 {
            let mut from = Some(begin);
            while let (Some(start), Some(&(hole, hole_end))) = (from, holes.peek()) {
                if hole_end < start {
                    holes.next();
                } else if hole > end {
                    break;
                } else {
                    if hole > start {
                        rest.push((start, hole - 1));
                    }
                    // The hole may reach into the next interval, so it is only passed when it ends in this one.
                    from = (hole_end < end).then(|| hole_end + 1);
                }
            }
            if let Some(start) = from {
                rest.push((start, end));
            }
        }
        self.0 = rest;
    }
}

/// `[1-2, 5-9]`
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, (begin, end)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{begin}-{end}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Ranges {
        Ranges::parse(text).expect(text)
    }

    #[test]
    fn intervals_coalesce_and_read_back() {
        assert_eq!(ranges("[5-9,1-2,3-4]").to_string(), "[1-9]");
        assert_eq!(ranges("[1-2, 5-9]").to_string(), "[1-2, 5-9]");
        assert_eq!(ranges("[7]"), Ranges::single(7, 7));
        assert_eq!(ranges("[]"), Ranges::new());
        assert_eq!(
            Ranges::from_wire(&ranges("[1-2,5-9]").to_wire()),
            Ok(ranges("[1-2,5-9]"))
        );
        assert_eq!(ranges("[1-2,5-9]").count(), 7);
        assert_eq!(Ranges::single(0, u64::MAX).count(), u64::MAX);
    }

    #[test]
    fn bad_intervals_are_refused() {
        assert_eq!(Ranges::parse("[3-1]"), Err(RangesError::Inverted));
        assert_eq!(Ranges::parse("[1-5,5-9]"), Err(RangesError::Overlapping));
        assert_eq!(
            Ranges::checked(vec![(1, 1); MAX_INTERVALS + 1]),
            Err(RangesError::TooMany)
        );
        for text in ["1-2", "[1-", "[a-b]", "[1-2-3]", "[-1-2]"] {
            assert!(
                matches!(Ranges::parse(text), Err(RangesError::Text { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn holes_are_cut_where_they_lie() {
        let mut left = ranges("[1-10,20-30]");
        left.remove(&ranges("[0-1,5-6,10-22,40-50]"));
        assert_eq!(left.to_string(), "[2-4, 7-9, 23-30]");
        left.remove(&Ranges::single(0, u64::MAX));
        assert!(left.is_empty());
        let mut edge = Ranges::single(0, u64::MAX);
        edge.remove(&Ranges::single(u64::MAX, u64::MAX));
        assert_eq!(edge, Ranges::single(0, u64::MAX - 1));
    }
}
