//! What a daemon of ours says of itself, read: its status from the socket itself, since starting `cplb status` ten times
//! a second would cost more than what is tried; and its log.
use crate::cplb::Cplb;
use crate::topology::Node;
use crate::wait;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const SOCKET: &str = "/run/cplb/cplb.sock";
const REQUEST: &[u8] = b"GET /v1/status HTTP/1.1\r\nHost: cplb\r\nConnection: close\r\n\r\n";

/// A status at one moment.
#[derive(Debug, Clone)]
pub struct Standing(pub Value);

/// One instance of a [`Standing`].
#[derive(Debug, Clone, Copy)]
pub struct Role<'s>(pub &'s Value);

/// Of the daemon in that node.
pub fn of(node: &Node) -> Result<Standing> {
    let ask = || -> Result<Vec<u8>> {
        let mut stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(REQUEST)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = node.netns().run(ask)??;
    let text = String::from_utf8(answer).context("the status is no text")?;
    let (_, body) = text.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok(Standing(
        serde_json::from_str(body).context("the status is no JSON")?,
    ))
}

/// Waits until the status fits. The error has the last one.
pub fn wait(
    cplb: &Cplb<'_>,
    what: &str,
    limit: Duration,
    fits: impl Fn(&Standing) -> bool,
) -> Result<Standing> {
    let mut last = None;
    let found = wait::until(what, limit, || match of(cplb.node()) {
        Ok(now) if fits(&now) => Some(now),
        other => {
            last = Some(other);
            None
        }
    });
    found.with_context(|| match last {
        Some(Ok(now)) => format!("{} says: {now}", cplb.node().name()),
        Some(Err(error)) => format!("{} does not say: {error:#}", cplb.node().name()),
        None => cplb.node().name().to_owned(),
    })
}

/// Waits until every daemon in these nodes finds these real servers well, and no others: what a server's node lacks while
/// it starts is found out by checks, and what they find moves connections. A node without a daemon has no say.
pub fn wait_healthy<'n>(
    nodes: impl IntoIterator<Item = &'n Node>,
    servers: &BTreeSet<IpAddr>,
    limit: Duration,
) -> Result<()> {
    for node in nodes {
        let mut last = None;
        let agreed = wait::until(&format!("{} finds {servers:?} well", node.name()), limit, || {
            last = of(node).ok();
            last.as_ref()
                .is_none_or(|now| now.healthy() == *servers)
                .then_some(())
        });
        agreed.with_context(|| {
            format!(
                "health now: {}",
                last.map_or(Value::Null, |now| now.0["health"].clone())
            )
        })?;
    }
    Ok(())
}

/// Waits until the first instance is in that state (`Initialize`, `Backup`, `Active`, `Leaving`).
pub fn wait_state(cplb: &Cplb<'_>, state: &str, limit: Duration) -> Result<Standing> {
    let what = format!("{} on {}", state, cplb.node().name());
    wait(cplb, &what, limit, |s| {
        s.roles().first().is_some_and(|r| r.state() == state)
    })
}

impl Standing {
    /// Every instance.
    pub fn roles(&self) -> Vec<Role<'_>> {
        let list = self.0["roles"]["instances"].as_array();
        list.into_iter().flatten().map(Role).collect()
    }

    /// Whether there are instances and each is in that state.
    pub fn is_all(&self, state: &str) -> bool {
        let roles = self.roles();
        !roles.is_empty() && roles.iter().all(|role| role.state() == state)
    }

    /// The instance of that name.
    pub fn role(&self, name: &str) -> Option<Role<'_>> {
        self.roles().into_iter().find(|role| role.0["name"] == name)
    }

    /// Why the file was refused at the last attempt to read it again.
    pub fn reload_error(&self) -> Option<&str> {
        self.0["reload"]["error"].as_str()
    }

    /// When that was.
    pub fn reload_at(&self) -> Option<u64> {
        self.0["reload"]["atMs"].as_u64()
    }

    /// The guardian's process.
    pub fn guardian(&self) -> Option<i32> {
        self.0["guardianPid"].as_i64()?.try_into().ok()
    }

    /// The real servers of which every port that is checked answers.
    pub fn healthy(&self) -> BTreeSet<IpAddr> {
        let mut up: BTreeMap<IpAddr, bool> = BTreeMap::new();
        for (target, report) in self.0["health"]["servers"].as_object().into_iter().flatten() {
            if let Ok(target) = target.parse::<SocketAddr>() {
                let checked = report["checks"].as_u64().unwrap_or_default() > 0;
                *up.entry(target.ip()).or_insert(true) &= checked && report["up"] == true;
            }
        }
        up.into_iter()
            .filter(|(_, up)| *up)
            .map(|(address, _)| address)
            .collect()
    }

    /// What is wrong in the kernel, as sentences.
    pub fn problems(&self) -> Vec<String> {
        let list = self.0["kernel"]["problems"].as_array();
        let texts = list.into_iter().flatten().filter_map(|p| p.as_str());
        texts.map(str::to_owned).collect()
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for role in self.roles() {
            let name = role.0["name"].as_str().unwrap_or_default();
            write!(f, "{name} {} priority {}", role.state(), role.priority())?;
            write!(
                f,
                " holds {} fault {:?} active {:?}",
                role.holds(),
                role.fault(),
                role.active()
            )?;
            writeln!(f, " counters {} {:?}", role.0["counters"], role.transitions())?;
        }
        write!(f, "reload {} problems {:?}", self.0["reload"], self.problems())
    }
}

impl<'s> Role<'s> {
    /// `Initialize`, `Backup`, `Active` or `Leaving`.
    pub fn state(&self) -> &'s str {
        self.0["state"].as_str().unwrap_or_default()
    }

    /// Whether the addresses are to be here.
    pub fn holds(&self) -> bool {
        self.0["holds"] == true
    }

    /// Why it takes no part.
    pub fn fault(&self) -> Option<&'s str> {
        self.0["fault"].as_str()
    }

    /// With tracking's weights.
    pub fn priority(&self) -> u64 {
        self.0["priority"].as_u64().unwrap_or_default()
    }

    /// The Active router that it follows, and its priority.
    pub fn active(&self) -> Option<(IpAddr, u64)> {
        let heard = &self.0["active"];
        Some((
            heard["address"].as_str()?.parse().ok()?,
            heard["priority"].as_u64()?,
        ))
    }

    /// Every change of state that is remembered: `Backup>Active: "activeDown"`.
    pub fn transitions(&self) -> Vec<String> {
        let list = self.0["transitions"].as_array().into_iter().flatten();
        let text = |t: &Value| {
            let state = |key: &str| t[key].as_str().unwrap_or_default().to_owned();
            format!("{}>{}: {}", state("from"), state("to"), t["reason"])
        };
        list.map(text).collect()
    }

    /// The reason of the last change.
    pub fn last_reason(&self) -> String {
        self.transitions().pop().unwrap_or_default()
    }

    /// A counter: `sent`, `received`, `announced`.
    pub fn counter(&self, name: &str) -> u64 {
        self.0["counters"][name].as_u64().unwrap_or_default()
    }

    /// Packets that were rejected for this reason.
    pub fn rejected(&self, kind: &str) -> u64 {
        self.0["counters"]["rejected"][kind].as_u64().unwrap_or_default()
    }
}

/// The lines of a log that are JSON.
pub fn lines(log: &str) -> Vec<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The messages of a log.
pub fn messages(log: &str) -> Vec<String> {
    let texts = lines(log).into_iter();
    texts
        .filter_map(|line| line["message"].as_str().map(str::to_owned))
        .collect()
}
