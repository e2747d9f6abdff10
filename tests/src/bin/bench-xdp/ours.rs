//! The product's program, its maps filled as the daemon would: two virtual IPs, three backends of each kind.
use crate::cases::{Case, Counted, port};
use crate::frames::{NODE_MAC, VIP4, VIP6};
use crate::objects::{self, Plain};
use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{self, Backend, Reason, Ring, Service, Side, State, Traffic, Vip, flow, global, hash, map, tables};
use std::net::IpAddr;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Backends of one pool.
const REPLICAS: usize = 3;
/// A lease that outlives the bench, in jiffies.
const FOR_EVER: u64 = 1 << 62;
/// Units of 4 seconds where a second has 250 jiffies.
const STAMP_SHIFT: u64 = 10;
/// In units of a stamp: 6 minutes, as k0s has it.
const AFFINITY: u32 = 90;

/// Pools, by the way that their backends are reached.
const POOLS: [(u16, u32, Way); 4] = [
    (port::DIRECT, 0, Way::Back),
    (port::TUNNEL, 0, Way::Tunnel),
    (port::AFFINITY, AFFINITY, Way::Back),
    (port::REDIRECT, 0, Way::Elsewhere),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Out of the interface that frames come in by.
    Back,
    /// Out of another one.
    Elsewhere,
    /// The first way, in a tunnel.
    Tunnel,
}

/// The program with maps of its own.
pub(crate) struct Ours {
    ebpf: Ebpf,
    flows: Array<MapData, flow::Set>,
    services: PerCpuArray<MapData, Plain<Traffic>>,
    reasons: PerCpuArray<MapData, u64>,
}

/// What was counted so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    forwarded: u64,
    remembered: u64,
    reasons: Vec<u64>,
}

impl Ours {
    /// Loads `object`. `ifindex` is the interface that frames come in by, `mac` its address.
    pub(crate) fn load(object: &[u8], trace: bool, ifindex: u32) -> Result<Self> {
        let trace = u8::from(trace);
        let mut ebpf = EbpfLoader::new()
            .override_global(global::TRACE, &trace, false)
            .load(object)
            .context("lb")?;
        objects::load(&mut ebpf, abi::XDP_PROGRAM)?;
        fill(&mut ebpf, ifindex)?;
        let mut take = |name| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let (flows, services, reasons) = (
            take(map::FLOWS)?,
            take(map::SERVICE_STATS)?,
            take(map::REASONS)?,
        );
        Ok(Self {
            flows: flows.try_into()?,
            services: services.try_into()?,
            reasons: reasons.try_into()?,
            ebpf,
        })
    }

    /// The program.
    pub(crate) fn program(&self) -> Result<&ProgramFd> {
        Ok(objects::xdp(&self.ebpf, abi::XDP_PROGRAM)?.fd()?)
    }

    /// The same, to attach it.
    pub(crate) fn program_mut(&mut self) -> Result<&mut Xdp> {
        let found = self.ebpf.program_mut(abi::XDP_PROGRAM);
        Ok(found.context("no program")?.try_into()?)
    }

    /// Instructions as the verifier left them, where the kernel says.
    pub(crate) fn instructions(&self) -> Option<u32> {
        let info = objects::xdp(&self.ebpf, abi::XDP_PROGRAM).ok()?.info().ok()?;
        Some(info.size_translated()? / 8)
    }

    /// Empties the flow table.
    pub(crate) fn forget(&mut self) -> Result<()> {
        for set in 0..u32::try_from(flow::SETS)? {
            self.flows.set(set, [0; flow::WAYS], 0)?;
        }
        Ok(())
    }

