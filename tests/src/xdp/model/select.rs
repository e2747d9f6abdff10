//! Which backend: the flow table, source affinity, the ring.
use super::super::scene::Service;
use super::read::{ACK, FIN, Flow, RST, SYN};
use super::{Choice, Model, Packet, Protocol};
use lb_common::abi::flow::{self, ESTABLISHED, PROBATION, STALE};
use lb_common::abi::tables::{MEMBER_ALIVE, MEMBER_NEW, RING};
use lb_common::abi::{Reason, hash};

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
    /// Whether a backend takes packets of a service; if `new`, those that begin a flow.
    fn takes(&self, service: &Service, backend: u16, new: bool) -> bool {
        let wanted = if new {
            MEMBER_ALIVE | MEMBER_NEW
        } else {
            MEMBER_ALIVE
        };
        self.scene.member(service.pool, backend) & wanted == wanted
    }

    /// The place of a hash's word.
    fn find(&self, hash: u64) -> Option<(usize, usize)> {
        let set = flow::set_of(hash) as usize;
        let way = self.flows[set].iter().position(|word| flow::is_of(*word, hash))?;
        Some((set, way))
    }

    pub(super) fn select(&mut self, packet: &Packet<'_>, service: &Service) -> Result<Choice, Reason> {
        let (kind, hash) = (kind(packet), packet.flow.hash(&self.scene.key));
        // A SYN looks for nothing where it cannot find anything else.
        let looks = kind != Kind::Opens || service.affinity.is_some() || !self.scene.is_settled(service.pool);
        let known = if looks { self.find(hash) } else { None };
        if let Some((set, way)) = known {
            let backend = backend_of(self.flows[set][way]);
            if self.takes(service, backend, kind == Kind::Opens) {
                if packet.protocol != Protocol::Error {
                    self.seen(set, way, hash, &packet.flow, service);
                }
                return Ok(Choice {
                    backend,
                    new: kind == Kind::Opens,
                    remembered: true,
                });
            }
            if kind == Kind::Opens {
                self.flows[set][way] = flow::FORGOTTEN;
            }
        }
        let choice = self.miss(kind, hash, &packet.flow, service)?;
        if matches!(kind, Kind::Goes | Kind::Both) && self.inserted < self.scene.inserts {
            self.inserted += 1;
            self.insert(hash, PROBATION, choice.backend);
            if let Some(client) = self.affinity_hash(&packet.flow, service) {
                let class = self
                    .find(client)
                    .map(|(set, way)| flow::class(self.flows[set][way]));
                self.insert(client, class.unwrap_or(PROBATION), choice.backend);
            }
        }
        Ok(choice)
    }

    fn miss(&self, kind: Kind, hash: u64, flow: &Flow, service: &Service) -> Result<Choice, Reason> {
        let new = matches!(kind, Kind::Opens | Kind::Both);
        let tied = self.tied(flow, service);
        if let Some(backend) = tied.filter(|backend| self.takes(service, *backend, new)) {
            return Ok(Choice {
                backend,
                new,
                remembered: false,
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

    /// Writes a flow's word again, established and seen now; and its client's, unless a newer flow moved it.
    fn seen(&mut self, set: usize, way: usize, hash: u64, flow: &Flow, service: &Service) {
        let old = self.flows[set][way];
        let backend = backend_of(old);
        let word = flow::word(hash, self.now, ESTABLISHED, backend.into());
        if word == old {
            return;
        }
        self.flows[set][way] = word;
        let Some(client) = self.affinity_hash(flow, service) else {
            return;
        };
        let tied = self
            .find(client)
            .map(|(set, way)| backend_of(self.flows[set][way]));
        if tied.is_none_or(|tied| tied == backend) {
            self.insert(client, ESTABLISHED, backend);
        }
    }

    /// Hash of the word that ties a client to a service.
    pub fn affinity_hash(&self, flow: &Flow, service: &Service) -> Option<u64> {
        let (bits, units) = service.affinity?;
        let port = u32::from(u16::from_ne_bytes(service.port.to_be_bytes()));
        let (vip, protocol) = (u64::from(service.vip), u32::from(service.protocol));
        let client = flow.client_hash(&self.scene.key, bits);
        (units > 0).then(|| hash::affinity(&self.scene.key, client, vip, port, protocol))
    }

    /// The backend that a client is tied to.
    fn tied(&self, flow: &Flow, service: &Service) -> Option<u16> {
        let (set, way) = self.find(self.affinity_hash(flow, service)?)?;
        let (word, units) = (self.flows[set][way], service.affinity?.1);
        (flow::age(word, self.now) <= u64::from(units)).then(|| backend_of(word))
    }

    /// Puts a word into its set: where it is already, or where there is room for it.
    ///
    /// Which of several words that are worth the same makes room is nobody's business. The order here is the program's,
    /// so that what the two remember can be compared.
    fn insert(&mut self, hash: u64, class: u64, backend: u16) {
        let now = self.now;
        let set = &mut self.flows[flow::set_of(hash) as usize];
        let turn = (hash >> 16) as usize % set.len();
        let worth = |word: u64| match flow::class(word) {
            _ if flow::is_empty(word) => Some((2, 0)),
            ESTABLISHED if flow::age(word, now) <= STALE => None,
            ESTABLISHED => Some((0, flow::age(word, now))),
            _ => Some((1, flow::age(word, now))),
        };
        let own = set.iter().position(|word| flow::is_of(*word, hash));
        let room = (0..set.len()).filter_map(|way| Some((worth(set[way])?, way ^ turn)));
        let first = flow::first_of(hash);
        let there = set[first];
        let way = match (own, flow::class(there)) {
            (Some(own), _) => Some(own),
            (None, ESTABLISHED) => room.max().map(|(_, way)| way ^ turn),
            (None, _) => {
                let lower = there >> flow::TAG_SHIFT < (hash | flow::USED) >> flow::TAG_SHIFT;
                (flow::is_empty(there) || lower || flow::age(there, now) > 0).then_some(first)
            }
        };
        if let Some(way) = way {
            set[way] = flow::word(hash, now, class, backend.into());
        }
    }
}

fn backend_of(word: u64) -> u16 {
    u16::try_from(flow::backend(word)).unwrap_or(0)
}
