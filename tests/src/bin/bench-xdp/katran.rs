//! Katran's balancer, given as a built object: its maps filled for the same packets.
//!
//! Names and layouts of the maps are those of the object's own type information (`bpftool btf dump file`); nothing of
//! Katran is in this project. The local flavour, built with `-DLOCAL_DELIVERY_OPTIMIZATION`, hands packets of a virtual
//! IP that is marked local on without a tunnel: the nearest thing it has to direct return. Other packets it puts into a
//! tunnel. `-DMAX_CONN_RATE=0xffffffff` lifts its cap on new connections, without which 125,000 a second are inserted
//! and the others are not.
use crate::cases::{Case, port};
use crate::frames::{VIP4, VIP6};
use crate::objects;
use anyhow::{Context, Error, Result, ensure};
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData};
use aya::programs::ProgramFd;
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_LRU_HASH;
use std::net::IpAddr;

const PROGRAM: &str = "balancer_ingress";
const TCP: u8 = 6;
const UDP: u8 = 17;
const REPLICAS: u32 = 3;
/// Places of a virtual IP in its ring.
const RING: u32 = 65537;
/// Flows that each processor remembers.
const FLOWS: u32 = 1 << 20;
/// Sizes of a flow's key and of what is remembered of it.
const FLOW: (u32, u32) = (40, 16);

/// Virtual IPs by their flags: clients keep their backend; delivered here.
const NO_SOURCE_PORT: u32 = 1;
const LOCAL_VIP: u32 = 1 << 5;
/// A backend is this node.
const LOCAL_REAL: u8 = 2;

/// A loaded balancer.
pub(crate) struct Katran {
    ebpf: Ebpf,
}

impl Katran {
    /// Loads the object and configures it.
    pub(crate) fn load(object: &[u8]) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(object).context("the object of Katran")?;
        let mut katran = Self {
            ebpf: {
                objects::load(&mut ebpf, PROGRAM)?;
                ebpf
            },
        };
        katran.flow_tables()?;
        katran.backends()?;
        let local = LOCAL_VIP;
        let vips: [(IpAddr, u16, u8, u32); 6] = [
            (VIP4.into(), port::DIRECT, TCP, local),
            (VIP6.into(), port::DIRECT, TCP, local),
            (VIP4.into(), port::DIRECT, UDP, local),
            (VIP4.into(), port::AFFINITY, TCP, local | NO_SOURCE_PORT),
            (VIP4.into(), port::TUNNEL, TCP, 0),
            (VIP6.into(), port::TUNNEL, TCP, 0),
        ];
        for (number, (address, port, protocol, flags)) in (0..).zip(vips) {
            katran.virtual_ip(number, address, port, protocol, flags)?;
        }
        // The router's MAC address.
        let mut control: Array<_, [u8; 8]> = katran.array("ctl_array")?;
        control.set(0, [2, 0, 0, 0, 0, 1, 0, 0], 0)?;
        Ok(katran)
    }

    /// The program.
    pub(crate) fn program(&self) -> Result<&ProgramFd> {
        Ok(objects::xdp(&self.ebpf, PROGRAM)?.fd()?)
    }

    /// The same, to attach it.
    pub(crate) fn program_mut(&mut self) -> Result<&mut aya::programs::Xdp> {
        Ok(self.ebpf.program_mut(PROGRAM).context("no program")?.try_into()?)
    }

    /// Packets of flows that it did not know so far.
    pub(crate) fn misses(&self) -> Result<u64> {
        const VIPS: u32 = 512;
        let stats = self.ebpf.map("stats").context("no map stats")?;
        let stats: aya::maps::PerCpuArray<_, [u64; 2]> = stats.try_into()?;
        Ok(stats
            .get(&(VIPS + 1), 0)?
            .iter()
            .map(|[syn, other]| syn + other)
            .sum())
    }

    /// Whether this row measured what it says.
    pub(crate) fn check(&self, case: &Case, before: u64, packets: u64) -> Result<()> {
        let misses = self.misses()? - before;
        ensure!(
            !case.known || misses <= packets / 100,
            "Katran did not know {misses} of {packets} packets of {}",
            case.name
        );
        Ok(())
    }

    fn array<T: aya::Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, T>> {
        let found = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))?;
        found.try_into().with_context(|| format!("map {name}"))
    }

    /// A table for each processor; without one a table of 1,000 flows is shared by all.
    fn flow_tables(&mut self) -> Result<()> {
        let found = self.ebpf.map_mut("lru_mapping").context("no map lru_mapping")?;
        let mut tables: ArrayOfMaps<_, MapData> = found.try_into()?;
        let processors = nr_cpus().map_err(|(path, error)| Error::new(error).context(path))?;
        for cpu in 0..u32::try_from(processors)? {
            let shape = aya_obj::Map::new_from_params(BPF_MAP_TYPE_LRU_HASH as u32, FLOW.0, FLOW.1, FLOWS, 0);
            let table = MapData::create(shape, "katran_flows", None)?;
            tables.set(cpu, &table, 0)?;
        }
        Ok(())
    }

    /// From number 1 on: local ones, then ones that a tunnel leads to.
    fn backends(&mut self) -> Result<()> {
        let mut reals: Array<_, [u8; 20]> = self.array("reals")?;
        for number in 1..=2 * REPLICAS {
            let mut real = [0; 20];
            real[..4].copy_from_slice(&[10, 9, 0, u8::try_from(number)?]);
            real[16] = if number <= REPLICAS { LOCAL_REAL } else { 0 };
            reals.set(number, real, 0)?;
        }
        Ok(())
    }

    fn virtual_ip(
        &mut self,
        number: u32,
        address: IpAddr,
        port: u16,
        protocol: u8,
        flags: u32,
    ) -> Result<()> {
        let mut key = [0; 20];
        match address {
            IpAddr::V4(a) => key[..4].copy_from_slice(&a.octets()),
            IpAddr::V6(a) => key[..16].copy_from_slice(&a.octets()),
        }
        key[16..18].copy_from_slice(&port.to_be_bytes());
        key[18] = protocol;
        let found = self.ebpf.map_mut("vip_map").context("no map vip_map")?;
        let mut vips: HashMap<_, [u8; 20], [u32; 2]> = found.try_into()?;
        vips.insert(key, [flags, number], 0)?;
        let mut rings: Array<_, u32> = self.array("ch_rings")?;
        let first = if flags & LOCAL_VIP == 0 { 1 + REPLICAS } else { 1 };
        for place in 0..RING {
            rings.set(number * RING + place, first + place % REPLICAS, 0)?;
        }
        Ok(())
    }
}