    /// What was counted so far, on all processors.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        for place in 0..u32::try_from(2 * POOLS.len() + 2)? {
            for Plain(traffic) in self.services.get(&place, 0)?.iter() {
                counts.forwarded += traffic.packets;
                counts.remembered += traffic.remembered;
            }
        }
        for place in 0..abi::REASONS {
            counts.reasons.push(self.reasons.get(&place, 0)?.iter().sum());
        }
        Ok(counts)
    }

    /// Whether `packets` of this row were counted as it says: otherwise the figure is of something else.
    pub(crate) fn check(&self, case: &Case, before: &Counts, packets: u64) -> Result<()> {
        let after = self.counts()?;
        let forwarded = after.forwarded - before.forwarded;
        let remembered = after.remembered - before.remembered;
        let not = |reason: Reason| {
            let place = reason as usize;
            let count = |c: &Counts| c.reasons.get(place).copied().unwrap_or_default();
            count(&after) - count(before)
        };
        // Of flows that are chosen at random some meet in a full set; one in a hundred would show in the figure.
        let nearly = |count: u64| count <= packets && count >= packets - packets / 100;
        let right = match case.counted {
            Counted::Remembered => forwarded == packets && nearly(remembered),
            Counted::Ring => forwarded == packets && remembered <= packets / 100,
            Counted::Forwarded => forwarded == packets,
            Counted::Not(reason) => not(reason) == packets,
        };
        ensure!(
            right,
            "{}: of {packets} packets {forwarded} were forwarded, {remembered} of them remembered; not forwarded: {}",
            case.name,
            reasons(before, &after)
        );
        Ok(())
    }
}

fn reasons(before: &Counts, after: &Counts) -> String {
    let counts = after.reasons.iter().zip(&before.reasons).map(|(a, b)| a - b);
    let named = Reason::ALL.iter().zip(counts).filter(|(_, count)| *count > 0);
    let list: Vec<String> = named.map(|(r, count)| format!("{} {count}", r.name())).collect();
    list.join(", ")
}

fn fill(ebpf: &mut Ebpf, ifindex: u32) -> Result<()> {
    let side = side(ifindex)?;
    let mut sides: Array<&mut MapData, Plain<Side>> = array(ebpf, map::SIDES)?;
    sides.set(0, Plain(*side), 0)?;
    let mut rings: Array<&mut MapData, Ring> = array(ebpf, map::RINGS)?;
    for pool in 0..POOLS.len() {
        let mut ring = [0; tables::RING_ROOM];
        for (place, backend) in ring[..tables::RING].iter_mut().enumerate() {
            *backend = u16::try_from(1 + pool * REPLICAS + place % REPLICAS)?;
        }
        rings.set(u32::try_from(pool)?, ring, 0)?;
    }
    let mut state: Array<&mut MapData, Plain<State>> = array(ebpf, map::STATE)?;
    let word = State {
        active: 0,
        lease_until: FOR_EVER,
        stamp_shift: STAMP_SHIFT,
        inserts: u64::from(u32::MAX),
    };
    Ok(state.set(0, Plain(word), 0)?)
}

fn array<'a, T: aya::Pod>(ebpf: &'a mut Ebpf, name: &str) -> Result<Array<&'a mut MapData, T>> {
    let found = ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
    found.try_into().with_context(|| format!("map {name}"))
}

fn side(ifindex: u32) -> Result<Box<Side>> {
    let mut side = Box::new(Side {
        vip_multiplier: 0,
        service_multiplier: 0,
        vip_count: 2,
        vip_probes: 1,
        service_probes: 1,
        pad: 0,
        key: key(),
        vips: [Vip::default(); tables::VIPS],
        services: [Service::default(); tables::SERVICES],
        backends: [Backend::default(); tables::BACKENDS],
    });
    let vips = [vip(VIP4.into(), 0), vip(VIP6.into(), 1)];
    side.vip_multiplier = multiplier(&vips, tables::VIPS, |v, m| tables::vip_place(v.hi, v.lo, m))?;
    for vip in vips {
        side.vips[tables::vip_place(vip.hi, vip.lo, side.vip_multiplier) as usize] = vip;
    }
    let services = services()?;
    side.service_multiplier = multiplier(&services, tables::SERVICES, |s, m| {
        tables::service_place(s.key, m)
    })?;
    for service in services {
        side.services[tables::service_place(service.key, side.service_multiplier) as usize] = service;
    }
    for (pool, (.., way)) in POOLS.iter().enumerate() {
        for replica in 0..REPLICAS {
            let number = 1 + pool * REPLICAS + replica;
            side.backends[number] = backend(*way, u8::try_from(number)?, ifindex);
        }
    }
    Ok(side)
}

