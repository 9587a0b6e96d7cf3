//! Amounts in thousandths.

use std::fmt;
use std::ops::{Add, AddAssign};

/// A scalar amount as an integer number of thousandths. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Milli(pub i64);

impl Milli {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount that is accepted from outside: 10^12 whole units.
    pub const LIMIT: Self = Self(1_000_000_000_000_000);

    /// A whole number of units.
    pub const fn whole(units: i64) -> Self {
        Self(units.saturating_mul(1000))
    }

    /// Rounds half away from zero. `None` for what is no number, infinite, or beyond [`Milli::LIMIT`].
    pub fn from_f64(amount: f64) -> Option<Self> {
        let thousandths = (amount * 1000.0).round();
        (thousandths.abs() <= Self::LIMIT.0 as f64).then_some(Self(thousandths as i64))
    }

    /// As messages carry it.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The difference, or zero if `other` is larger.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// Whether the amount is a whole number of units.
    pub const fn is_whole(self) -> bool {
        self.0 % 1000 == 0
    }
}

impl Add for Milli {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Milli {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Milli {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// `0.1`, `32`, `-1.5`: no trailing zeros.
impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        if self.0 < 0 {
            f.write_str("-")?;
        }
        write!(f, "{whole}")?;
        if part == 0 {
            return Ok(());
        }
        let digits = format!("{part:03}");
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_rounded_half_away_from_zero() {
        for (float, milli) in [
            (0.1, 100),
            (0.0005, 1),
            (0.0004, 0),
            (-0.0005, -1),
            (1.0015, 1002),
            (63.9, 63_900),
        ] {
            assert_eq!(Milli::from_f64(float), Some(Milli(milli)), "{float}");
        }
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e13] {
            assert_eq!(Milli::from_f64(bad), None, "{bad}");
        }
    }

    #[test]
    fn amounts_print_without_trailing_zeros() {
        for (milli, text) in [
            (100, "0.1"),
            (32_000, "32"),
            (1, "0.001"),
            (-1500, "-1.5"),
            (0, "0"),
            (1010, "1.01"),
        ] {
            assert_eq!(Milli(milli).to_string(), text);
        }
    }
}
