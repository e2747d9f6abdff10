//! Nodes to raw types by serde, and every unknown key and wrong type in one run: serde stops at the first, so what it
//! stops at is noted, taken out, and the rest read again.
use super::document::{Node, Value};
use lb_common::config::{Path, Problem, Segment};
use serde::de::DeserializeOwned;

/// More than this many mistakes of form are not worth reading.
const MAX_PROBLEMS: usize = 100;

/// Keys of the design that no field stands for yet.
const PLANNED: &[&str] = &["discovery", "admin", "kubernetes"];

/// Keys that only the native file has.
const NATIVE_ONLY: &[&str] = &[
    "advertInterval",
    "connectionSync",
    "datapath",
    "garp",
    "healthCheck",
    "hysteresis",
    "ipvsTimeouts",
    "name",
    "notify",
    "persistenceGranularity",
    "ports",
    "preempt",
    "preemptDelay",
    "priority",
    "protocol",
    "quorum",
    "realServers",
    "schedulerFlags",
    "slowStart",
    "sorryServer",
    "syncGroups",
    "track",
    "tunnel",
    "v3Checksum",
    "version",
];

/// A problem, already at its place: the tree changes when the next one is taken out.
pub struct Located {
    /// The problem, with the file's own indices.
    pub problem: Problem,
    /// What to underline.
    pub span: Option<std::ops::Range<usize>>,
}

/// What could be read, and what could not.
pub struct Outcome<T> {
    /// `None` where not even an outline could be.
    pub raw: Option<T>,
    /// What was taken out and why.
    pub problems: Vec<Located>,
    /// What is missing now because of that, so that nobody calls it missing.
    pub removed: Vec<Path>,
}

/// Reads `root`, from which everything that does not fit is taken out. `native` only chooses words.
pub fn read<T: DeserializeOwned>(root: &mut Node, text: &str, native: bool) -> Outcome<T> {
    let mut out = Outcome {
        raw: None,
        problems: Vec::new(),
        removed: Vec::new(),
    };
    while out.problems.len() < MAX_PROBLEMS {
        let error = match serde_path_to_error::deserialize::<_, T>(root.to_json()) {
            Ok(raw) => {
                out.raw = Some(raw);
                break;
            }
            Err(e) => e,
        };
        for (problem, suggestion) in problems(root, text, native, &error) {
            let Some(path) = problem.path().cloned() else {
                return out;
            };
            out.removed.push(root.original(&path));
            out.removed.extend(suggestion.map(|s| root.original(&s)));
            let span = root.locate(&problem.place, text);
            out.problems.push(Located {
                problem: relocated(problem, root),
                span,
            });
            if !root.remove(&path) {
                return out;
            }
        }
    }
    out
}

/// The same problem with the indices that the file has.
pub fn relocated(mut problem: Problem, root: &Node) -> Problem {
    use lb_common::config::Place;
    problem.place = match problem.place {
        Place::Value(p) => Place::Value(root.original(&p)),
        Place::Key(p) => Place::Key(root.original(&p)),
        Place::Flag(f) => Place::Flag(f),
    };
    problem
}

fn path_of(path: &serde_path_to_error::Path) -> Path {
    use serde_path_to_error::Segment as Step;
    let known = path.iter().map_while(|s| match s {
        Step::Seq { index } => Some(Segment::Index(*index)),
        Step::Map { key } => Some(Segment::Key(key.clone())),
        Step::Enum { .. } | Step::Unknown => None,
    });
    Path::new(known.collect())
}

/// A problem, and the path of the key that was probably meant.
type Suggesting = (Problem, Option<Path>);

