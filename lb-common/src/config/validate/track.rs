//! `track` and `notify` of an instance.
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::{Notify as RawNotify, Track as RawTrack, TrackExec as RawExec, VrrpInstance};
use super::{advert, at_most, bad_interface, is_interface, number, one_of, program};
use crate::spec::{Hook, Listener, Track, Tracked};
use crate::vrrp::notify::Told;
use crate::vrrp::track::{TrackExec, TrackServers};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

/// More interfaces than a node has.
const MAX_TRACKED: usize = 255;
/// Each is told one after the other.
const MAX_HOOKS: usize = 16;
/// Takes an instance below every other that can serve.
pub(super) const LEAST: i16 = -253;
const HOUR: Duration = Duration::from_secs(3600);

/// `None`: it has problems, and they are noted. `serves`: the instance has virtual servers, on which it depends unless told
/// otherwise.
pub(super) fn track(raw: &VrrpInstance, serves: bool, at: &Path, f: &mut Findings) -> Option<Vec<Track>> {
    let at = at.key("track");
    let Some(list) = &raw.track else {
        // An owner's priority never moves.
        let follows = serves && raw.priority != Some(255);
        let default = Track {
            what: Tracked::VirtualServers(TrackServers::default()),
            weight: LEAST,
        };
        let list: Vec<Track> = follows.then_some(default).into_iter().collect();
        preempted(raw, &list, &at, f);
        return Some(list);
    };
    if !at_most(list.len(), MAX_TRACKED, &at, f) {
        return None;
    }
    let before = f.problems.len();
    let mut out: Vec<Track> = Vec::new();
    for (i, t) in list.iter().enumerate() {
        let at = at.index(i);
        if let Some(track) = one(t, serves, &at, f) {
            twice(&track, &out, &at, f);
            out.push(track);
        }
    }
    preempted(raw, &out, &at, f);
    (f.problems.len() == before).then_some(out)
}

fn one(raw: &RawTrack, serves: bool, at: &Path, f: &mut Findings) -> Option<Track> {
    let servers = raw.virtual_servers;
    let default = if servers == Some(true) { LEAST } else { 0 };
    let weight = raw.weight.unwrap_or(i64::from(default));
    let weight = f.take(number(weight, -253, 253, &at.key("weight"), "weight"));
    for (key, given) in [("rise", raw.rise), ("fall", raw.fall)] {
        if given.is_some() && servers.is_none() {
            let message = format!("{key} is for virtualServers here");
            let problem = Problem::new(&at.key(key), message).on_key();
            f.refuse(problem.help("a program has its own under exec; an interface has none"));
        }
    }
    let what = match (&raw.interface, &raw.exec, servers) {
        (Some(name), None, None) if is_interface(name) => Tracked::Interface(name.clone()),
        (Some(name), None, None) => {
            f.refuse(bad_interface(&at.key("interface"), name));
            return None;
        }
        (None, Some(exec), None) => Tracked::Exec(exec_of(exec, &at.key("exec"), f)?),
        (None, None, Some(true)) => {
            if !serves {
                let message =
                    "virtualServers has no effect: no virtual server is on this instance's virtual IPs";
                f.warn(Problem::new(&at.key("virtualServers"), message));
            }
            Tracked::VirtualServers(TrackServers {
                rise: f.take(number(raw.rise.unwrap_or(3), 1, 255, &at.key("rise"), "rise"))?,
                fall: f.take(number(raw.fall.unwrap_or(3), 1, 255, &at.key("fall"), "fall"))?,
            })
        }
        // That there is a list is what takes the default away; this says so in words.
        (None, None, Some(false)) => return None,
        (None, None, None) => {
            f.refuse(
                Problem::new(at, "there is nothing here to track")
                    .help("name one of interface, exec and virtualServers"),
            );
            return None;
        }
        _ => {
            f.refuse(
                Problem::new(at, "this tracks more than one thing")
                    .help("give interface, exec and virtualServers an item each"),
            );
            return None;
        }
    };
    Some(Track {
        what,
        weight: weight?,
    })
}

fn exec_of(raw: &RawExec, at: &Path, f: &mut Findings) -> Option<TrackExec> {
    let span = |value, default: u64, min: u64, key: &str, f: &mut Findings| match value {
        None => Some(Duration::from_millis(default)),
        Some(v) => f.take(advert::span(
            v,
            Duration::from_millis(min),
            HOUR,
            &at.key(key),
            key,
        )),
    };
    let run = program(raw.command.as_deref(), raw.user.as_deref(), at, f);
    let interval = span(raw.interval, 2000, 100, "interval", f);
    let timeout = span(raw.timeout, 1000, 10, "timeout", f);
    let rise = f.take(number(raw.rise.unwrap_or(2), 1, 255, &at.key("rise"), "rise"));
    let fall = f.take(number(raw.fall.unwrap_or(2), 1, 255, &at.key("fall"), "fall"));
    Some(TrackExec {
        run: run?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
    })
}

