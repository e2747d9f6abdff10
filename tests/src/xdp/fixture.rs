//! The tables of `tests/fixtures/xdp`: cases, each of one packet or of several in order.
//!
//! ```yaml
//! - name: a SYN goes to the backend of its service
//!   given: {backends: {b1: draining}}     # what is different from scene.yaml
//!   send: ether / ip / tcp flags=S        # see `frame`
//!   want: tx b1 new
//! - name: ...
//!   steps: [{send: ..., want: ...}, {given: ..., send: ..., want: ...}]
//! ```
//! `want` is one of `pass REASON`, `drop REASON`, `told` (an ICMP error), and for a backend `local B`, `tx B` (back out of
//! the interface it came from), `redirect B` (another one), followed by `new` (it began a flow) and `remembered` (the
//! backend came from memory) where that is so. `ring` instead of a name: the one that the table has for its hash.
//!
//! What leaves is `out`; without it, of what was sent, with the backend's MAC address as destination and ours as source,
//! TTL or hop limit 4 and a checksum to match, and otherwise the same. `inner` stands there for what was sent from its IP
//! header on with TTL 4, `original` for the same as it came. What is passed or dropped must be as it came.
use super::frame::Frame;
use super::model::Verdict;
use super::scene::{self, Scene};
use anyhow::{Context, Result, bail, ensure};
use lb_common::abi::Reason;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// A sentence.
    pub name: String,
    /// The only step, where there is only one.
    #[serde(default)]
    given: Given,
    #[serde(default)]
    send: Option<String>,
    #[serde(default)]
    want: Option<String>,
    #[serde(default)]
    out: Option<String>,
    #[serde(default)]
    then: BTreeMap<String, String>,
    #[serde(default)]
    steps: Vec<Step>,
    /// Checksums or lengths of what is sent are wrong on purpose, so nobody can check those of what leaves.
    #[serde(default)]
    pub unsound: bool,
}

/// A packet, and what should become of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What changes before.
    #[serde(default)]
    pub given: Given,
    /// The packet.
    pub send: String,
    /// What becomes of it.
    pub want: String,
    /// What leaves.
    #[serde(default)]
    pub out: Option<String>,
    /// Flows, and what is remembered of them afterwards: `b1 probation`, `b1 established`, `nothing`; of a packet in
    /// fragments `b1` or `passed`.
    #[serde(default)]
    pub then: BTreeMap<String, String>,
}

/// What is different.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// Backends and the state that they are in: `up`, `dead`, `draining`, `silent`.
    pub backends: BTreeMap<String, String>,
    /// By pool: backends whose state is another one for this pool alone.
    pub members: BTreeMap<String, BTreeMap<String, String>>,
    /// `ended`
    pub lease: Option<String>,
    /// The virtual IPs that are held; without it all.
    pub held: Option<Vec<String>>,
    /// So many new words and no more.
    pub inserts: Option<u64>,
    /// Pools with other backends.
    pub pools: BTreeMap<String, Vec<String>>,
    /// What is in the tables.
    pub remember: Vec<Memory>,
}

/// A word.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// `tcp c1:40000 vip:443`; `client tcp c1 vip:8132`; `fragment udp c1 vip:53 0x1234`, where the port says whose it is.
    pub of: String,
    /// Its backend.
    pub backend: String,
    /// Whether it was seen twice.
    #[serde(default)]
    pub established: bool,
    /// Units since it was last seen.
    #[serde(default)]
    pub age: u64,
}

/// What should become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// It goes to no backend.
    Reason(Reason),
    /// It does.
    Backend {
        /// How.
        verdict: Verdict,
        /// `None`: the ring's.
        backend: Option<String>,
        /// It begins a flow.
        new: bool,
        /// The backend is remembered.
        remembered: bool,
    },
}

impl Case {
    /// Its steps.
    pub fn steps(&self) -> Result<Vec<Step>> {
        match (&self.send, &self.want) {
            (Some(send), Some(want)) if self.steps.is_empty() => Ok(vec![Step {
                given: self.given.clone(),
                send: send.clone(),
                want: want.clone(),
                out: self.out.clone(),
                then: self.then.clone(),
            }]),
            (None, None) if !self.steps.is_empty() => Ok(self.steps.clone()),
            _ => bail!("{}: either send and want, or steps", self.name),
        }
    }
}

impl Step {
    /// The packet.
    pub fn frame(&self) -> Result<Frame> {
        Frame::parse(&self.send)
    }

    /// What should become of it.
    pub fn want(&self) -> Result<Want> {
        let mut words = self.want.split_whitespace();
        let verb = words.next().context("want is empty")?;
        let object = words.next();
        let reason = |word: Option<&str>| {
            let found = Reason::ALL.iter().find(|r| Some(r.name()) == word);
            found
                .copied()
                .with_context(|| format!("no reason is called {word:?}"))
        };
        let verdict = match verb {
            "pass" | "drop" => {
                let reason = reason(object)?;
                let verb_of = |r: Reason| format!("{:?}", r.verdict()).to_lowercase();
                ensure!(verb_of(reason) == verb && words.next().is_none(), "{}", self.want);
                return Ok(Want::Reason(reason));
            }
            "told" => return Ok(Want::Reason(Reason::TooBigTold)),
            "local" => Verdict::Pass,
            "tx" => Verdict::Tx,
            "redirect" => Verdict::Redirect,
            other => bail!("nothing that is wanted is called {other}"),
        };
        let (mut new, mut remembered) = (false, false);
        for word in words {
            match word {
                "new" => new = true,
                "remembered" => remembered = true,
                other => bail!("{other}: neither new nor remembered"),
            }
        }
        let backend = object.context("which backend?")?;
        Ok(Want::Backend {
            verdict,
            backend: (backend != "ring").then(|| backend.to_owned()),
            new,
            remembered,
        })
    }

    /// The frame that should leave, where `out` says so.
    pub fn out(&self) -> Result<Option<Frame>> {
        let Some(text) = &self.out else { return Ok(None) };
        let sent = Frame::parse(&self.send)?;
        let whole = match text.rsplit_once(" / ") {
            Some((before, "inner")) => format!("{before} / {}", sent.forwarded("us", "us")?.network()?),
            Some((before, "original")) => format!("{before} / {}", sent.network()?),
            _ => text.clone(),
        };
        Frame::parse(&whole).map(Some)
    }
}

/// Where the tables are.
fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/xdp")
}

/// The scene that they share.
pub fn scene() -> Result<Scene> {
    let path = directory().join("scene.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Scene::parse(&text).with_context(|| path.display().to_string())
}

/// The cases of a table.
pub fn table(name: &str) -> Result<Vec<Case>> {
    let path = directory().join(format!("{name}.yaml"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    scene::yaml(&text).with_context(|| path.display().to_string())
}

/// Names of all tables.
pub fn tables() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory())? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name != "scene" && path.extension().is_some_and(|e| e == "yaml") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
