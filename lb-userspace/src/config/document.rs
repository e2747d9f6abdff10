//! A file as a tree of nodes that know where they stand: looked up, located and pruned by path.
use lb_common::config::{Path, Place, Segment};
use std::ops::Range;

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number; finite.
    Float(f64),
    /// A text.
    Text(String),
    /// Items, each with its index in the file: others may have been taken out.
    List(Vec<(usize, Node)>),
    /// Entries in the file's order.
    Map(Vec<Entry>),
    /// What YAML can say and no field can hold, and why.
    Bad(&'static str),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Range<usize>,
    /// The value.
    pub node: Node,
}

/// A value and where it stands, in bytes of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where.
    pub span: Range<usize>,
    /// What.
    pub value: Value,
}

/// What of a span is on its first line.
pub(super) fn first_line(span: Range<usize>, text: &str) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    let lead = text.get(start..end).unwrap_or_default();
    let cut = lead
        .find(['\n', '\r'])
        .map_or(lead, |n| lead.get(..n).unwrap_or_default());
    start..start + cut.trim_end().len()
}

impl Node {
    /// How many nodes there are in it, and how many levels of them.
    pub(super) fn extent(&self) -> (usize, usize) {
        let children: Vec<(usize, usize)> = match &self.value {
            Value::List(items) => items.iter().map(|(_, n)| n.extent()).collect(),
            Value::Map(entries) => entries.iter().map(|e| e.node.extent()).collect(),
            _ => return (1, 0),
        };
        let nodes = children.iter().map(|(n, _)| n).sum::<usize>();
        let depth = children.iter().map(|(_, d)| *d).max().unwrap_or(0);
        (nodes + 1, depth + 1)
    }

    /// As JSON, for serde and for a schema. What no JSON can hold becomes a mapping that fits no field.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::Float(n) => Json::from(*n),
            Value::Text(s) => Json::String(s.clone()),
            Value::List(items) => items.iter().map(|(_, n)| n.to_json()).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|e| (e.key.clone(), e.node.to_json()))
                .collect(),
            Value::Bad(_) => Json::Object([("\0".to_owned(), Json::Null)].into_iter().collect()),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    /// The text of a key, where it has one.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(s) => Some(s),
            _ => None,
        }
    }

    fn step(&self, segment: &Segment) -> Option<&Self> {
        match (&self.value, segment) {
            (Value::Map(_), Segment::Key(key)) => self.get(key),
            (Value::List(items), Segment::Index(i)) => items.get(*i).map(|(_, n)| n),
            _ => None,
        }
    }

    /// The node at a path.
    pub fn at(&self, path: &Path) -> Option<&Self> {
        path.segments().iter().try_fold(self, |n, s| n.step(s))
    }

    /// `path` with the indices that the file has, before anything was taken out.
    pub fn original(&self, path: &Path) -> Path {
        let mut node = Some(self);
        let mut out = Path::ROOT;
        for segment in path.segments() {
            let shown = match (node.map(|n| &n.value), segment) {
                (Some(Value::List(items)), Segment::Index(i)) => {
                    Segment::Index(items.get(*i).map_or(*i, |(original, _)| *original))
                }
                _ => segment.clone(),
            };
            out = out.then(shown);
            node = node.and_then(|n| n.step(segment));
        }
        out
    }

    /// Takes the node at a path out, so that the rest can be read.
    pub fn remove(&mut self, path: &Path) -> bool {
        let Some((last, parents)) = path.segments().split_last() else {
            return false;
        };
        let mut node = self;
        for segment in parents {
            let next = match (&mut node.value, segment) {
                (Value::Map(entries), Segment::Key(key)) => {
                    entries.iter_mut().find(|e| e.key == *key).map(|e| &mut e.node)
                }
                (Value::List(items), Segment::Index(i)) => items.get_mut(*i).map(|(_, n)| n),
                _ => None,
            };
            let Some(next) = next else { return false };
            node = next;
        }
        match (&mut node.value, last) {
            (Value::Map(entries), Segment::Key(key)) => {
                let before = entries.len();
                entries.retain(|e| e.key != *key);
                entries.len() < before
            }
            (Value::List(items), Segment::Index(i)) if *i < items.len() => {
                items.remove(*i);
                true
            }
            _ => false,
        }
    }

    /// What to underline: the value, for what spans lines its key, for what is missing what it is missing from.
    pub fn locate(&self, place: &Place, text: &str) -> Option<Range<usize>> {
        let (path, on_key) = match place {
            Place::Value(p) => (p, false),
            Place::Key(p) => (p, true),
            Place::Flag(_) => return None,
        };
        let mut node = self;
        let mut key = None;
        let mut complete = true;
        for segment in path.segments() {
            let Some(next) = node.step(segment) else {
                complete = false;
                break;
            };
            key = match (&node.value, segment) {
                (Value::Map(entries), Segment::Key(k)) => {
                    entries.iter().find(|e| e.key == *k).map(|e| e.key_span.clone())
                }
                _ => None,
            };
            node = next;
        }
        let span = match key {
            Some(key) if on_key && complete => key,
            Some(key) if !node.is_inline(text) => key,
            _ => node.head(text),
        };
        Some(first_line(span, text))
    }

    /// Whether the value stands on a line of its key: a scalar that is there, or a list in brackets.
    fn is_inline(&self, text: &str) -> bool {
        match &self.value {
            Value::List(_) | Value::Map(_) => text
                .get(self.span.clone())
                .is_some_and(|t| t.starts_with(['[', '{'])),
            _ => !text.get(self.span.clone()).unwrap_or_default().trim().is_empty(),
        }
    }

    /// Where a value begins that no key leads to.
    pub(super) fn head(&self, text: &str) -> Range<usize> {
        match &self.value {
            Value::Map(entries) if !self.is_inline(text) => entries
                .first()
                .map_or_else(|| self.span.clone(), |e| e.key_span.clone()),
            Value::List(items) if !self.is_inline(text) => items
                .first()
                .map_or_else(|| self.span.clone(), |(_, n)| n.head(text)),
            _ => self.span.clone(),
        }
    }

    /// Unquoted `yes`, `no`, `on` and `off`, which k0s's YAML takes for truth values and YAML 1.2 for texts.
    pub fn with_yaml_1_1_booleans(mut self, text: &str) -> Self {
        self.read_booleans(text);
        self
    }

    fn read_booleans(&mut self, text: &str) {
        match &mut self.value {
            Value::Text(word) => {
                let plain = text.get(self.span.clone()) == Some(word.as_str());
                let value = match word.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" => Some(true),
                    "no" | "off" | "n" => Some(false),
                    _ => None,
                };
                if let Some(value) = value.filter(|_| plain) {
                    self.value = Value::Bool(value);
                }
            }
            Value::List(items) => items.iter_mut().for_each(|(_, n)| n.read_booleans(text)),
            Value::Map(entries) => entries.iter_mut().for_each(|e| e.node.read_booleans(text)),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Bad(_) => {}
        }
    }
}
