//! A program of the operator's, as the file names it: for checks, tracking and notification.
use alloc::string::String;
use alloc::vec::Vec;

/// A program, and as whom it runs. No shell is in between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Command {
    /// The program's absolute path, then its arguments; never empty.
    pub command: Vec<String>,
    /// As whom, by name or number; `None`: `nobody`.
    pub user: Option<String>,
}

impl Command {
    /// The program's path.
    pub fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// Its arguments.
    pub fn arguments(&self) -> &[String] {
        self.command.get(1..).unwrap_or_default()
    }
}
