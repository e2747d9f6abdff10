//! Durations as Go writes them (`1m`, `1.5s`, `100ms`), which is how Kubernetes and k0s files have them.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// Nanoseconds, negative ones included: a file may hold one, and must then be told so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// Nothing was written.
    #[error("it is empty")]
    Empty,
    /// A number is missing where one must be.
    #[error("a number is missing or malformed")]
    Number,
    /// A number without a unit.
    #[error("the unit is missing")]
    NoUnit,
    /// A unit that Go does not know.
    #[error("the unit is none of ns, us, ms, s, m, h")]
    Unit,
    /// More than 292 years.
    #[error("it is too long")]
    TooLong,
}

const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// In nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// `None` for a negative one.
    pub fn positive_or_zero(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

impl From<Duration> for GoDuration {
    /// What is longer than 292 years becomes 292 years.
    fn from(d: Duration) -> Self {
        Self(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Splits a run of ASCII digits off.
fn digits(s: &str) -> (&str, &str) {
    let end = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    s.split_at(end)
}

/// `whole.fraction` units in nanoseconds; digits below a nanosecond are cut off, as Go does.
fn scaled(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let mut total = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?.checked_mul(unit)?
    };
    let mut scale = unit;
    for digit in fraction.bytes() {
        // No unit is longer than 3.6e12 ns, so a digit times a tenth of it cannot overflow.
        let tenth = u128::from(scale) * u128::from(digit.wrapping_sub(b'0')) / 10;
        total = total.checked_add(u64::try_from(tenth).ok()?)?;
        scale /= 10;
        if scale == 0 {
            break;
        }
    }
    Some(total)
}

impl FromStr for GoDuration {
    type Err = ParseDurationError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (negative, mut rest) = match s.strip_prefix('-') {
            Some(r) => (true, r),
            None => (false, s.strip_prefix('+').unwrap_or(s)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(ParseDurationError::Empty);
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (whole, after) = digits(rest);
            let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
            if whole.is_empty() && fraction.is_empty() {
                return Err(ParseDurationError::Number);
            }
            let end = after
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            if unit.is_empty() {
                return Err(ParseDurationError::NoUnit);
            }
            let (_, scale) = UNITS
                .iter()
                .find(|(n, _)| *n == unit)
                .ok_or(ParseDurationError::Unit)?;
            total = scaled(whole, fraction, *scale)
                .and_then(|n| total.checked_add(n))
                .ok_or(ParseDurationError::TooLong)?;
            rest = after;
        }
        let nanos = i64::try_from(total).map_err(|_| ParseDurationError::TooLong)?;
        Ok(Self(if negative { -nanos } else { nanos }))
    }
}

/// `value` in units of `10^places` without trailing zeros: 1500000 with 6 places is `1.5`.
fn decimal(f: &mut fmt::Formatter<'_>, value: u64, places: usize) -> fmt::Result {
    let unit = 10_u64.pow(u32::try_from(places).unwrap_or(0));
    write!(f, "{}", value / unit)?;
    if !value.is_multiple_of(unit) {
        let fraction = alloc::format!("{:0places$}", value % unit);
        write!(f, ".{}", fraction.trim_end_matches('0'))?;
    }
    Ok(())
}

impl fmt::Display for GoDuration {
    /// As Go's `Duration.String` does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.unsigned_abs();
        if n == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match n {
            0..1_000 => write!(f, "{n}ns"),
            1_000..1_000_000 => decimal(f, n, 3).and_then(|()| f.write_str("us")),
            1_000_000..1_000_000_000 => decimal(f, n, 6).and_then(|()| f.write_str("ms")),
            _ => {
                let (minutes, rest) = (n / 60_000_000_000, n % 60_000_000_000);
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                decimal(f, rest, 9).and_then(|()| f.write_str("s"))
            }
        }
    }
}

#[cfg(feature = "serde")]
mod text {
    use super::GoDuration;
    use alloc::borrow::Cow;
    use alloc::format;
    use core::fmt;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    impl Serialize for GoDuration {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.collect_str(self)
        }
    }

    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = GoDuration;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration")
        }
        fn visit_str<E: de::Error>(self, s: &str) -> Result<GoDuration, E> {
            s.parse()
                .map_err(|e| E::custom(format!("`{s}` is not a duration: {e}")))
        }
    }

    impl<'de> Deserialize<'de> for GoDuration {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            d.deserialize_str(Text)
        }
    }

    impl schemars::JsonSchema for GoDuration {
        fn schema_name() -> Cow<'static, str> {
            "Duration".into()
        }
        fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({
                "description": "A duration as Go writes it: 1m, 1.5s, 100ms.",
                "type": "string",
                "pattern": r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_duration_is_read_as_go_reads_it() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-1ns", -1),
            ("+5s", 5_000_000_000),
            ("1m", 60_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1µs", 1_000),
            ("1234567ns", 1_234_567),
            ("0.0000000019s", 1),
        ] {
            assert_eq!(
                text.parse::<GoDuration>().map(GoDuration::nanos),
                Ok(nanos),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_says_what_is_missing() {
        for (text, error) in [
            ("", ParseDurationError::Empty),
            ("-", ParseDurationError::Empty),
            ("5", ParseDurationError::NoUnit),
            ("s", ParseDurationError::Number),
            (".s", ParseDurationError::Number),
            ("1 s", ParseDurationError::Unit),
            ("1d", ParseDurationError::Unit),
            ("9999999h", ParseDurationError::TooLong),
            ("99999999999999999999s", ParseDurationError::TooLong),
        ] {
            assert_eq!(text.parse::<GoDuration>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_as_go_writes_it() {
        for text in [
            "0s",
            "1ns",
            "1.234ms",
            "1.5s",
            "1m0s",
            "1h0m0.05s",
            "-2m3s",
            "17us",
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_duration_survives_being_written(nanos in i64::MIN + 1..i64::MAX) {
            let d = GoDuration(nanos);
            proptest::prop_assert_eq!(d.to_string().parse::<GoDuration>(), Ok(d));
        }
    }
}
