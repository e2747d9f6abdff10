//! What comes in: packets, interfaces; and what the host lets each instance do.
use super::super::conflict;
use super::super::limiter::Key;
use super::super::member::Phase;
use super::super::pool::{PacketKey, VrrpKey};
use super::super::{InterfaceRef, say};
use super::{DRAIN, DriverError, Engine};
use crate::sys::rawsock::{Datagram, Received};
use lb_common::spec::{Instance, Transport};
use lb_common::time::Instant;
use lb_common::vrrp::FaultReason;
use lb_common::wire::vrrp::peek_vrid;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl Engine {
    /// Reads everything that has arrived.
    pub(super) fn drain(&mut self, now: Instant) -> Result<(), DriverError> {
        // Reset it whatever it says: the commands themselves are in the channel.
        let _ = self.wake.read();
        if self.monitor.drain(DRAIN)? {
            self.host_changed = true;
        }
        for key in self.pool.vrrp_keys() {
            self.drain_vrrp(now, key);
        }
        for key in self.pool.packet_keys() {
            self.drain_packet(now, key);
        }
        Ok(())
    }

    fn drain_vrrp(&mut self, now: Instant, key: VrrpKey) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for n in 0..=DRAIN {
            if n == DRAIN {
                self.cut_short = true;
                break;
            }
            let Some(socket) = self.pool.vrrp_mut(key) else {
                break;
            };
            match socket.receive(&mut buffer) {
                Ok(Received::Empty) => break,
                Ok(Received::Malformed) => {}
                Ok(Received::Packet(d)) => {
                    // Who is meant is asked before anything is checked: a packet that no instance here waits for is
                    // nobody's error.
                    let vrid = peek_vrid(d.payload).map_or(0, |v| v.get());
                    if let Some(i) = self.meant(key, vrid, d.source) {
                        self.packet(now, i, &d);
                    }
                }
                // A socket that goes on saying so would keep the thread from ever sleeping: it is opened anew.
                Err(error) => {
                    tracing::debug!(%error, "a VRRP socket reported an error");
                    self.pool.discard(key);
                    self.host_changed = true;
                    self.cut_short = true;
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// The member that a packet is for: the only one of that VRID, or the one that has the sender for a peer.
    fn meant(&self, key: VrrpKey, vrid: u8, source: IpAddr) -> Option<usize> {
        let members = self.routes.get(&(key, vrid))?;
        let has = |i: &&usize| {
            self.members
                .get(**i)
                .is_some_and(|m| peers(&m.spec).contains(&source))
        };
        members.iter().find(has).or_else(|| members.first()).copied()
    }

    fn packet(&mut self, now: Instant, i: usize, d: &Datagram<'_>) {
        let Some(member) = self.members.get_mut(i) else {
            return;
        };
        if member.phase != Phase::Running {
            return;
        }
        let key = Key {
            instance: member.id,
            kind: "notes",
            source: Some(d.source),
        };
        match member.packet(now, &mut self.router, d) {
            Ok(notes) => {
                if let Some((advert, notes)) = notes
                    && let Some(suppressed) = self.limiter.admit(key, now)
                {
                    say::notes(&member.spec, &advert, &notes, suppressed);
                }
            }
            Err(reject) => {
                let key = Key {
                    kind: reject.kind(),
                    ..key
                };
                if let Some(suppressed) = self.limiter.admit(key, now) {
                    say::rejected(&member.spec, &reject, suppressed);
                }
            }
        }
    }

    fn drain_packet(&mut self, now: Instant, key: PacketKey) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for n in 0..=DRAIN {
            if n == DRAIN {
                self.cut_short = true;
                break;
            }
            let Some(socket) = self.pool.packet(key) else {
                break;
            };
            match socket.receive(&mut buffer) {
                Ok(Some(frame)) => {
                    if let Some(claim) = conflict::parse(key.family, frame) {
                        self.claimed_elsewhere(now, key, claim);
                    }
                }
                Ok(None) => break,
                // The interface went down, which the monitor says better.
                Err(_) => {
                    self.cut_short = true;
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Somebody says that an address is his.
    fn claimed_elsewhere(&mut self, now: Instant, key: PacketKey, claim: conflict::Claim) {
        // A second card of this host on the same segment answers for the first one's addresses, unless told not to.
        if self.monitor.table().links().any(|l| l.mac == Some(claim.mac)) {
            return;
        }
        for m in &mut self.members {
            let ours =
                m.packet_key() == Some(key) && m.spec.virtual_ips.iter().any(|p| p.addr() == claim.address);
            let before = m.watch.found();
            if !ours || !m.watch.heard(now, claim) {
                continue;
            }
            if before != m.watch.found() {
                self.publisher.touch();
            }
            let key = Key {
                instance: m.id,
                kind: "conflict",
                source: Some(claim.address),
            };
            if let Some(suppressed) = self.limiter.admit(key, now) {
                say::conflict(&m.spec, claim, suppressed);
            }
        }
    }

    /// Resolves every instance again, opens what it needs, and tells the machines what is in their way.
    pub(super) fn look_at_host(&mut self, now: Instant) {
        self.host_changed = false;
        self.sweep = true;
        self.publisher.touch();
        self.vips = self.all_vips();
        self.monitor.ignore(self.others_than_owners());
        for m in &mut self.members {
            if m.resolve(now, &mut self.router, self.monitor.table(), &self.vips) {
                // Another interface is another network: what was known about its Active router is not about this one.
                m.set_fault(now, &mut self.router, Some(FaultReason::NoInterface));
            }
        }
        self.open_sockets(now);
        for m in &mut self.members {
            let fault = m.own_fault();
            if m.set_fault(now, &mut self.router, fault) {
                say::fault(&m.spec, fault);
            }
        }
    }

    fn all_vips(&self) -> BTreeSet<IpAddr> {
        let all = self.members.iter().flat_map(|m| m.spec.virtual_ips.iter());
        all.map(|p| p.addr()).collect()
    }

    /// The VIPs that can be nobody's source: an owner's may be its own.
    fn others_than_owners(&self) -> BTreeSet<IpAddr> {
        let owners = self.members.iter().filter(|m| m.spec.priority.is_owner());
        let own: BTreeSet<IpAddr> = owners
            .flat_map(|m| m.spec.virtual_ips.iter().map(|p| p.addr()))
            .collect();
        self.vips.difference(&own).copied().collect()
    }

    fn open_sockets(&mut self, now: Instant) {
        self.routes.clear();
        // Those that got a route, with their peers: a second router of one VRID is one whose peers are others.
        let mut taken_peers: BTreeMap<usize, Vec<IpAddr>> = BTreeMap::new();
        for (i, m) in self.members.iter_mut().enumerate() {
            m.retry_socket(now);
            if m.own_fault().is_some() {
                continue;
            }
            let (Some(vrrp), Some(packet)) = (m.vrrp_key(), m.packet_key()) else {
                continue;
            };
            let name = |r: &Option<InterfaceRef>| r.as_ref().map_or_else(String::new, |i| i.name.clone());
            let via = name(&m.resolution.via);
            let route = (vrrp, m.spec.vrid.get());
            let taken = self.routes.get(&route).is_some_and(|others| {
                let mine = peers(&m.spec);
                mine.is_empty()
                    || others.iter().any(|o| {
                        taken_peers
                            .get(o)
                            .is_none_or(|p| p.is_empty() || mine.iter().any(|a| p.contains(a)))
                    })
            });
            if taken {
                let wait = m.socket_failed(now);
                say::duplicate_vrid(&m.spec, &via, wait);
                continue;
            }
            // A holder that cannot announce is none: without the second the addresses stay where the switches saw them.
            let opened = self.pool.need_vrrp(vrrp, &via);
            let own = name(&m.resolution.interface);
            if let Err(error) = opened.and_then(|()| self.pool.need_packet(packet, &own)) {
                let wait = m.socket_failed(now);
                say::socket(&m.spec, &error, wait);
                continue;
            }
            self.routes.entry(route).or_default().push(i);
            taken_peers.insert(i, peers(&m.spec).to_vec());
        }
    }

    /// Closes what nobody needs; after the actions, since a router that has just failed still says priority 0.
    pub(super) fn sweep(&mut self) {
        let mut vrrp: BTreeMap<VrrpKey, BTreeSet<u8>> = BTreeMap::new();
        for (key, vrid) in self.routes.keys() {
            vrrp.entry(*key).or_default().insert(*vrid);
        }
        let mut packet: BTreeMap<PacketKey, Vec<IpAddr>> = BTreeMap::new();
        for i in self.routes.values().flatten() {
            if let Some((key, m)) = self.members.get(*i).and_then(|m| Some((m.packet_key()?, m))) {
                let vips = m.spec.virtual_ips.iter().map(|p| p.addr());
                packet.entry(key).or_default().extend(vips);
            }
        }
        self.pool.keep_vrrp(vrrp);
        self.pool.keep_packet(packet);
    }
}

fn peers(spec: &Instance) -> &[IpAddr] {
    match &spec.transport {
        Transport::Multicast => &[],
        Transport::Unicast { peers, .. } => peers,
    }
}
