//! What is wrong with a file, and the list that a validation fills: all of it in one run, never the first alone.
use super::path::Path;
use alloc::string::String;
use alloc::vec::Vec;

/// What a [`Problem`] is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The value at a path, or what ought to be there.
    Value(Path),
    /// The key itself at a path.
    Key(Path),
    /// An argument of the command line, as it was given.
    Flag(String),
}

/// One thing that is wrong (or, in the list of warnings, that has no effect or is unwise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong. Where k0s refuses it too, k0s's words.
    pub message: String,
    /// What would be right, where that can be said.
    pub help: Option<String>,
    /// It refers to another part of the file: where that part is wrong itself, this would only repeat it.
    pub follows: bool,
}

/// Something that is accepted and should not go unsaid.
pub type Warning = Problem;

impl Problem {
    /// A problem with the value at `at`.
    pub fn new(at: &Path, message: impl Into<String>) -> Self {
        Self {
            place: Place::Value(at.clone()),
            message: message.into(),
            help: None,
            follows: false,
        }
    }

    /// A problem with an argument of the command line.
    pub fn flag(flag: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: Place::Flag(flag.into()),
            message: message.into(),
            help: None,
            follows: false,
        }
    }

    /// The same, saying what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, about the key rather than its value.
    #[must_use]
    pub fn on_key(mut self) -> Self {
        if let Place::Value(path) = self.place {
            self.place = Place::Key(path);
        }
        self
    }

    /// The same, marked as one that another part of the file may be to blame for.
    #[must_use]
    pub const fn following(mut self) -> Self {
        self.follows = true;
        self
    }

    /// The path, where it is about a node of the file.
    pub const fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Value(p) | Place::Key(p) => Some(p),
            Place::Flag(_) => None,
        }
    }
}

/// Nobody reads more, and a list of each against all others must end.
const MOST: usize = 500;

/// What a validation has found so far.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What makes the file unusable.
    pub problems: Vec<Problem>,
    /// What does not.
    pub warnings: Vec<Warning>,
}

impl Findings {
    /// Notes a problem, once: what holds for each port of a server is still one mistake in the file.
    pub fn refuse(&mut self, problem: Problem) {
        if self.problems.len() < MOST && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Notes a warning, once.
    pub fn warn(&mut self, warning: Warning) {
        if self.warnings.len() < MOST && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// `value`, or `None` after noting the problem.
    pub fn take<T>(&mut self, value: Result<T, Problem>) -> Option<T> {
        value.map_err(|p| self.refuse(p)).ok()
    }
}
