//! What the demonstration prints.
use crate::scene::{Kept, Requests};
use lb_tests::prober::Report;
use std::time::Duration;

/// A line of its own.
pub(crate) fn say(text: &str) {
    println!("==> {text}");
}

/// Somebody else's output, set off.
pub(crate) fn block(text: &str) {
    text.lines().for_each(|line| println!("    {line}"));
}

/// One step of the demonstration.
#[derive(Debug)]
pub(crate) struct Row {
    step: &'static str,
    holder: String,
    gap: Option<Duration>,
    lost: Option<(usize, usize)>,
    kept: Kept,
    spread: String,
    pub(crate) well: bool,
}

impl Row {
    /// Nothing happened.
    pub(crate) fn rest(step: &'static str, holder: &str, kept: Kept, requests: &Requests) -> Self {
        Self {
            step,
            holder: holder.to_owned(),
            gap: None,
            lost: None,
            kept,
            spread: requests.spread(),
            well: requests.well() && kept.well(),
        }
    }

    /// Something happened while the prober looked on.
    pub(crate) fn change(
        step: &'static str,
        holder: &str,
        report: &Report,
        kept: Kept,
        requests: &Requests,
    ) -> Self {
        Self {
            gap: Some(report.longest()),
            lost: Some((report.lost(), report.probes.len())),
            ..Self::rest(step, holder, kept, requests)
        }
    }

    /// A gap that is longer than any reasonable one is a failure, not a figure.
    pub(crate) fn at_most(self, gap: Duration) -> Self {
        let well = self.well && self.gap.is_none_or(|seen| seen <= gap);
        Self { well, ..self }
    }
}

/// The table at the end.
pub(crate) fn table(rows: &[Row]) {
    println!(
        "\n{:<14} {:<7} {:>9} {:>13} {:>12}  {:<24} result",
        "step", "holder", "gap", "probes lost", "connections", "new connections"
    );
    println!(
        "{:<14} {:<7} {:>9} {:>13} {:>12}  answered by",
        "", "", "", "", "that went on"
    );
    for row in rows {
        let gap = row
            .gap
            .map_or_else(|| "-".to_owned(), |gap| format!("{:.3} s", gap.as_secs_f64()));
        let lost = row
            .lost
            .map_or_else(|| "-".to_owned(), |(lost, all)| format!("{lost} of {all}"));
        let kept = format!("{} of {}", row.kept.kept, row.kept.of);
        let result = if row.well { "ok" } else { "FAILED" };
        println!(
            "{:<14} {:<7} {gap:>9} {lost:>13} {kept:>12}  {:<24} {result}",
            row.step, row.holder, row.spread
        );
    }
    println!();
}
