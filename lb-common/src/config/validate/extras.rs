//! What only the native file has: sync groups, connection synchronisation, protocol timeouts.
use super::super::duration::GoDuration;
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::SyncGroup as RawGroup;
use super::{Draft, Instances, at_most, bad_interface, bad_name, is_interface, is_name, number};
use crate::spec::{ConnectionSync, IpvsTimeouts, SyncGroup};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The index of the instance of that name, or a note that there is none.
fn instance_named(name: &str, all: &Instances, at: &Path, f: &mut Findings) -> Option<usize> {
    let found = all.list.iter().position(|(_, i)| i.name == name);
    if found.is_none() && all.complete {
        let names: Vec<&str> = all.list.iter().map(|(_, i)| i.name.as_str()).collect();
        let help = format!("the instances are {}", names.join(", "));
        f.refuse(
            Problem::new(at, format!("there is no instance {name:?}"))
                .help(help)
                .following(),
        );
    }
    found
}

pub(super) fn sync_groups(d: &Draft, all: &Instances, f: &mut Findings) -> Vec<SyncGroup> {
    let mut out: Vec<SyncGroup> = Vec::new();
    if !at_most(
        d.sync_groups.len(),
        super::MAX_INSTANCES,
        &d.base.key("syncGroups"),
        f,
    ) {
        return out;
    }
    for (i, raw) in d.sync_groups.iter().enumerate() {
        let at = d.base.key("syncGroups").index(i);
        let name = group_name(raw, &out, &at, f);
        let members = members(raw, all, &out, &at.key("instances"), f);
        out.push(SyncGroup { name, members });
    }
    out
}

fn group_name(raw: &RawGroup, earlier: &[SyncGroup], at: &Path, f: &mut Findings) -> String {
    let at = at.key("name");
    let name = raw.name.clone().unwrap_or_default();
    if raw.name.is_none() {
        f.refuse(Problem::new(&at, "name must be defined"));
    } else if !is_name(&name) {
        f.refuse(bad_name(&at));
    } else if earlier.iter().any(|g| g.name == name) {
        f.refuse(Problem::new(&at, format!("another group is named {name} too")));
    }
    name
}

fn members(
    raw: &RawGroup,
    all: &Instances,
    earlier: &[SyncGroup],
    at: &Path,
    f: &mut Findings,
) -> Vec<usize> {
    let names = raw.instances.as_deref().unwrap_or_default();
    if names.len() < 2 {
        let message = "a sync group needs at least two instances";
        f.refuse(Problem::new(at, message).help("an instance without company needs no group"));
    }
    let mut out = Vec::new();
    if !at_most(names.len(), super::MAX_INSTANCES, at, f) {
        return out;
    }
    for (n, name) in names.iter().enumerate() {
        let at = at.index(n);
        let Some(index) = instance_named(name, all, &at, f) else {
            continue;
        };
        if out.contains(&index) {
            f.refuse(Problem::new(&at, format!("{name} is in this group twice")));
        } else if let Some(group) = earlier.iter().find(|g| g.members.contains(&index)) {
            let message = format!("{name} is in the group {} already", group.name);
            f.refuse(Problem::new(&at, message).help("an instance can follow one group only"));
        } else {
            out.push(index);
        }
    }
    out
}

pub(super) fn connection_sync(d: &Draft, all: &Instances, f: &mut Findings) -> Option<ConnectionSync> {
    let raw = d.connection_sync.as_ref()?;
    let at = d.base.key("connectionSync");
    if let Some(name) = &raw.interface
        && !is_interface(name)
    {
        f.refuse(bad_interface(&at.key("interface"), name));
    }
    let instance = match &raw.instance {
        Some(name) => instance_named(name, all, &at.key("instance"), f)?,
        None => 0,
    };
    let vrid = all.list.get(instance).map(|(_, i)| i.vrid.get());
    let sync_id = match raw.sync_id {
        Some(n) => f.take(number(n, 0, 255, &at.key("syncID"), "syncID")),
        None => vrid,
    };
    if raw.enabled == Some(false) {
        return None;
    }
    if d.servers.is_empty() {
        f.warn(Problem::new(
            &at,
            "connectionSync has no effect without virtualServers",
        ));
    }
    Some(ConnectionSync {
        interface: raw.interface.clone(),
        sync_id: sync_id?,
        instance,
    })
}

pub(super) fn timeouts(d: &Draft, f: &mut Findings) -> Option<IpvsTimeouts> {
    let raw = d.timeouts.as_ref()?;
    let at = d.base.key("ipvsTimeouts");
    let tcp = seconds(raw.tcp, &at.key("tcp"), f);
    let tcp_fin = seconds(raw.tcp_fin, &at.key("tcpFin"), f);
    let udp = seconds(raw.udp, &at.key("udp"), f);
    let timeouts = IpvsTimeouts {
        tcp: tcp?,
        tcp_fin: tcp_fin?,
        udp: udp?,
    };
    (timeouts != IpvsTimeouts::default()).then_some(timeouts)
}

/// Whole seconds up to 31 days; 0 for what was left out.
fn seconds(value: Option<GoDuration>, at: &Path, f: &mut Findings) -> Option<u32> {
    let Some(value) = value else {
        return Some(0);
    };
    let whole = value
        .positive_or_zero()
        .filter(|d| d.subsec_nanos() == 0 && d.as_secs() <= 2_678_400)
        .and_then(|d| u32::try_from(d.as_secs()).ok());
    if whole.is_none() {
        let message = format!("IPVS counts whole seconds, 1s to 744h. Got: {value}");
        f.refuse(Problem::new(at, message).help("0s leaves it as the kernel has it"));
    }
    whole
}
