//! Rows of a table, tried side by side: each waits far more than it works.
use anyhow::{Result, anyhow};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Runs `try_row` for every row, at most `width` at a time. Every row is tried; the error names all that failed.
pub fn side_by_side<R: Sync>(
    width: usize,
    rows: &[R],
    name: impl Fn(&R) -> String + Sync,
    try_row: impl Fn(&R) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..width.min(rows.len()) {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = panic::catch_unwind(AssertUnwindSafe(|| try_row(row)));
                    let why = match result {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => format!("{error:#}"),
                        Err(_) => "it panicked".to_owned(),
                    };
                    let line = format!("{}: {why}", name(row));
                    failed.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed.len() {
        0 => Ok(()),
        n => Err(anyhow!("{n} of {} failed:\n{}", rows.len(), failed.join("\n\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_tried_and_every_failure_named() {
        let rows = [1, 2, 3, 4];
        let error = side_by_side(
            2,
            &rows,
            |row| format!("row {row}"),
            |row| {
                assert!(*row != 2, "two");
                if *row == 4 { Err(anyhow!("four")) } else { Ok(()) }
            },
        );
        let text = error.unwrap_err().to_string();
        assert!(
            text.starts_with("2 of 4 failed") && text.contains("row 2: it panicked"),
            "{text}"
        );
        assert!(text.contains("row 4: four"), "{text}");
        assert!(side_by_side(2, &[1], |_| String::new(), |_| Ok(())).is_ok());
    }
}
