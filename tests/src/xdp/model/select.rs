//! Which backend: the flow table, source affinity, the ring.
use super::super::scene::{ALIVE, NEW, Service};
use super::read::{ACK, FIN, Flow, RST, SYN};
use super::{Choice, Fragment, Model, Packet, Protocol};
use lb_common::abi::flow::{self, ESTABLISHED, FRAGMENT_LIFE, PROBATION, STALE};
use lb_common::abi::tables::RING;
use lb_common::abi::{Reason, hash};
use std::net::IpAddr;

/// What a packet is to the flow table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// May begin a flow and is never stored: a SYN.
    Opens,
    /// Neither: TCP with FIN or RST, or an ICMP error.
    Looks,
    /// Of a TCP flow that goes on.
    Goes,
    /// UDP: may begin a flow and is stored.
    Both,
}

fn kind(packet: &Packet<'_>) -> Kind {
    match packet.protocol {
        Protocol::Error => Kind::Looks,
        Protocol::Transport(_) if packet.flow.protocol == 17 => Kind::Both,
        Protocol::Transport(flags) if flags & (SYN | ACK | RST | FIN) == SYN => Kind::Opens,
        Protocol::Transport(flags) if flags & (SYN | RST | FIN) != 0 => Kind::Looks,
        Protocol::Transport(_) => Kind::Goes,
    }
}

impl Model {
    fn is(&self, backend: u32, flag: u32) -> bool {
        let number = u16::try_from(backend).unwrap_or(0);
        self.backend(number).is_some_and(|b| b.flags & flag != 0)
    }

    /// The place of a hash's word.
    fn find(&self, hash: u64) -> Option<(usize, usize)> {
        let set = flow::set_of(hash) as usize;
        let way = self.flows[set].iter().position(|word| flow::is_of(*word, hash))?;
        Some((set, way))
    }

    pub(super) fn of_fragment(&self, packet: &Packet<'_>, fragment: Fragment) -> Result<Choice, Reason> {
        let hash = packet.flow.fragment_hash(&self.scene.key, fragment.id);
        let word = self.fragments[flow::fragment_of(hash) as usize];
        let backend = flow::backend(word);
        let known = flow::is_of(word, hash)
            && flow::age(word, self.now) <= FRAGMENT_LIFE
            && self.is(backend, ALIVE);
        let backend = u16::try_from(backend).unwrap_or(0);
        known
            .then_some(Choice {
                backend,
                new: false,
                remembered: true,
            })
            .ok_or(Reason::FragmentUnknown)
    }

    pub(super) fn select(&mut self, packet: &Packet<'_>, service: &Service) -> Result<Choice, Reason> {
        let (kind, hash) = (kind(packet), packet.flow.hash(&self.scene.key));
        if let Some((set, way)) = self.find(hash) {
            let word = self.flows[set][way];
            let backend = flow::backend(word);
            let stays =
                self.is(backend, ALIVE) && (kind != Kind::Opens || self.is(backend, NEW));
            if stays {
                if kind != Kind::Looks || packet.protocol != Protocol::Error {
                    self.seen(set, way, hash, &packet.flow, service);
                }
                return Ok(Choice {
                    backend: u16::try_from(backend).unwrap_or(0),
                    new: kind == Kind::Opens,
                    remembered: true,
                });
            }
            if self.is(backend, ALIVE) {
                self.flows[set][way] = 0;
            }
        }
        let choice = self.miss(kind, hash, &packet.flow, service)?;
        if matches!(kind, Kind::Goes | Kind::Both) {
            self.insert(hash, PROBATION, choice.backend.into());
            self.tie(&packet.flow, service, choice.backend.into());
        }
        Ok(choice)
    }

    fn miss(&self, kind: Kind, hash: u64, flow: &Flow, service: &Service) -> Result<Choice, Reason> {
        let new = matches!(kind, Kind::Opens | Kind::Both);
        if let Some((backend, _)) = self.tied(flow, service)
            && self.is(backend, ALIVE)
            && (!new || self.is(backend, NEW))
        {
            return Ok(Choice {
                backend: u16::try_from(backend).unwrap_or(0),
                new,
                remembered: true,
            });
        }
        let hash = match service.affinity {
            Some((bits, _)) => flow.client_hash(&self.scene.key, bits),
            None => hash,
        };
        let place = hash::place(hash, u32::try_from(RING).unwrap_or(0));
        match self.scene.ring(service.pool, place) {
            0 => Err(Reason::NoBackend),
            backend => Ok(Choice {
                backend,
                new,
                remembered: false,
            }),
        }
    }

    /// Writes a flow's word again, established and seen now.
    fn seen(&mut self, set: usize, way: usize, hash: u64, flow: &Flow, service: &Service) {
        let old = self.flows[set][way];
        let word = flow::word(hash, self.now, ESTABLISHED, flow::backend(old));
        if word != old {
            self.flows[set][way] = word;
            self.tie(flow, service, flow::backend(word));
        }
    }

    /// Hash of the word that ties a client to a service.
    pub fn affinity_hash(&self, flow: &Flow, service: &Service) -> Option<u64> {
        let (bits, units) = service.affinity?;
        let port = u32::from(u16::from_ne_bytes(flow.dst_port.to_be_bytes())) << 16;
        let vip = match flow.dst {
            IpAddr::V4(_) | IpAddr::V6(_) => u64::from(service.vip),
        };
        let client = flow.client_hash(&self.scene.key, bits);
        (units > 0).then(|| hash::affinity(&self.scene.key, client, vip, port, flow.protocol.into()))
    }

    fn tied(&self, flow: &Flow, service: &Service) -> Option<(u32, u64)> {
        let hash = self.affinity_hash(flow, service)?;
        let (set, way) = self.find(hash)?;
        let (word, units) = (self.flows[set][way], service.affinity?.1);
        (flow::age(word, self.now) <= u64::from(units)).then_some((flow::backend(word), word))
    }

    fn tie(&mut self, flow: &Flow, service: &Service, backend: u32) {
        if let Some(hash) = self.affinity_hash(flow, service) {
            self.insert(hash, ESTABLISHED, backend);
        }
    }

    /// Puts a word into its set: where it is already, or where there is room for it.
    fn insert(&mut self, hash: u64, class: u64, backend: u32) {
        if self.inserted >= self.scene.inserts {
            return;
        }
        self.inserted += 1;
        let now = self.now;
        let set = &mut self.flows[flow::set_of(hash) as usize];
        let oldest = |class: u64, least: u64| {
            let ways = (0..set.len()).filter(|way| flow::class(set[*way]) == class);
            let old = ways.filter(|way| flow::age(set[*way], now) >= least);
            old.rev().max_by_key(|way| flow::age(set[*way], now))
        };
        let own = set.iter().position(|word| flow::is_of(*word, hash));
        let empty = set.iter().position(|word| flow::is_empty(*word));
        let way = own
            .or(empty)
            .or_else(|| oldest(PROBATION, 0))
            .or_else(|| oldest(ESTABLISHED, STALE + 1));
        if let Some(way) = way {
            set[way] = flow::word(hash, now, class, backend);
        }
    }
}
