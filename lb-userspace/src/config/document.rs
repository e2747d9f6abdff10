//! YAML text to nodes that know where they stand. The YAML itself is saphyr's work.
//!
//! What saphyr does not bound is bounded here, for this runs in the daemon as well when a file changes: the size of the
//! file and the depth of its nesting (saphyr descends recursively). Aliases are resolved as k0s does; saphyr limits what
//! they may grow to.
use lb_common::config::{Path, Place, Segment};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use std::ops::Range;

/// No configuration is as long as this; a mistaken path to a log or an image may be.
const MAX_BYTES: usize = 1 << 20;
/// Columns of indentation and list dashes at the start of a line, each of which may open a level.
const MAX_INDENT: usize = 160;

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
/// The first thing that is no YAML: what follows it cannot be trusted to be what it seems.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    shallow(text)?;
    let offsets = Offsets::new(text);
    let documents = MarkedYaml::load_from_str(text).map_err(|e| syntax(&e, &offsets))?;
    let nodes: Vec<Node> = documents.iter().map(|d| convert(d, text, &offsets)).collect();
    let mut full = nodes
        .into_iter()
        .filter(|n| !matches!(n.value, Value::Null | Value::Bad(_)));
    let Some(first) = full.next() else {
        return Err(error(
            0..0,
            "the file is empty",
            Some("start from one of the examples, or from `cplb schema`"),
        ));
    };
    match full.next() {
        None => Ok(first),
        Some(second) => {
            let help = Some("keep one; several files need several processes");
            Err(error(
                first_line(second.span, text),
                "a second document begins here",
                help,
            ))
        }
    }
}

/// Refuses what would nest deeper than saphyr's recursion should go. Within brackets saphyr counts itself.
fn shallow(text: &str) -> Result<(), SyntaxError> {
    let mut start = 0;
    for line in text.split_inclusive(['\n', '\r']) {
        let mut bytes = line.bytes().enumerate().peekable();
        let mut opening = 0;
        while let Some((i, b)) = bytes.next() {
            let blank_follows = bytes.peek().is_none_or(|(_, n)| n.is_ascii_whitespace());
            match b {
                b' ' | b'\t' => {}
                b'-' | b'?' | b':' if blank_follows => opening = i,
                _ => {
                    opening = i;
                    break;
                }
            }
        }
        if opening > MAX_INDENT {
            let help = Some("no configuration is nested so deeply");
            let message = format!("this line is indented by more than {MAX_INDENT} columns");
            return Err(error(start..start + line.trim_end().len(), message, help));
        }
        start += line.len();
    }
    Ok(())
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
}

fn syntax(e: &saphyr::ScanError, offsets: &Offsets) -> SyntaxError {
    let at = offsets.byte(e.marker().index());
    let info = e.info();
    let (message, help) = if info.contains("duplicated key") {
        (
            "this key is in the same mapping twice".into(),
            Some("remove one of the two"),
        )
    } else if info.contains("alias expansion") {
        (
            "aliases make this file too large".into(),
            Some("write out what they stand for"),
        )
    } else if info.contains("unknown anchor") {
        (
            "this alias has no anchor before it".into(),
            Some("write the value out, or quote it if it is a text that begins with *"),
        )
    } else if info.contains("tab") {
        (format!("this is not YAML: {info}"), Some("indent with spaces"))
    } else {
        (format!("this is not YAML: {info}"), None)
    };
    error(at..at, message, help)
}

fn convert(yaml: &MarkedYaml<'_>, text: &str, offsets: &Offsets) -> Node {
    let start = offsets.byte(yaml.span.start.index());
    let end = offsets.byte(yaml.span.end.index()).max(start);
    let value = match &yaml.data {
        YamlData::Value(scalar) => scalar_value(scalar),
        YamlData::Sequence(items) => Value::List(
            items
                .iter()
                .map(|i| convert(i, text, offsets))
                .enumerate()
                .collect(),
        ),
        YamlData::Mapping(map) => {
            let entries: Option<Vec<Entry>> = map
                .iter()
                .map(|(k, v)| {
                    let key_node = convert(k, text, offsets);
                    let key = key_text(&key_node.value)?;
                    Some(Entry {
                        key,
                        key_span: key_node.span,
                        node: convert(v, text, offsets),
                    })
                })
                .collect();
            entries.map_or(Value::Bad("a key of this mapping is no text"), Value::Map)
        }
        // A tag of one's own says nothing about the value; k0s ignores it as well.
        YamlData::Tagged(_, inner) => convert(inner, text, offsets).value,
        YamlData::Representation(s, ..) => Value::Text(s.to_string()),
        YamlData::BadValue | YamlData::Alias(_) => Value::Bad("this is not what its tag or alias says"),
    };
    Node {
        span: start..end,
        value,
    }
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

/// What of a span is on its first line.
fn first_line(span: Range<usize>, text: &str) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    let lead = text.get(start..end).unwrap_or_default();
    let cut = lead
        .find(['\n', '\r'])
        .map_or(lead, |n| lead.get(..n).unwrap_or_default());
    start..start + cut.trim_end().len()
}

impl Node {
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
    fn head(&self, text: &str) -> Range<usize> {
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
