//! Where the lab's own programs are.
use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;

/// The program of [`crate::crowd::server`]: beside this program, or above the directory of test programs.
pub fn crowd() -> Result<PathBuf> {
    let own = env::current_exe().context("where this program is")?;
    let places = own.ancestors().skip(1).take(2);
    let found = places.map(|dir| dir.join("crowd")).find(|path| path.is_file());
    // In the guest it is in PATH.
    Ok(found.unwrap_or_else(|| "crowd".into()))
}
