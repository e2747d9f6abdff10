//! Median, least and most of figures that were taken in turns.
use serde::Serialize;
use std::fmt;

/// Of one cell.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` of no figures.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let upper = *sorted.get(half)?;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(*sorted.get(half - 1)?, upper)
        } else {
            upper
        };
        Some(Self { median, least, most })
    }

    /// The medians' ratio.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        self.median / other.median
    }

    /// With so many decimals.
    pub(crate) fn shown(&self, decimals: usize) -> String {
        let Self { median, least, most } = self;
        format!("{median:.decimals$} ({least:.decimals$} - {most:.decimals$})")
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_both_ends() {
        let spread = Spread::of(&[9.0, 1.0, 5.0]).unwrap();
        assert_eq!(spread.to_string(), "5 (1 - 9)");
        let even = Spread::of(&[4.0, 2.0]).unwrap();
        assert_eq!(even.shown(1), "3.0 (2.0 - 4.0)");
        assert!((spread.ratio(&even) - 5.0 / 3.0).abs() < 1e-9);
        assert!(Spread::of(&[]).is_none());
    }
}
