//! Health checks, tracking and notification as the native file has them.
use super::super::raw::{HealthCheck, Notify, NotifyExec, Status, Track, TrackExec};
use super::some;
use crate::health::{self, Command, Identity, Probe, Start, Trust};
use crate::spec::{Hook, Listener, Tracked};
use crate::vrrp::notify::Told;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub(super) fn check(c: &health::HealthCheck) -> HealthCheck {
    let mut raw = HealthCheck {
        kind: Some(c.kind().name().into()),
        interval: Some(c.interval.into()),
        down_interval: Some(c.down_interval.into()),
        fast_interval: Some(c.fast_interval.into()),
        timeout: Some(c.timeout.into()),
        rise: Some(c.rise.into()),
        fall: Some(c.fall.into()),
        warm_up: Some(c.warm_up.into()),
        initial_state: c.asks().then(|| start(c.start).into()),
        port: c.port.map(Into::into),
        source_address: c.source.map(|a| a.to_string()),
        mark: c.mark.map(Into::into),
        ..HealthCheck::default()
    };
    match &c.probe {
        Probe::Tcp | Probe::Icmp | Probe::None => {}
        Probe::Tls(t) => tls(&mut raw, t),
        Probe::Http(h) => http(&mut raw, h),
        Probe::Https(both) => {
            tls(&mut raw, &both.0);
            http(&mut raw, &both.1);
        }
        Probe::Exec(c) => (raw.command, raw.user) = program(c),
        Probe::Udp(u) => {
            raw.payload = Some(String::from_utf8_lossy(&u.payload).into_owned());
            raw.require_reply = Some(u.require_reply);
        }
    }
    raw
}

const fn start(s: Start) -> &'static str {
    match s {
        Start::Undecided => "undecided",
        Start::Up => "up",
        Start::Down => "down",
    }
}

fn tls(raw: &mut HealthCheck, t: &health::TlsProbe) {
    match &t.trust {
        Trust::Anybody => {}
        Trust::Authority(file) => raw.ca_file = Some(file.clone()),
        Trust::Fingerprints(all) => raw.fingerprints = Some(all.iter().map(ToString::to_string).collect()),
    }
    raw.server_name.clone_from(&t.server_name);
    if let Some(Identity { certificate, key }) = &t.identity {
        raw.certificate_file = Some(certificate.clone());
        raw.key_file = Some(key.clone());
    }
}

fn http(raw: &mut HealthCheck, h: &health::HttpProbe) {
    raw.path = Some(h.path.clone());
    raw.host.clone_from(&h.host);
    raw.token_file.clone_from(&h.token);
    raw.expected_status = some(h.expected.iter().map(|r| {
        if r.first == r.last {
            Status::Number(r.first.into())
        } else {
            Status::Range(r.to_string())
        }
    }));
}

fn program(c: &Command) -> (Option<Vec<String>>, Option<String>) {
    (Some(c.command.clone()), c.user.clone())
}

pub(super) fn track(t: &crate::spec::Track) -> Track {
    let mut raw = Track {
        weight: Some(t.weight.into()),
        ..Track::default()
    };
    match &t.what {
        Tracked::Interface(name) => raw.interface = Some(name.clone()),
        Tracked::Exec(exec) => {
            let (command, user) = program(&exec.run);
            raw.exec = Some(TrackExec {
                command,
                user,
                interval: Some(exec.interval.into()),
                timeout: Some(exec.timeout.into()),
                rise: Some(exec.rise.into()),
                fall: Some(exec.fall.into()),
            });
        }
        Tracked::VirtualServers(servers) => {
            raw.virtual_servers = Some(true);
            raw.rise = Some(servers.rise.into());
            raw.fall = Some(servers.fall.into());
        }
    }
    raw
}

pub(super) fn notify(h: &Hook) -> Notify {
    let mut raw = Notify {
        on: some(h.on.iter().copied().map(Told::name).map(Into::into)),
        timeout: Some(h.timeout.into()),
        ..Notify::default()
    };
    match &h.listener {
        Listener::Exec(c) => {
            let (command, user) = program(c);
            raw.exec = Some(NotifyExec { command, user });
        }
        Listener::Socket(path) => raw.socket = Some(path.clone()),
    }
    raw
}