/// Any key will do; the words differ.
fn key() -> hash::Key {
    let mut key = hash::Key::default();
    let mut word = 0x9e37_79b9_u32;
    for place in &mut key.words {
        word = word.wrapping_mul(0x85eb_ca6b).rotate_left(13) ^ 0xc2b2_ae35;
        *place = word;
    }
    key.last = 0xd6e8_feb8_6659_fd93;
    key
}

fn vip(address: IpAddr, index: u16) -> Vip {
    let (hi, lo) = match address {
        IpAddr::V4(a) => (tables::IPV4, u64::from(u32::from_ne_bytes(a.octets()))),
        IpAddr::V6(a) => {
            let [a, b, c, d, e, f, g, h, rest @ ..] = a.octets();
            (
                u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
                u64::from_ne_bytes(rest),
            )
        }
    };
    Vip {
        hi,
        lo,
        index,
        mac: NODE_MAC,
        ..Vip::default()
    }
}

/// Both virtual IPs have all ports for TCP, and the direct one for UDP.
fn services() -> Result<Vec<Service>> {
    let mut list = Vec::new();
    for vip in 0..2 {
        for (pool, (port, affinity, _)) in POOLS.iter().enumerate() {
            let protocols: &[u8] = if *port == port::DIRECT { &[TCP, UDP] } else { &[TCP] };
            for protocol in protocols {
                list.push(Service {
                    key: tables::service_key(vip, *protocol, port.to_be()),
                    pool: u32::try_from(pool)?,
                    flags: if *affinity > 0 { tables::SERVICE_AFFINITY } else { 0 },
                    affinity: *affinity,
                    stats: u32::try_from(list.len())?,
                    mask_hi: u64::MAX,
                    mask_lo: u64::MAX,
                });
            }
        }
    }
    Ok(list)
}

fn backend(way: Way, number: u8, ifindex: u32) -> Backend {
    let flags = tables::BACKEND_ALIVE | tables::BACKEND_NEW | tables::BACKEND_REACHABLE;
    let plain = Backend {
        flags,
        ifindex: if way == Way::Elsewhere { ifindex + 1 } else { ifindex },
        mac: [2, 0, 0, 0, 0xbe, number],
        src_mac: NODE_MAC,
        mtu: 1500,
        ..Backend::default()
    };
    if way != Way::Tunnel {
        return plain;
    }
    let (from, to) = ([10, 0, 0, 1], [10, 9, 0, number]);
    Backend {
        flags: flags | tables::BACKEND_TUNNEL4,
        outer_src: [u32::from_ne_bytes(from), 0, 0, 0],
        outer_dst: [u32::from_ne_bytes(to), 0, 0, 0],
        ..plain
    }
}

/// A multiplier with which each has a place of its own.
fn multiplier<T>(list: &[T], places: usize, place: impl Fn(&T, u64) -> u32) -> Result<u64> {
    let mut candidate = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..10_000 {
        let mut taken = vec![false; places];
        let free = |taken: &mut Vec<bool>, at: u32| !std::mem::replace(&mut taken[at as usize], true);
        if list.iter().all(|item| free(&mut taken, place(item, candidate))) {
            return Ok(candidate);
        }
        candidate = candidate.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(2) | 1;
    }
    bail!("no multiplier gives {} entries places of their own in {places}", list.len())
}
