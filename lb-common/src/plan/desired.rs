//! What the kernel should hold on this node, given who holds what.
use super::{
    Address, Backend, Bound, Carrier, DaemonRole, Destination, Forwarder, GuardSpec, LEASE, Lifetime, Place,
    Service, SyncDaemon, Sysctl, carrier, xdp_method,
};
use crate::health::{HealthView, select};
use crate::model::{Family, Forwarding, IpPrefix, MacAddr, Scheduler, ServiceKey};
use crate::spec::{DatapathKind, IpvsTimeouts, Spec, VirtualServer};
use crate::xdp::seed;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

/// One instance as the election has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The instance's name.
    pub name: String,
    /// Its interface's index and name, when there is one.
    pub interface: Option<(u32, String)>,
    /// What moves.
    pub virtual_ips: Vec<IpPrefix>,
    /// Whether this node is to hold it.
    pub holds: bool,
}

/// What is true of this node at the moment, besides the specification.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who holds what, as the election has it.
    pub roles: &'a [Role],
    /// Which real servers answer.
    pub health: &'a HealthView,
    /// MAC addresses of the other directors.
    pub peers: &'a BTreeSet<MacAddr>,
    /// Whether the kernel has IPVS. What no datapath of this node carries is left out ([`super::carried`] says why).
    pub ipvs: bool,
    /// Whether this node can run the XDP program.
    pub xdp: bool,
}

/// Everything that the kernel should hold for us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Whether the link for direct routing is wanted.
    pub local_link: bool,
    /// Addresses.
    pub addresses: BTreeMap<Address, Lifetime>,
    /// Virtual servers with their real servers, these sorted by address and port.
    pub services: BTreeMap<ServiceKey, (Service, Vec<Destination>)>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<Sysctl, Bound>,
    /// Labels of IPv6 VIPs.
    pub labels: BTreeMap<Ipv6Addr, u32>,
    /// The synchronisation daemon.
    pub sync: Option<SyncDaemon>,
    /// IPVS's timeouts.
    pub timeouts: Option<IpvsTimeouts>,
    /// What the XDP program forwards; `None`: it is not wanted here.
    pub forwarding: Option<super::Forwarding>,
    /// What the userspace proxy serves; `None`: it is not wanted here.
    pub proxy: Option<super::Proxying>,
    /// The director guard.
    pub guard: Option<GuardSpec>,
}

/// What this node's kernel should hold.
pub fn desired(spec: &Spec, cx: &Context<'_>) -> Desired {
    let mut want = Desired::default();
    // Also of a file that is no longer enabled: what is held then is being left, make before break.
    for role in cx.roles {
        hold(&mut want, role);
    }
    if !spec.enabled {
        return want;
    }
    let mut ipvs = false;
    for vs in &spec.virtual_servers {
        // Another node may carry it where this one cannot, and sends its packets here.
        if vs.datapath != DatapathKind::Proxy {
            serve(&mut want, vs, spec, cx);
        }
        match carrier(vs, cx.facilities()) {
            Some(Carrier::Ipvs) => {
                ipvs = true;
                direct(&mut want, vs, cx);
            }
            Some(Carrier::Xdp) => forward(&mut want, vs, spec, cx),
            // Whoever holds: see `proxying`.
            Some(Carrier::Proxy) | None => {}
        }
    }
    want.proxy = super::proxying::proxying(spec, cx);
    labels(&mut want, spec);
    if ipvs {
        want.sync = sync(spec, cx);
        want.timeouts = spec.timeouts;
    }
    want
}

/// The holder's addresses, on a lease.
fn hold(want: &mut Desired, role: &Role) {
    let Some((index, interface)) = role.interface.as_ref().filter(|_| role.holds) else {
        return;
    };
    if role.virtual_ips.iter().any(|v| v.family() == Family::Ipv4) {
        // Else the kernel takes a subnet's other addresses away with its first one (`inet_del_ifa`).
        want.sysctls.insert(
            Sysctl::ipv4_conf(interface, "promote_secondaries"),
            Bound::AtLeast(1),
        );
    }
    for vip in &role.virtual_ips {
        want.addresses.insert(
            Address {
                place: Place::Interface(*index),
                address: *vip,
            },
            Lifetime::Lease(LEASE),
        );
    }
}

/// What every node of a direct-routed virtual server needs to take its packets: the VIP on a link that nobody asks for
/// by ARP, and an interface that does not answer for it either (k0s #4700).
fn serve(want: &mut Desired, vs: &VirtualServer, spec: &Spec, cx: &Context<'_>) {
    if !vs.forwarding.needs_vip_on_real_server() {
        want.sysctls
            .insert(Sysctl::forwarding(Family::of(vs.key.address)), Bound::AtLeast(1));
        return;
    }
    want.local_link = true;
    let role = role_of(vs, spec, cx);
    if Family::of(vs.key.address) == Family::Ipv4 {
        // Until it is known which interface is to be silent about it, no link has it: it would be answered for.
        let Some((_, interface)) = role.and_then(|r| r.interface.as_ref()) else {
            return;
        };
        want.sysctls
            .insert(Sysctl::ipv4_conf(interface, "arp_ignore"), Bound::AtLeast(1));
        want.sysctls
            .insert(Sysctl::ipv4_conf(interface, "arp_announce"), Bound::AtLeast(2));
    }
    want.addresses.insert(
        Address {
            place: Place::Local,
            address: IpPrefix::host(vs.key.address),
        },
        Lifetime::Forever,
    );
}

