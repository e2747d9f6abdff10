//! Warnings of a file that is used, as log lines.
use super::Loaded;

impl Loaded {
    /// Says every warning once, with its place in the file.
    pub fn warn(&self) {
        for entry in &self.warnings.entries {
            tracing::warn!(
                file = entry.file.as_deref().unwrap_or_default(),
                line = entry.line,
                column = entry.column,
                path = entry.path,
                help = entry.help.as_deref(),
                "{}",
                entry.message
            );
        }
    }
}
