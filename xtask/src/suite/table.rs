//! The table at the end.
use super::{Outcome, Tally};
use std::time::Duration;

/// Prints a line per suite and the sum as the last line. Says whether all is well.
pub(crate) fn print(outcomes: &[Outcome], took: Duration, strict: bool) -> bool {
    let width = outcomes
        .iter()
        .map(|o| o.suite.len())
        .max()
        .unwrap_or(0)
        .max("suite".len());
    println!("\n{:width$}  passed  failed  skipped     time", "suite");
    for outcome in outcomes {
        let Tally {
            passed,
            failed,
            skipped,
        } = outcome.tally;
        let time = format!("{:.1} s", outcome.took.as_secs_f64());
        let note = outcome.note.as_deref().and_then(|note| note.lines().next());
        let note = note.map_or_else(String::new, |note| format!("  {}", shortened(note)));
        println!(
            "{:width$}  {passed:>6}  {failed:>6}  {skipped:>7}  {time:>7}{note}",
            outcome.suite
        );
    }
    let mut sum = Tally::default();
    for outcome in outcomes {
        sum.passed += outcome.tally.passed;
        sum.failed += outcome.tally.failed;
        sum.skipped += outcome.tally.skipped;
    }
    let missing: Vec<&str> = outcomes
        .iter()
        .filter(|o| o.required && o.tally.skipped > 0)
        .map(|o| o.suite.as_str())
        .collect();
    println!("\nin {:.0} s", took.as_secs_f64());
    if strict && !missing.is_empty() {
        println!("nothing may be skipped where CI is set: {}", missing.join(", "));
    }
    println!(
        "{} passed, {} failed, {} skipped",
        sum.passed, sum.failed, sum.skipped
    );
    sum.failed == 0 && sum.passed > 0 && (missing.is_empty() || !strict)
}

fn shortened(note: &str) -> String {
    const MOST: usize = 70;
    if note.chars().count() <= MOST {
        return note.to_owned();
    }
    let start: String = note.chars().take(MOST).collect();
    format!("{start}...")
}
