//! What the demonstration prints.
use crate::scene::Requests;
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
    lost: Option<usize>,
    spread: String,
    pub(crate) well: bool,
}

impl Row {
    /// Only requests were made.
    pub(crate) fn requests(step: &'static str, holder: &str, requests: &Requests) -> Self {
        let (spread, well) = (requests.spread(), requests.well());
        Self {
            step,
            holder: holder.to_owned(),
            gap: None,
            lost: None,
            spread,
            well,
        }
    }

    /// Something happened while the prober looked on.
    pub(crate) fn change(step: &'static str, holder: &str, report: &Report, requests: &Requests) -> Self {
        let row = Self::requests(step, holder, requests);
        Self {
            gap: Some(report.longest()),
            lost: Some(report.lost()),
            ..row
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
        "\n{:<14} {:<7} {:>9} {:>7}  {:<28} result",
        "step", "holder", "gap", "probes", "TLS requests answered by"
    );
    println!("{:<14} {:<7} {:>9} {:>7}", "", "", "", "lost");
    for row in rows {
        let gap = row
            .gap
            .map_or_else(|| "-".to_owned(), |gap| format!("{:.3} s", gap.as_secs_f64()));
        let lost = row.lost.map_or_else(|| "-".to_owned(), |lost| lost.to_string());
        let result = if row.well { "ok" } else { "FAILED" };
        println!(
            "{:<14} {:<7} {gap:>9} {lost:>7}  {:<28} {result}",
            row.step, row.holder, row.spread
        );
    }
    println!();
}
