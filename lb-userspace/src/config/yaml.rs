//! YAML text to nodes. The scanning and parsing is saphyr's work; its events are put together here, and not by its
//! loader, because that one descends recursively: a file of a few kilobytes, with aliases, can nest deeper than a stack
//! is. Here nesting, the growth by aliases and the size of the file are bounded, so that a mistaken path or a damaged
//! file never ends a running daemon.
use super::document::{Entry, Node, Value, first_line};
use saphyr::{Scalar, ScanError};
use saphyr_parser::{Event, Parser, Span};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// No configuration is as long as this; a mistaken path to a log or an image may be.
const MAX_BYTES: usize = 1 << 20;
/// k0s's files are ten levels deep.
const MAX_DEPTH: usize = 64;
/// Nodes that aliases may add.
const MAX_ALIASED: usize = 10_000;

/// More keys that are there twice are not worth reading.
const MAX_DUPLICATES: usize = 100;

/// The text is no YAML, or YAML that is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

fn error(span: Range<usize>, message: impl Into<String>, help: Option<&str>) -> SyntaxError {
    SyntaxError {
        span,
        message: message.into(),
        help: help.map(Into::into),
    }
}

/// The text of a file: UTF-8, without a byte order mark. What is no UTF-8 is replaced in the second part of the error,
/// so that there is a line to show.
///
/// # Errors
/// Where the bytes are no text, or too many.
pub fn text(bytes: &[u8]) -> Result<String, (SyntaxError, String)> {
    if bytes.len() > MAX_BYTES {
        let message = format!(
            "the file is {} bytes long, and a configuration is at most {MAX_BYTES}",
            bytes.len()
        );
        return Err((
            error(0..0, message, Some("is this the right file?")),
            String::new(),
        ));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text).into()),
        Err(e) => {
            let at = e.valid_up_to();
            let end = at + '\u{fffd}'.len_utf8();
            let help = Some("save it as UTF-8");
            Err((
                error(at..end, "this is not UTF-8", help),
                String::from_utf8_lossy(bytes).into_owned(),
            ))
        }
    }
}

/// The one document of `text`.
///
/// # Errors
/// Every key that is twice in one mapping, or else the first thing that is no YAML: what follows it cannot be trusted to
/// be what it seems.
pub fn parse(text: &str) -> Result<Node, Vec<SyntaxError>> {
    let mut builder = Builder::new(text);
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.event(event, span).map_err(|e| vec![e])?,
            Err(e) => return Err(vec![syntax(&e, text, &builder.offsets)]),
        }
    }
    builder.duplicates.truncate(MAX_DUPLICATES);
    if !builder.duplicates.is_empty() {
        return Err(builder.duplicates);
    }
    let mut full = builder.documents.into_iter().filter(|n| n.value != Value::Null);
    let Some(first) = full.next() else {
        let help = Some("start from one of the examples, or from `cplb schema`");
        return Err(vec![error(0..0, "the file is empty", help)]);
    };
    match full.next() {
        None => Ok(first),
        Some(second) => {
            let help = Some("keep one; several files need several processes");
            Err(vec![error(
                first_line(second.head(text), text),
                "a second document begins here",
                help,
            )])
        }
    }
}

/// saphyr counts characters, everything else here bytes.
struct Offsets(Vec<usize>);

impl Offsets {
    fn new(text: &str) -> Self {
        Self(text.char_indices().map(|(i, _)| i).chain([text.len()]).collect())
    }

    fn byte(&self, char: usize) -> usize {
        self.0.get(char).or(self.0.last()).copied().unwrap_or(0)
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

fn syntax(e: &ScanError, text: &str, offsets: &Offsets) -> SyntaxError {
    // What is missing at the end is shown behind what is there.
    let at = offsets.byte(e.marker().index()).min(text.trim_end().len());
    let info = e.info();
    if info.contains("unknown anchor") {
        let help = "write the value out, or quote it if it is a text that begins with *";
        return error(at..at, "this alias has no anchor before it", Some(help));
    }
    let help = info.contains("tab").then_some("indent with spaces");
    error(at..at, format!("this is not YAML: {info}"), help)
}

/// A collection whose end has not come yet.
struct Open {
    start: usize,
    anchor: usize,
    contents: Contents,
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    /// The key whose value comes next.
    key: Option<(String, Range<usize>)>,
    /// Where each key stands.
    seen: HashMap<String, usize>,
}

enum Contents {
    List(Vec<(usize, Node)>),
    Map(OpenMap),
}

/// Events to nodes, with a stack of its own.
struct Builder<'a> {
    text: &'a str,
    offsets: Offsets,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    aliased: usize,
    documents: Vec<Node>,
    duplicates: Vec<SyntaxError>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            offsets: Offsets::new(text),
            open: Vec::new(),
            anchors: BTreeMap::new(),
            aliased: 0,
            documents: Vec::new(),
            duplicates: Vec::new(),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let range = self.offsets.range(span);
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::SequenceStart(anchor, _) => self.begin(range, anchor, Contents::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(range, anchor, Contents::Map(OpenMap::default())),
            Event::SequenceEnd | Event::MappingEnd => self.end(&range),
            Event::Scalar(word, style, anchor, tag) => {
                // A tag of one's own says nothing about the value; k0s ignores it as well.
                let value = Scalar::parse_from_cow_and_metadata(word, style, tag.as_ref())
                    .map_or(Value::Bad("this is not what its tag says"), |s| scalar_value(&s));
                self.put(Node { span: range, value }, anchor)
            }
            Event::Alias(id) => {
                let node = self.alias(id, &range)?;
                self.put(node, 0)
            }
        }
    }

