//! Reads what a test program prints.
//!
//! The harness knows no "skipped": a test that cannot run prints `skipped: WHY` and returns, and shows up as passed.
//! With `--show-output` the line stands under the test's name, so it can be counted.
use super::{Outcome, Tally};
use std::collections::BTreeMap;
use std::time::Duration;

/// Written past the harness by `lb_tests::skip!`.
const SKIP_MARK: &str = "@@cplb-skip ";

/// One test program's output, line by line.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    tally: Tally,
    announced: usize,
    done: usize,
    ended: bool,
    section: Option<String>,
    skipped: BTreeMap<String, String>,
    failures: Vec<String>,
    in_failures: bool,
}

impl Parser {
    pub(crate) fn line(&mut self, line: &str) {
        if let Some((name, why)) = line
            .find(SKIP_MARK)
            .and_then(|at| line[at + SKIP_MARK.len()..].split_once(": "))
        {
            self.skipped.insert(name.to_owned(), why.to_owned());
        }
        if let Some(why) = line.trim_start().strip_prefix("skipped: ")
            && let Some(name) = &self.section
        {
            self.skipped.insert(name.clone(), why.to_owned());
        }
        if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.section = Some(name.to_owned());
        }
        if line.starts_with("test result: ") {
            self.result(line);
        } else if line == "failures:" {
            self.in_failures = true;
        } else if let Some(count) = line
            .strip_prefix("running ")
            .and_then(|rest| rest.split(' ').next())
        {
            self.announced += count.parse().unwrap_or(0);
        } else if line.starts_with("test ")
            && [" ok", " FAILED", ", ignored", " ignored"]
                .iter()
                .any(|e| line.contains(e))
        {
            self.done += 1;
        }
        if self.in_failures {
            self.failures.push(line.to_owned());
        }
    }

    /// `test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 2.97s`
    fn result(&mut self, line: &str) {
        let count = |what: &str| {
            let before = line.split(what).next()?;
            before
                .rsplit([' ', ';'])
                .find(|word| !word.is_empty())?
                .parse::<usize>()
                .ok()
        };
        let (Some(passed), Some(failed), Some(ignored)) =
            (count(" passed;"), count(" failed;"), count(" ignored;"))
        else {
            return;
        };
        self.ended = true;
        self.in_failures = false;
        self.tally.passed += passed;
        self.tally.failed += failed;
        self.tally.skipped += ignored;
    }

    /// So far and in all.
    pub(crate) fn progress(&self) -> (usize, usize) {
        (self.done, self.announced)
    }

    /// The harness's account of what failed.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Sums up. `exit` is how the program ended, as words, if not well.
    pub(crate) fn finish(self, suite: &str, took: Duration, exit: Option<String>) -> Outcome {
        let mut tally = self.tally;
        let skipped = self.skipped.len().min(tally.passed);
        tally.passed -= skipped;
        tally.skipped += skipped;
        let mut note = self.skipped.values().next().cloned();
        // It was killed, or ended by itself in the middle.
        if !self.ended || (exit.is_some() && tally.failed == 0) {
            tally.failed += 1;
            note = Some(exit.unwrap_or_else(|| "it ended without a result".to_owned()));
        }
        Outcome {
            suite: suite.to_owned(),
            tally,
            took,
            note,
            required: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 3 tests
test a ... ok
@@cplb-skip b: no such device
test b ... ok
test c::d ... ok

successes:

---- c::d stdout ----
skipped: this kernel has no IPVS

successes:
    a
    b
    c::d

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s
";

    #[test]
    fn skipped_tests_are_not_passed_ones() {
        let mut parser = Parser::default();
        OUTPUT.lines().for_each(|line| parser.line(line));
        assert_eq!(parser.progress(), (3, 3));
        let outcome = parser.finish("s", Duration::ZERO, None);
        assert_eq!(
            outcome.tally,
            Tally {
                passed: 1,
                failed: 0,
                skipped: 3
            }
        );
        assert_eq!(outcome.note.as_deref(), Some("no such device"));
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let mut parser = Parser::default();
        parser.line("running 2 tests");
        parser.line("test a ... ok");
        let outcome = parser.finish("s", Duration::ZERO, Some("signal 9".into()));
        assert_eq!(
            outcome.tally,
            Tally {
                passed: 0,
                failed: 1,
                skipped: 0
            }
        );
        assert_eq!(outcome.note.as_deref(), Some("signal 9"));
    }

    #[test]
    fn the_account_of_failures_is_kept() {
        let mut parser = Parser::default();
        let text = "running 1 test\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nboom\n\nfailures:\n    a\n\n\
                    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s";
        text.lines().for_each(|line| parser.line(line));
        assert!(parser.failures().contains(&"boom".to_owned()));
        assert_eq!(
            parser
                .finish("s", Duration::ZERO, Some("exit 101".into()))
                .tally
                .failed,
            1
        );
    }
}
