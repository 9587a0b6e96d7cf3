//! Spans, instants and the two clocks, as values that are handed in.
//!
//! A core never asks what time it is: each input comes with a [`Now`]. Monotonic time decides timers; wall time is only
//! written into what people read.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub};
use std::str::FromStr;

/// A span, or an instant of the monotonic clock, in milliseconds. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// An instant of the wall clock: milliseconds since the Unix epoch (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// What both clocks say at one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: never goes back; its zero means nothing.
    pub mono: Millis,
    /// The wall clock: may jump either way.
    pub wall: Wall,
}

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// Longer than anything lives.
    pub const MAX: Self = Self(u64::MAX);

    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// A span of seconds with a fraction, rounded to the nearest millisecond. `None` if negative, infinite or
    /// not a number.
    pub fn from_secs_f64(secs: f64) -> Option<Self> {
        // A float beyond u64 saturates in the cast.
        (secs.is_finite() && secs >= 0.0).then(|| Self((secs * 1000.0).round() as u64))
    }

    /// The span in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The span between two instants, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// As the standard library writes it.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl From<std::time::Duration> for Millis {
    fn from(span: std::time::Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add for Millis {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Millis {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Millis {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.since(other)
    }
}

impl Mul<u64> for Millis {
    type Output = Self;
    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

/// Prints the largest unit that loses nothing, as Mesos writes durations: `75secs`, `500ms`, `10mins`.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] = [
            (604_800_000, "weeks"),
            (86_400_000, "days"),
            (3_600_000, "hrs"),
            (60_000, "mins"),
            (1000, "secs"),
        ];
        for (size, unit) in UNITS {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        if self.0 == 0 {
            f.write_str("0secs")
        } else {
            write!(f, "{}ms", self.0)
        }
    }
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a duration; write a number and one of ns, us, ms, secs, mins, hrs, days, weeks, such as 10secs"
)]
pub struct DurationError {
    /// What was given.
    pub text: String,
}

/// Reads `10secs`, `1.5mins`, `500ms`, the short forms `10s 2m 1h 3d 1w`, and a bare number of seconds.
impl FromStr for Millis {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let refuse = || DurationError {
            text: text.to_owned(),
        };
        let text = text.trim();
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: f64 = number.parse().map_err(|_| refuse())?;
        let millis = match unit.trim() {
            "ns" => 0.000_001,
            "us" => 0.001,
            "ms" => 1.0,
            "" | "s" | "sec" | "secs" => 1000.0,
            "m" | "min" | "mins" => 60_000.0,
            "h" | "hr" | "hrs" => 3_600_000.0,
            "d" | "day" | "days" => 86_400_000.0,
            "w" | "week" | "weeks" => 604_800_000.0,
            _ => return Err(refuse()),
        };
        let total = number * millis;
        (total.is_finite() && total < u64::MAX as f64)
            .then_some(Self(total.round() as u64))
            .ok_or_else(refuse)
    }
}

impl Wall {
    /// Seconds since the Unix epoch, as Mesos timestamps are written.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Nanoseconds since the Unix epoch, as `TimeInfo` holds them.
    pub fn as_nanos(self) -> i64 {
        i64::try_from(self.0)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000)
    }

    /// From the nanoseconds of a `TimeInfo`; before 1970 counts as 1970.
    pub fn from_nanos(nanos: i64) -> Self {
        Self(u64::try_from(nanos / 1_000_000).unwrap_or(0))
    }
}

impl Now {
    /// Both clocks at once.
    pub const fn new(mono: Millis, wall: Wall) -> Self {
        Self { mono, wall }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_mesos_writes_them() {
        for (text, millis) in [
            ("10secs", 10_000),
            ("75secs", 75_000),
            ("30", 30_000),
            ("1.5mins", 90_000),
            ("500ms", 500),
            ("2weeks", 1_209_600_000),
            ("1hrs", 3_600_000),
            ("2us", 0),
            ("5s", 5000),
            ("3d", 259_200_000),
            ("0", 0),
        ] {
            assert_eq!(text.parse::<Millis>(), Ok(Millis(millis)), "{text}");
        }
        for bad in [
            "",
            "secs",
            "-1secs",
            "10parsecs",
            "1..5s",
            "1e400secs",
            "nan",
            "999999999999999weeks",
        ] {
            let refused = bad.parse::<Millis>().expect_err(bad).to_string();
            assert!(refused.contains("is not a duration"), "{refused}");
        }
    }

    #[test]
    fn durations_print_and_read_back() {
        for millis in [
            0,
            1,
            999,
            1000,
            75_000,
            60_000,
            3_600_000,
            86_400_000,
            604_800_000,
        ] {
            let printed = Millis(millis).to_string();
            assert_eq!(printed.parse(), Ok(Millis(millis)), "{printed}");
        }
        assert_eq!(Millis(75_000).to_string(), "75secs");
    }

    #[test]
    fn float_seconds_refuse_what_is_no_time() {
        assert_eq!(Millis::from_secs_f64(1.0005), Some(Millis(1001)));
        assert_eq!(Millis::from_secs_f64(f64::NAN), None);
        assert_eq!(Millis::from_secs_f64(-0.1), None);
        assert_eq!(Millis::from_secs_f64(f64::INFINITY), None);
        assert_eq!(Millis::from_secs_f64(1e300), Some(Millis::MAX));
    }
}
