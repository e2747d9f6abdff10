//! Files to a `Spec`: reading, YAML, positions and reports. What a file may say is in `lb_common::config`.
//!
//! ```text
//! load -- yaml: text -> document, nodes with spans -- structure: nodes -> raw types, every unknown key and wrong type
//!      \- validate (lb-common) -> Spec | problems with paths -- report: paths -> lines, underlined
//! ```
pub mod document;
pub mod load;
pub mod report;
mod say;
pub mod structure;
pub mod yaml;

pub use load::{FileKind, LoadError, Loaded, Overrides, load, load_text, system_resolver};
pub use report::{Entry, Report, Severity};