/// The role of its instance.
fn role_of<'a>(vs: &VirtualServer, spec: &Spec, cx: &Context<'a>) -> Option<&'a Role> {
    let name = &spec.instances.get(vs.instance)?.name;
    cx.roles.iter().find(|r| &r.name == name)
}

/// The interface on which this node holds `address`, if it does.
fn held_on(cx: &Context<'_>, address: IpAddr) -> Option<u32> {
    let holder = |r: &&Role| r.holds && r.virtual_ips.iter().any(|v| v.addr() == address);
    let interfaces = cx
        .roles
        .iter()
        .filter(holder)
        .filter_map(|r| r.interface.as_ref());
    interfaces.map(|(index, _)| *index).next()
}

/// The virtual server, on its holder only, and the guard on every node.
fn direct(want: &mut Desired, vs: &VirtualServer, cx: &Context<'_>) {
    if vs.forwarding.needs_vip_on_real_server() {
        let guard = want.guard.get_or_insert_default();
        guard.vips.insert(vs.key.address);
        guard.peers.clone_from(cx.peers);
        guard.tunnels |= matches!(vs.forwarding, Forwarding::Tunnel { .. });
    }
    want.sysctls
        .insert(Sysctl::ipvs("expire_nodest_conn"), Bound::Exactly(1));
    want.sysctls
        .insert(Sysctl::ipvs("expire_quiescent_template"), Bound::Exactly(1));
    if vs.scheduler == Scheduler::MaglevHash {
        // A connection of the holder before us starts here in the middle: without this it is no TCP to IPVS.
        want.sysctls.insert(Sysctl::ipvs("sloppy_tcp"), Bound::Exactly(1));
    }
    if held_on(cx, vs.key.address).is_none() {
        return;
    }
    let service = Service {
        key: vs.key,
        scheduler: vs.scheduler,
        flags: vs.flags,
        persistence: vs.persistence,
    };
    want.services
        .insert(vs.key, (service, destinations(vs, cx.health)));
}

/// The XDP program on every node, and the virtual server in its tables on the holder.
fn forward(want: &mut Desired, vs: &VirtualServer, spec: &Spec, cx: &Context<'_>) {
    let forwarding = want.forwarding.get_or_insert_with(|| super::Forwarding {
        attach: spec.xdp.attach.clone(),
        interfaces: BTreeSet::new(),
        vips: BTreeMap::new(),
        services: BTreeMap::new(),
        key: seed::key(spec),
    });
    if let Some((index, _)) = role_of(vs, spec, cx).and_then(|r| r.interface.as_ref()) {
        forwarding.interfaces.insert(*index);
    }
    let (Some(index), Some(forwarder)) = (held_on(cx, vs.key.address), forwarder(vs, cx.health)) else {
        return;
    };
    forwarding.vips.insert(vs.key.address, index);
    forwarding.services.insert(vs.key, forwarder);
}

/// A virtual server as the XDP program has it; `None` where it cannot.
pub(crate) fn forwarder(vs: &VirtualServer, health: &HealthView) -> Option<Forwarder> {
    let selection = select(vs, health);
    let mut backends: Vec<Backend> = (selection.candidates.iter())
        .map(|c| Backend {
            address: c.server.address,
            weight: c.weight,
            up: c.alive,
        })
        .collect();
    backends.sort_unstable();
    Some(Forwarder {
        key: vs.key,
        method: xdp_method(vs.forwarding).ok()?,
        affinity: vs.persistence,
        backends,
    })
}

/// Who gets connections by [`select`], as the kernel takes it. One that is not ready has the weight 0: it keeps what it
/// has. For the schedulers that hash and then refuse a client whose server has that weight, it has to go.
fn destinations(vs: &VirtualServer, health: &HealthView) -> Vec<Destination> {
    let refuses = vs.scheduler.hashes() && !vs.flags.fallback;
    let selection = select(vs, health);
    let mut list: Vec<Destination> = (selection.candidates.into_iter())
        .filter(|c| c.alive && (c.weight > 0 || c.server.weight == 0 || !refuses))
        .map(|c| Destination {
            address: c.server.address,
            port: c.server.port,
            forwarding: vs.forwarding,
            weight: c.weight,
            upper_threshold: c.server.upper_threshold,
            lower_threshold: c.server.lower_threshold,
        })
        .collect();
    list.sort_by_key(|d| (d.address, d.port));
    list
}

fn labels(want: &mut Desired, spec: &Spec) {
    for instance in &spec.instances {
        for vip in &instance.virtual_ips {
            if let IpAddr::V6(a) = vip.addr() {
                want.labels.insert(a, instance.address_label);
            }
        }
    }
}

/// One role at a time: a kernel that both sends and receives would stop directing (`vs.backup_only`) or hear itself.
fn sync(spec: &Spec, cx: &Context<'_>) -> Option<SyncDaemon> {
    let sync = spec.connection_sync.as_ref()?;
    let name = &spec.instances.get(sync.instance)?.name;
    let role = cx.roles.iter().find(|r| &r.name == name)?;
    let interface = sync
        .interface
        .clone()
        .or_else(|| role.interface.as_ref().map(|(_, n)| n.clone()))?;
    let role = if role.holds {
        DaemonRole::Master
    } else {
        DaemonRole::Backup
    };
    Some(SyncDaemon {
        role,
        interface,
        sync_id: sync.sync_id,
    })
}
