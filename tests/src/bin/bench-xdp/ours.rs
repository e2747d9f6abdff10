//! The product's program, its maps filled as the daemon would: two virtual IPs, three backends of each kind.
use crate::cases::{Case, Counted, port};
use crate::frames::{NODE_MAC, NODE4, VIP4, VIP6};
use crate::objects::{self, Plain};
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{self, Reason, Ring, Side, State, Traffic, flow, global, hash, map, tables};
use lb_tests::xdp::image::{self, Places};
use lb_tests::xdp::names::Names;
use lb_tests::xdp::scene::{Backend, Scene, Service, Vip};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

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
        let (flows, services, reasons) = (take(map::FLOWS)?, take(map::SERVICE_STATS)?, take(map::REASONS)?);
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

    /// Lets it note new flows, or no more than one.
    pub(crate) fn cap(&mut self, capped: bool) -> Result<()> {
        let inserts = if capped { 1 } else { u64::from(u32::MAX) };
        set_state(&mut self.ebpf, inserts)
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
        // Of 65,536 flows two in a hundred meet in a full set of the table.
        let nearly = |count: u64| count <= packets && count >= packets - packets / 100 * 3;
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
    let scene = scene(ifindex)?;
    let mut sides: Array<&mut MapData, Plain<Side>> = array(ebpf, map::SIDES)?;
    sides.set(0, Plain(*image::side(&scene, Places::Usual)?), 0)?;
    let mut rings: Array<&mut MapData, Ring> = array(ebpf, map::RINGS)?;
    for pool in 0..POOLS.len() {
        rings.set(u32::try_from(pool)?, *image::ring(&scene, pool), 0)?;
    }
    set_state(ebpf, scene.inserts)
}

fn set_state(ebpf: &mut Ebpf, inserts: u64) -> Result<()> {
    let mut state: Array<&mut MapData, Plain<State>> = array(ebpf, map::STATE)?;
    let word = State {
        active: 0,
        lease_until: FOR_EVER,
        stamp_shift: STAMP_SHIFT,
        inserts,
    };
    Ok(state.set(0, Plain(word), 0)?)
}

fn array<'a, T: aya::Pod>(ebpf: &'a mut Ebpf, name: &str) -> Result<Array<&'a mut MapData, T>> {
    let found = ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
    found.try_into().with_context(|| format!("map {name}"))
}

/// Both virtual IPs have all ports for TCP, and the direct one for UDP.
fn scene(ifindex: u32) -> Result<Scene> {
    let mut scene = Scene {
        names: Names::default(),
        key: key(),
        lease: true,
        inserts: u64::from(u32::MAX),
        stamp_shift: STAMP_SHIFT,
        vips: vec![vip(VIP4.into(), 0), vip(VIP6.into(), 1)],
        services: Vec::new(),
        pools: Vec::new(),
        settled: BTreeSet::new(),
        backends: BTreeMap::new(),
        members: BTreeMap::new(),
    };
    for (pool, (port, affinity, way)) in POOLS.into_iter().enumerate() {
        let first = 1 + pool * REPLICAS;
        let numbers: Vec<u16> = (first..first + REPLICAS)
            .map(u16::try_from)
            .collect::<Result<_, _>>()?;
        for number in &numbers {
            scene
                .backends
                .insert(*number, backend(way, u8::try_from(*number)?, ifindex));
        }
        scene.settled.insert(format!("{way:?}"));
        scene.pools.push((format!("{way:?}"), numbers));
        let protocols: &[u8] = if port == port::DIRECT { &[TCP, UDP] } else { &[TCP] };
        for (vip, bits) in [(0, 32), (1, 128)] {
            for protocol in protocols {
                scene.services.push(Service {
                    vip,
                    protocol: *protocol,
                    port,
                    pool,
                    affinity: (affinity > 0).then_some((bits, affinity)),
                    stats: u32::try_from(scene.services.len())?,
                });
            }
        }
    }
    Ok(scene)
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
    Vip {
        name: format!("vip{index}"),
        address,
        index,
        vlans: Vec::new(),
        mac: NODE_MAC,
    }
}

fn backend(way: Way, number: u8, ifindex: u32) -> Backend {
    let flags = tables::BACKEND_REACHABLE;
    let tunnel = (way == Way::Tunnel).then(|| (NODE4.into(), Ipv4Addr::new(10, 9, 0, number).into()));
    Backend {
        name: format!("backend{number}"),
        flags: flags
            | if tunnel.is_some() {
                tables::BACKEND_TUNNEL4
            } else {
                0
            },
        member: tables::MEMBER_ALIVE | tables::MEMBER_NEW,
        ifindex: if way == Way::Elsewhere {
            ifindex + 1
        } else {
            ifindex
        },
        mac: [2, 0, 0, 0, 0xbe, number],
        src_mac: NODE_MAC,
        mtu: 1500,
        tunnel,
    }
}
