//! Versions: instants of the wall clock to the millisecond, written as Marathon writes timestamps.

use std::fmt;

use mezzo_model::Wall;

/// Milliseconds since the Unix epoch; printed `2015-06-03T19:00:00.000Z`, always with three digits of fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A text that is no timestamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid timestamp provided '{0}'. Expecting ISO-8601 datetime string.")]
pub struct VersionError(pub String);

impl Version {
    /// The version of an instant, later than `last` even if the wall clock went back.
    pub fn after(last: Option<Self>, wall: Wall) -> Self {
        match last {
            Some(last) => Self(wall.0.max(last.0.saturating_add(1))),
            None => Self(wall.0),
        }
    }

    /// Reads an ISO-8601 date-time with an offset.
    ///
    /// # Errors
    /// If it is none, or lies before 1970.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let refuse = || VersionError(text.chars().take(80).collect());
        let stamp: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
        u64::try_from(stamp.as_millisecond())
            .map(Self)
            .map_err(|_| refuse())
    }
}

impl From<Wall> for Version {
    fn from(wall: Wall) -> Self {
        Self(wall.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
        let (second, milli) = (rest / 1000 % 60, rest % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

/// Year, month and day of a count of days since 1970 (Howard Hinnant's algorithm for the Gregorian calendar).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_print_and_read_back() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_448_964_212_003, "2015-12-01T10:03:32.003Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Version(millis).to_string(), text);
            assert_eq!(Version::parse(text), Ok(Version(millis)));
        }
        assert_eq!(
            Version::parse("2015-12-01T11:03:32.003+01:00"),
            Ok(Version(1_448_964_212_003))
        );
        for bad in ["", "yesterday", "2015-12-01", "1969-01-01T00:00:00Z"] {
            assert!(
                Version::parse(bad)
                    .expect_err(bad)
                    .to_string()
                    .contains("Expecting ISO-8601")
            );
        }
    }

    #[test]
    fn every_day_agrees_with_the_calendar() {
        for day in (0..60_000_u64).step_by(13) {
            let ours = Version(day * 86_400_000).to_string();
            let stamp =
                jiff::Timestamp::from_millisecond(day as i64 * 86_400_000).expect("in range");
            assert_eq!(&ours[..10], &stamp.to_string()[..10]);
        }
    }

    #[test]
    fn a_clock_that_goes_back_does_not_repeat_a_version() {
        assert_eq!(Version::after(Some(Version(10)), Wall(5)), Version(11));
        assert_eq!(Version::after(Some(Version(10)), Wall(50)), Version(50));
    }
}
