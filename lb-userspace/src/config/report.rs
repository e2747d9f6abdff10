//! What is wrong with a file, for people (the line, underlined, with what would be right) and for programs (JSON).
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use lb_common::config::{Place, Problem};
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, and this should not go unsaid.
    Warning,
}

/// What kind of mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The text is no YAML.
    Syntax,
    /// A key is unknown or a value of the wrong type: what a JSON Schema finds as well.
    Structure,
    /// The value, or how it goes with others.
    Meaning,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// How bad it is.
    #[serde(skip)]
    pub severity: Severity,
    /// What kind it is.
    #[serde(skip)]
    pub stage: Stage,
    /// What to underline, in bytes of the source.
    #[serde(skip)]
    pub span: Option<Range<usize>>,
    /// The file; `None` for a flag of the command line.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// Such as `spec.vrrpInstances[0].virtualIPs[1]`, or the flag.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// Entries about one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// As it was named.
    pub file: String,
    /// Its text, for the lines that are shown.
    pub source: String,
    /// In the file's order, those about flags last.
    pub entries: Vec<Entry>,
}

impl Report {
    /// Without entries.
    pub fn new(file: &str, source: &str) -> Self {
        Self {
            file: file.into(),
            source: source.into(),
            entries: Vec::new(),
        }
    }

    /// Notes a problem whose place is known.
    pub fn add(&mut self, severity: Severity, stage: Stage, problem: &Problem, span: Option<Range<usize>>) {
        let flag = matches!(problem.place, Place::Flag(_));
        let position = span.as_ref().map(|s| position(&self.source, s.start));
        let entry = Entry {
            severity,
            stage,
            span,
            file: (!flag).then(|| self.file.clone()),
            line: position.map(|p| p.0),
            column: position.map(|p| p.1),
            path: match &problem.place {
                Place::Value(p) | Place::Key(p) => p.to_string(),
                Place::Flag(f) => f.clone(),
            },
            message: problem.message.clone(),
            help: problem.help.clone(),
        };
        if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// Puts the entries into the file's order.
    pub fn sort(&mut self) {
        self.entries.sort_by_key(|e| (e.file.is_none(), e.line, e.column));
    }

    /// For a terminal (`colour`) or a log.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let texts: Vec<String> = self.entries.iter().map(|e| self.one(e, &renderer)).collect();
        texts.join("\n\n")
    }

    fn one(&self, e: &Entry, renderer: &Renderer) -> String {
        let level = match e.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let message = printable(&e.message);
        let title = match &e.file {
            Some(_) => message,
            None => format!("{}: {message}", printable(&e.path)),
        };
        let mut group = Group::with_title(level.primary_title(title));
        if let Some(span) = &e.span {
            let (line, within) = line_of(&self.source, span);
            let mark = AnnotationKind::Primary.span(within).label(printable(&e.path));
            let snippet = Snippet::source(line)
                .line_start(e.line.unwrap_or(1))
                .path(self.file.as_str());
            group = group.element(snippet.annotation(mark));
        }
        if let Some(help) = &e.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Line and column, both from 1, of a byte.
fn position(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    let line = before.matches('\n').count() + 1;
    (
        line,
        before.get(line_start..).unwrap_or_default().chars().count() + 1,
    )
}

/// The line that a span is on, and where on it. A span never leaves its line: whoever found it saw to that.
fn line_of<'a>(source: &'a str, span: &Range<usize>) -> (&'a str, Range<usize>) {
    let at = span.start.min(source.len());
    let start = source.get(..at).and_then(|s| s.rfind('\n')).map_or(0, |n| n + 1);
    let rest = source.get(start..).unwrap_or_default();
    let line = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
    let from = (at - start).min(line.len());
    (line, from..(span.end.max(at) - start).min(line.len()).max(from))
}

/// A value from a file must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("a\nbé: x", 6), (2, 4));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("a\n", 2), (2, 1));
    }

    #[test]
    fn an_escape_sequence_in_a_value_is_shown_and_not_sent() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
    }
}