    fn begin(&mut self, range: Range<usize>, anchor: usize, contents: Contents) -> Result<(), SyntaxError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(range));
        }
        self.open.push(Open {
            start: range.start,
            anchor,
            contents,
        });
        Ok(())
    }

    fn end(&mut self, range: &Range<usize>) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        // The event of a closing bracket may stand before it or on it.
        let bracketed = self
            .text
            .get(open.start..)
            .is_some_and(|t| t.starts_with(['[', '{']));
        let before = self
            .text
            .get(range.start..)
            .is_some_and(|t| t.starts_with([']', '}']));
        let end = if bracketed && before {
            range.start + 1
        } else {
            range.start
        };
        let value = match open.contents {
            Contents::List(items) => Value::List(items),
            Contents::Map(map) => Value::Map(merged(map.entries)),
        };
        let node = Node {
            span: open.start..end.max(open.start),
            value,
        };
        self.put(node, open.anchor)
    }

    /// What an alias stands for, at the alias's place.
    fn alias(&mut self, id: usize, range: &Range<usize>) -> Result<Node, SyntaxError> {
        let Some(node) = self.anchors.get(&id) else {
            let message = "this alias is inside of what it stands for";
            return Err(error(range.clone(), message, Some("write the value out")));
        };
        let (nodes, depth) = node.extent();
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED {
            let help = Some("write out what they stand for");
            return Err(error(range.clone(), "aliases make this file too large", help));
        }
        if self.open.len() + depth > MAX_DEPTH {
            return Err(too_deep(range.clone()));
        }
        Ok(Node {
            span: range.clone(),
            value: node.value.clone(),
        })
    }

    /// A finished node to where it belongs.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.contents {
            Contents::List(items) => items.push((items.len(), node)),
            Contents::Map(map) => match map.key.take() {
                None => {
                    let text = key_text(&node.value).ok_or_else(|| {
                        let span = first_line(node.span.clone(), self.text);
                        error(span, "a key must be a text", Some("quote it"))
                    })?;
                    map.key = Some((text, node.span));
                }
                Some((key, key_span)) => {
                    if let Some(first) = map.seen.insert(key.clone(), key_span.start) {
                        let line = self.text.get(..first).unwrap_or_default().matches('\n').count() + 1;
                        let message = format!("{key} is in this mapping twice, first in line {line}");
                        self.duplicates
                            .push(error(key_span.clone(), message, Some("remove one of the two")));
                    }
                    map.entries.push(Entry { key, key_span, node });
                }
            },
        }
        Ok(())
    }
}

fn too_deep(span: Range<usize>) -> SyntaxError {
    error(
        span,
        format!("this is nested more than {MAX_DEPTH} levels deep"),
        None,
    )
}

/// With the entries that `<<` brings in, behind those that are there by name, as k0s's YAML has it.
fn merged(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mergeable = |e: &Entry| e.key == "<<" && matches!(e.node.value, Value::Map(_) | Value::List(_));
    let Some(n) = entries.iter().position(mergeable) else {
        return entries;
    };
    let merge = entries.remove(n);
    let maps = match merge.node.value {
        Value::Map(map) => vec![map],
        Value::List(items) => items
            .into_iter()
            .filter_map(|(_, n)| match n.value {
                Value::Map(map) => Some(map),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let mut known: HashSet<String> = entries.iter().map(|e| e.key.clone()).collect();
    entries.extend(maps.into_iter().flatten().filter(|e| known.insert(e.key.clone())));
    entries
}

fn scalar_value(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(b) => Value::Bool(*b),
        Scalar::Integer(n) => Value::Int(*n),
        Scalar::FloatingPoint(n) if n.is_finite() => Value::Float(n.into_inner()),
        Scalar::FloatingPoint(_) => Value::Bad("this is not a number"),
        Scalar::String(s) => Value::Text(s.to_string()),
    }
}

/// Numbers and truth values are keys too, as in JSON made of YAML.
fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Int(n) => Some(n.to_string()),
        Value::Float(n) => Some(n.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) | Value::Bad(_) => None,
    }
}