/// What serde objects to, in words for whoever wrote the file. Of unknown keys it names the first of a mapping, and all
/// that it would take: with that, the others are found as well.
fn problems(
    root: &Node,
    text: &str,
    native: bool,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> Vec<Suggesting> {
    let path = path_of(error.path());
    let words = error.inner().to_string();
    let Some(rest) = words.strip_prefix("unknown field `") else {
        return vec![(wrong_value(root, text, path, words), None)];
    };
    let (key, expected) = rest.split_once('`').unwrap_or((rest, ""));
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    // Whether the path ends in the key is for the deserializer to choose.
    let parent = match path.segments().split_last() {
        Some((Segment::Key(last), parent)) if last == key => Path::new(parent.to_vec()),
        _ => path.clone(),
    };
    let all = match root.at(&parent).map(|n| &n.value) {
        Some(Value::Map(entries)) => entries.iter().map(|e| e.key.as_str()).collect(),
        _ => vec![key],
    };
    let unknown = all.into_iter().filter(|k| !known.contains(k));
    unknown
        .take(MAX_PROBLEMS)
        .map(|key| unknown_key(&parent, key, &known, native))
        .collect()
}

fn wrong_value(root: &Node, text: &str, path: Path, words: String) -> Problem {
    let node = root.at(&path);
    if let Some(Value::Bad(why)) = node.map(|n| &n.value) {
        return Problem::new(&path, *why).help("write a plain value");
    }
    let expected = words.split_once(", expected ").map(|(_, e)| e);
    match (node, expected) {
        (Some(node), Some(expected)) if !words.starts_with("unknown variant") => {
            let source = text.get(node.span.clone()).unwrap_or_default().trim();
            mismatch(&path, node, source, expected)
        }
        _ if words.contains("is not a duration") => {
            Problem::new(&path, words).help("write it as Go does: 100ms, 1.5s, 1m30s")
        }
        (_, Some(expected)) => Problem::new(&path, words.clone()).help(format!("write {expected}")),
        _ => Problem::new(&path, words),
    }
}

fn unknown_key(parent: &Path, key: &str, known: &[&str], native: bool) -> Suggesting {
    let problem = Problem::new(&parent.key(key), format!("unknown key {key:?}")).on_key();
    if let Some(best) = nearest(key, known) {
        return (
            problem.help(format!("did you mean {best}?")),
            Some(parent.key(best)),
        );
    }
    let help = if native && PLANNED.contains(&key) {
        "this build does not have it yet".into()
    } else if !native && NATIVE_ONLY.contains(&key) {
        "k0s has no such key; a native file (apiVersion: cplb.io/v1alpha1) has".into()
    } else {
        format!("the keys here are {}", known.join(", "))
    };
    (problem.help(help), None)
}

/// A value of the wrong type, or a number beyond all types.
fn mismatch(path: &Path, node: &Node, source: &str, expected: &str) -> Problem {
    let kind = match expected {
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        e if e.starts_with("struct ") || e == "a map" => "a mapping",
        e if e.starts_with('i') || e.starts_with('u') => "a whole number",
        e => e,
    };
    let found = match &node.value {
        Value::Null => "nothing".into(),
        Value::Bool(_) => format!("the truth value {source}"),
        Value::Int(_) | Value::Float(_) => format!("the number {source}"),
        Value::Text(t) => format!("the text {t:?}"),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a mapping".into(),
        Value::Bad(why) => (*why).into(),
    };
    let problem = Problem::new(path, format!("expected {kind}, found {found}"));
    match help(kind, &node.value, source) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

fn help(kind: &str, value: &Value, source: &str) -> Option<String> {
    match (kind, value) {
        ("a text", Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
            Some(format!("quote it: \"{source}\""))
        }
        ("a list", Value::Text(_) | Value::Int(_)) => Some(format!("put it into brackets: [{source}]")),
        ("a duration", Value::Int(_) | Value::Float(_)) => Some(format!("add a unit: {source}s")),
        ("a whole number", Value::Text(t)) if t.parse::<i64>().is_ok() => {
            Some(format!("remove the quotes: {t}"))
        }
        ("true or false", Value::Text(t)) => match t.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some("write true".into()),
            "false" | "no" | "off" | "n" => Some("write false".into()),
            _ => None,
        },
        ("a list", Value::Map(_)) => Some("begin each item with a dash".into()),
        ("a mapping", Value::List(_)) => Some("remove the dash".into()),
        _ => None,
    }
}

/// The known key that `key` was probably meant to be.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = key.to_ascii_lowercase();
    let scored = known
        .iter()
        .map(|k| (distance(&lower, &k.to_ascii_lowercase()), *k));
    let (distance, best) = scored.min_by_key(|(d, _)| *d)?;
    (distance <= key.chars().count() / 3).then_some(best)
}

/// How many characters must be added, removed, exchanged or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let get = |r: &[usize], n: usize| r.get(n).copied().unwrap_or(usize::MAX / 2);
            let mut best = (get(&row, j) + usize::from(ca != cb))
                .min(get(&row, j + 1) + 1)
                .min(get(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(get(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_finds_the_one_that_was_meant() {
        let known = ["virtualIPs", "virtualRouterID", "interface", "authPass"];
        assert_eq!(nearest("virtualIps", &known), Some("virtualIPs"));
        assert_eq!(nearest("virtalIPs", &known), Some("virtualIPs"));
        assert_eq!(nearest("auhtPass", &known), Some("authPass"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(distance("abcd", "abdc"), 1);
    }
}
