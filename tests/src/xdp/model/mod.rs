//! What should become of a packet: the rules said once more, slowly and in the open, as the judge of the program.
//!
//! It shares the hash and the flow table's words with the program, since those are the contract, and nothing else: it
//! reads frames by slices, keeps the scene in lists, and computes every checksum anew.
mod read;
mod select;
mod send;

use super::scene::{Scene, Service};
use lb_common::abi::flow::{self, FRAGS, SETS, WAYS};
use lb_common::abi::{Reason, reason};
pub use read::{Flow, Fragment, Packet, Protocol};

/// What an XDP program may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// `XDP_DROP`
    Drop = 1,
    /// `XDP_PASS`
    Pass = 2,
    /// `XDP_TX`
    Tx = 3,
    /// `XDP_REDIRECT`
    Redirect = 4,
}

/// Where a packet is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It went to no backend.
    Reason(Reason),
    /// It went to a backend.
    Traffic {
        /// Place in `SERVICE_STATS`.
        service: u32,
        /// Number of the backend.
        backend: u16,
        /// It began a flow.
        new: bool,
        /// Its backend came from memory.
        remembered: bool,
    },
}

/// What becomes of a packet. Its bytes, where they change, are in [`Model::out`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The program's answer.
    pub verdict: Verdict,
    /// Where it is counted.
    pub counted: Counted,
    /// Whether the frame is another one now.
    pub changed: bool,
}

/// A director in slow motion.
pub struct Model {
    /// What it was told.
    pub scene: Scene,
    /// Its flow table.
    pub flows: Vec<[u64; WAYS]>,
    /// Its table of fragmented packets.
    pub fragments: Vec<u64>,
    /// New words made in this part of a unit.
    pub inserted: u64,
    /// The time as a stamp.
    pub now: u64,
    /// The last frame that was changed.
    pub out: Vec<u8>,
}

/// How a packet got its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    backend: u16,
    new: bool,
    remembered: bool,
}

impl Model {
    /// One that remembers nothing.
    pub fn new(scene: Scene) -> Self {
        Self {
            scene,
            flows: vec![[0; WAYS]; SETS],
            fragments: vec![0; FRAGS],
            inserted: 0,
            now: 0,
            out: Vec::new(),
        }
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.flows.fill([0; WAYS]);
        self.fragments.fill(0);
        self.inserted = 0;
    }

    /// What becomes of a frame.
    pub fn judge(&mut self, frame: &[u8]) -> Outcome {
        self.way(frame).unwrap_or_else(|reason| Outcome {
            verdict: match reason.verdict() {
                reason::Verdict::Pass => Verdict::Pass,
                reason::Verdict::Drop => Verdict::Drop,
                reason::Verdict::Answer => Verdict::Tx,
            },
            counted: Counted::Reason(reason),
            changed: reason.verdict() == reason::Verdict::Answer,
        })
    }

    fn way(&mut self, frame: &[u8]) -> Result<Outcome, Reason> {
        let packet = read::packet(&self.scene, frame)?;
        let (service, choice) = match packet.fragment {
            Some(fragment) if fragment.later => self.recall(&packet, fragment)?,
            fragment => {
                let service = self.service(&packet);
                let Some(service) = service else {
                    self.keep(&packet, fragment, 0, 0);
                    return Err(match packet.protocol {
                        Protocol::Transport(_) => Reason::NotService,
                        Protocol::Error => Reason::IcmpOther,
                    });
                };
                let choice = self.select(&packet, &service)?;
                self.keep(&packet, fragment, service.stats, choice.backend);
                (service.stats, choice)
            }
        };
        let backend = &self.scene.backends[&choice.backend];
        let verdict = send::send(frame, &packet, backend, &mut self.out)?;
        Ok(Outcome {
            verdict,
            counted: Counted::Traffic {
                service,
                backend: choice.backend,
                new: choice.new,
                remembered: choice.remembered,
            },
            changed: verdict != Verdict::Pass,
        })
    }

    /// The service that a packet is for.
    fn service(&self, packet: &Packet<'_>) -> Option<Service> {
        let of_port = |port: u16| {
            let mut all = self.scene.services.iter();
            all.find(|s| (s.vip, s.protocol, s.port) == (packet.vip, packet.flow.protocol, port))
        };
        of_port(packet.flow.dst_port).or_else(|| of_port(0)).cloned()
    }

    /// Remembers where a first fragment went. To nobody, if it was passed: so are the others then.
    fn keep(&mut self, packet: &Packet<'_>, fragment: Option<Fragment>, stats: u32, backend: u16) {
        if let Some(fragment) = fragment {
            let hash = packet
                .flow
                .fragment_hash(&self.scene.key, fragment.id, fragment.protocol);
            let word = flow::fragment_word(hash, self.now, stats, backend.into());
            self.fragments[flow::fragment_of(hash) as usize] = word;
        }
    }

    /// Where the first fragment went.
    fn recall(&self, packet: &Packet<'_>, fragment: Fragment) -> Result<(u32, Choice), Reason> {
        let hash = packet
            .flow
            .fragment_hash(&self.scene.key, fragment.id, fragment.protocol);
        let word = self.fragments[flow::fragment_of(hash) as usize];
        if !flow::is_fragment_of(word, hash, self.now) {
            return Err(Reason::FragmentUnknown);
        }
        match u16::try_from(flow::backend(word)).unwrap_or(0) {
            0 => Err(Reason::NotService),
            backend => Ok((
                flow::fragment_stats(word),
                Choice {
                    backend,
                    new: false,
                    remembered: true,
                },
            )),
        }
    }
}
