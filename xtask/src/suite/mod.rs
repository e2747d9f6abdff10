//! The suites: what there is, where each runs, and what came of it.
mod libtest;
mod plan;
mod table;

pub(crate) use libtest::Parser;
pub(crate) use plan::{Place, Suite, discover};
pub(crate) use table::print;

use std::time::Duration;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Tally {
    pub(crate) fn total(self) -> usize {
        self.passed + self.failed + self.skipped
    }
}

/// What came of one suite.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) suite: String,
    pub(crate) tally: Tally,
    pub(crate) took: Duration,
    /// One line: why it was skipped, or what went wrong beyond single tests.
    pub(crate) note: Option<String>,
    /// Whether a skip in it is a failure where nothing may be skipped.
    pub(crate) required: bool,
}

impl Outcome {
    /// A suite that did not run at all.
    pub(crate) fn skipped(suite: &str, why: impl Into<String>) -> Self {
        let tally = Tally {
            skipped: 1,
            ..Tally::default()
        };
        Self {
            suite: suite.to_owned(),
            tally,
            took: Duration::ZERO,
            note: Some(why.into()),
            required: true,
        }
    }

    /// A suite that is one check: it passed or it did not.
    pub(crate) fn of_check(suite: &str, took: Duration, result: &anyhow::Result<()>) -> Self {
        let (passed, failed) = if result.is_ok() { (1, 0) } else { (0, 1) };
        let tally = Tally {
            passed,
            failed,
            skipped: 0,
        };
        let note = result.as_ref().err().map(|error| format!("{error:#}"));
        Self {
            suite: suite.to_owned(),
            tally,
            took,
            note,
            required: true,
        }
    }
}