fn twice(track: &Track, earlier: &[Track], at: &Path, f: &mut Findings) {
    let kind = |t: &Track| core::mem::discriminant(&t.what);
    let (key, name) = match &track.what {
        Tracked::Interface(name) => ("interface", name.as_str()),
        Tracked::VirtualServers(_) => ("virtualServers", "whether it can serve"),
        Tracked::Exec(_) => return,
    };
    let same = |t: &Track| match (&t.what, &track.what) {
        (Tracked::Interface(a), Tracked::Interface(b)) => a == b,
        _ => kind(t) == kind(track),
    };
    if earlier.iter().any(same) {
        f.refuse(Problem::new(&at.key(key), format!("{name} is tracked twice")));
    }
}

/// A weight moves nothing where nobody preempts.
fn preempted(raw: &VrrpInstance, list: &[Track], at: &Path, f: &mut Findings) {
    if raw.preempt != Some(false) || raw.priority == Some(255) || list.iter().all(|t| t.weight == 0) {
        return;
    }
    let message = if raw.track.is_none() {
        "the virtual IPs do not follow health: with preempt: false the others let an active node be that cannot serve"
    } else {
        "weights move nothing while this node is active: with preempt: false the others let it be"
    };
    f.warn(Problem::new(at, message).help(
        "write preempt: true, or a weight of 0 to take no part while it fails; track: [] if this is meant",
    ));
}

/// `None`: it has problems, and they are noted.
pub(super) fn notify(raw: &VrrpInstance, at: &Path, f: &mut Findings) -> Option<Vec<Hook>> {
    let at = at.key("notify");
    let list = raw.notify.as_deref().unwrap_or_default();
    if !at_most(list.len(), MAX_HOOKS, &at, f) {
        return None;
    }
    let all: Vec<Option<Hook>> = (list.iter().enumerate())
        .map(|(i, n)| hook(n, &at.index(i), f))
        .collect();
    all.into_iter().collect()
}

fn hook(raw: &RawNotify, at: &Path, f: &mut Findings) -> Option<Hook> {
    let on = states(raw, &at.key("on"), f);
    let shortest = Duration::from_millis(10);
    let timeout = match raw.timeout {
        None if raw.socket.is_some() => Some(Duration::from_secs(1)),
        None => Some(Duration::from_secs(10)),
        Some(v) => f.take(advert::span(
            v,
            shortest,
            Duration::from_secs(600),
            &at.key("timeout"),
            "timeout",
        )),
    };
    let listener = match (&raw.exec, &raw.socket) {
        (Some(exec), None) => {
            let at = at.key("exec");
            program(exec.command.as_deref(), exec.user.as_deref(), &at, f).map(Listener::Exec)
        }
        // `sun_path` has 108 bytes with its end.
        (None, Some(path)) if path.starts_with('/') && path.len() < 108 && !path.contains('\0') => {
            Some(Listener::Socket(path.clone()))
        }
        (None, Some(path)) => {
            let message = format!("{path:?} cannot be a socket");
            f.refuse(
                Problem::new(&at.key("socket"), message)
                    .help("write an absolute path of at most 107 bytes such as /run/events.sock"),
            );
            None
        }
        (None, None) => {
            f.refuse(Problem::new(at, "nobody is told").help("name one of exec and socket"));
            None
        }
        (Some(_), Some(_)) => {
            f.refuse(
                Problem::new(at, "exec and socket are two listeners").help("give each an item of its own"),
            );
            None
        }
    };
    Some(Hook {
        listener: listener?,
        on: on?,
        timeout: timeout?,
    })
}

fn states(raw: &RawNotify, at: &Path, f: &mut Findings) -> Option<Vec<Told>> {
    let Some(list) = &raw.on else {
        return Some(Vec::new());
    };
    if list.is_empty() {
        f.refuse(Problem::new(at, "on is empty").help("leave it out for all states"));
        return None;
    }
    let before = f.problems.len();
    let mut out = Vec::new();
    for (i, text) in list.iter().enumerate().take(MAX_TRACKED) {
        match Told::parse(text) {
            Some(told) if !out.contains(&told) => out.push(told),
            Some(_) => {}
            None => f.refuse(
                Problem::new(&at.index(i), format!("{text:?} is no state that is told of"))
                    .help(one_of(&["master", "backup", "fault", "stop"])),
            ),
        }
    }
    out.sort();
    (f.problems.len() == before).then_some(out)
}
