//! The eBPF object that `cargo xtask build-ebpf` made: the verifier takes it, it attaches natively, and it forwards.
#![expect(
    unsafe_code,
    reason = "aya wants a promise that the shared layouts are plain bytes"
)]
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, Pod, TestRun, TestRunOptions};
use lb_common::abi::control::{MAGIC, SET_ACTIVE, SET_LEASE, SET_UNITS, stamp_shift};
use lb_common::abi::tables::{
    BACKEND_REACHABLE, IPV4, MEMBER_ALIVE, MEMBER_NEW, service_key, service_place, vip_place,
};
use lb_common::abi::{
    Backend, CONTROL_PROGRAM, Command, GUARD_TTL, Reason, Report, Ring, Service, Side, Traffic, Vip,
    XDP_PROGRAM, XDP_PROGRAM_FRAGS, map,
};
use lb_tests::skip;
use lb_tests::topology::Lab;
use std::env;
use std::fs;
use std::path::PathBuf;

/// `cargo xtask test` names it; without it the usual place below the workspace is tried.
fn object() -> PathBuf {
    let usual = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/lb.o");
    env::var_os("CPLB_EBPF").map_or_else(usual, PathBuf::from)
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bytes<T>(T);

// SAFETY: the layouts of `lb_common::abi` are integers without gaps.
unsafe impl<T: Copy + 'static> Pod for Bytes<T> {}

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// The program with one virtual server: 10.0.0.100:6443 with one backend.
struct Loaded {
    ebpf: Ebpf,
}

const CLIENT: [u8; 4] = [192, 0, 2, 7];
const VIP: [u8; 4] = [10, 0, 0, 100];
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const BACKEND: [u8; 6] = [2, 0, 0, 0, 0, 3];
const PORT: u16 = 6443;

impl Loaded {
    /// One of the two: a program array is for programs that take frames of several buffers, or for those that do not.
    fn new(bytes: &[u8], program: &str) -> Result<Self> {
        let mut ebpf = Ebpf::load(bytes).context("loading the object")?;
        for name in [program, CONTROL_PROGRAM] {
            xdp(&mut ebpf, name)?
                .load()
                .with_context(|| format!("the verifier, of {name}"))?;
        }
        Ok(Self { ebpf })
    }

    fn put<T: Copy + 'static>(&mut self, name: &str, index: u32, value: T) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))?;
        let mut array: Array<&mut MapData, Bytes<T>> = map.try_into()?;
        Ok(array.set(index, Bytes(value), 0)?)
    }

    /// Sums over the processors.
    fn sum<T: Copy + Default + 'static>(&self, name: &str, index: u32, of: impl Fn(T) -> u64) -> Result<u64> {
        let map = self.ebpf.map(name).with_context(|| format!("no map {name}"))?;
        let array: PerCpuArray<&MapData, Bytes<T>> = map.try_into()?;
        Ok(array.get(&index, 0)?.iter().map(|value| of(value.0)).sum())
    }

    fn reason(&self, reason: Reason) -> Result<u64> {
        self.sum(map::REASONS, reason as u32, |count: u64| count)
    }

    fn command(&mut self, command: Command) -> Result<Report> {
        let words = [
            command.magic,
            command.set,
            command.active,
            command.lease_jiffies,
            command.stamp_shift,
            command.inserts,
            0,
            0,
            0,
        ];
        let packet: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (verdict, packet) = self.run(CONTROL_PROGRAM, &packet)?;
        ensure!(verdict == XDP_PASS, "the control program did not understand");
        let word = |at: usize| u64::from_ne_bytes(packet[at * 8..][..8].try_into().expect("8 bytes"));
        Ok(Report {
            jiffies: word(6),
            nanoseconds: word(7),
            done: word(8),
        })
    }

    fn run(&mut self, name: &str, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; 2048];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let result = xdp(&mut self.ebpf, name)?.test_run(options)?;
        let length = result.data_size_out as usize;
        out.truncate(length);
        Ok((result.return_value, out))
    }

    /// Writes the side that is not in force, switches to it, and takes a lease.
    fn direct(&mut self) -> Result<()> {
        self.put(map::SIDES, 1, *side())?;
        let ring: Ring = [1; lb_common::abi::tables::RING_ROOM];
        let pools = lb_common::abi::tables::POOLS as u32;
        self.put(map::RINGS, pools, ring)?;
        let report = self.command(Command {
            magic: MAGIC,
            set: SET_ACTIVE | SET_LEASE | SET_UNITS,
            active: 1,
            lease_jiffies: 1 << 20,
            stamp_shift: stamp_shift(1000),
            inserts: 1 << 20,
            ..Command::default()
        })?;
        ensure!(
            report.done == 1 && report.jiffies > 0 && report.nanoseconds > 0,
            "{report:?}"
        );
        Ok(())
    }
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn side() -> Box<Side> {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut side = Box::new(Side {
        vip_multiplier: MULTIPLIER,
        service_multiplier: MULTIPLIER,
        vip_count: 1,
        vip_probes: 1,
        service_probes: 1,
        zero: 0,
        key: lb_common::abi::hash::Key::default(),
        vips: [Vip::default(); lb_common::abi::tables::VIPS],
        services: [Service::default(); lb_common::abi::tables::SERVICES],
        backends: [Backend::default(); lb_common::abi::tables::BACKENDS],
        members: [[0; lb_common::abi::tables::BACKENDS]; lb_common::abi::tables::POOLS],
    });
    side.members[0][1] = MEMBER_ALIVE | MEMBER_NEW;
    let lo = u64::from(u32::from_ne_bytes(VIP));
    side.vips[vip_place(IPV4, lo, MULTIPLIER) as usize] = Vip {
        hi: IPV4,
        lo,
        index: 1,
        mac: OURS,
        ..Vip::default()
    };
    let key = service_key(1, 6, PORT.to_be());
    side.services[service_place(key, MULTIPLIER) as usize] = Service {
        key,
        stats: 5,
        ..Service::default()
    };
    side.backends[1] = Backend {
        flags: BACKEND_REACHABLE,
        // BPF_PROG_TEST_RUN: frames come from the loopback.
        ifindex: 1,
        mac: BACKEND,
        src_mac: OURS,
        ..Backend::default()
    };
    side
}

fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A TCP segment without data, in a frame of 64 bytes.
fn segment(dst: [u8; 4], ttl: u8, flags: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(OURS);
    frame.extend(ROUTER);
    frame.extend([0x08, 0x00]);
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, ttl, 6, 0, 0];
    ip.extend(CLIENT);
    ip.extend(dst);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(40000_u16.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(64, 0);
    frame
}

const SYN: u8 = 2;
const ACK: u8 = 16;

#[test]
fn the_verifier_takes_the_program_and_a_veth_runs_it_natively() -> Result<()> {
    let Ok(bytes) = fs::read(object()) else {
        skip!("no eBPF object at {}: cargo xtask build-ebpf", object().display());
    };
    let lab = Lab::builder().node("a", &["10.0.0.1/24"]).build()?;
    lab.node("a")?.netns().run(|| -> Result<()> {
        for name in [XDP_PROGRAM, XDP_PROGRAM_FRAGS] {
            let mut ebpf = Ebpf::load(&bytes).context("loading the object")?;
            let program = xdp(&mut ebpf, name)?;
            program.load().context("the verifier")?;
            program.attach("eth0", XdpMode::Driver).context("attaching")?;
        }
        Ok(())
    })?
}

#[test]
fn a_segment_for_the_virtual_ip_leaves_for_the_backend_with_the_guards_ttl() -> Result<()> {
    let Ok(bytes) = fs::read(object()) else {
        skip!("no eBPF object at {}: cargo xtask build-ebpf", object().display());
    };
    for name in [XDP_PROGRAM, XDP_PROGRAM_FRAGS] {
        let mut lb = Loaded::new(&bytes, name)?;
        lb.direct()?;
        let came = segment(VIP, 64, SYN);
        let (verdict, left) = lb.run(name, &came)?;
        ensure!(verdict == XDP_TX, "{name}: verdict {verdict}");
        let mut expected = segment(VIP, GUARD_TTL, SYN);
        expected[..6].copy_from_slice(&BACKEND);
        expected[6..12].copy_from_slice(&OURS);
        ensure!(left == expected, "{name}\n{left:02x?}\n{expected:02x?}");
        // It came back: it is this node's.
        let (verdict, left) = lb.run(name, &segment(VIP, GUARD_TTL, ACK))?;
        ensure!(verdict == XDP_PASS && left == segment(VIP, GUARD_TTL, ACK));
        let other = segment([10, 0, 0, 1], 64, SYN);
        let (verdict, left) = lb.run(name, &other)?;
        ensure!(verdict == XDP_PASS && left == other);
        let packets = |t: Traffic| t.packets;
        ensure!(lb.sum(map::SERVICE_STATS, 5, packets)? == 1);
        ensure!(lb.sum(map::BACKEND_STATS, 1, packets)? == 1);
        ensure!(lb.sum(map::SERVICE_STATS, 5, |t: Traffic| t.bytes)? == 64);
        ensure!(lb.sum(map::SERVICE_STATS, 5, |t: Traffic| t.new_flows)? == 1);
        ensure!(lb.reason(Reason::Guarded)? == 1 && lb.reason(Reason::NotVip)? == 1);
    }
    Ok(())
}

#[test]
fn without_a_lease_and_without_a_side_everything_is_passed() -> Result<()> {
    let Ok(bytes) = fs::read(object()) else {
        skip!("no eBPF object at {}: cargo xtask build-ebpf", object().display());
    };
    let mut lb = Loaded::new(&bytes, XDP_PROGRAM)?;
    let frame = segment(VIP, 64, SYN);
    ensure!(
        lb.run(XDP_PROGRAM, &frame)?.0 == XDP_PASS,
        "nothing is directed yet"
    );
    ensure!(lb.reason(Reason::NotVip)? == 1);
    lb.direct()?;
    ensure!(lb.run(XDP_PROGRAM, &frame)?.0 == XDP_TX);
    lb.command(Command {
        magic: MAGIC,
        set: SET_LEASE,
        ..Command::default()
    })?;
    ensure!(lb.run(XDP_PROGRAM, &frame)?.0 == XDP_PASS, "the lease is over");
    ensure!(lb.reason(Reason::LeaseEnded)? == 1);
    ensure!(
        lb.command(Command {
            magic: 1,
            ..Command::default()
        })
        .is_err(),
        "no command"
    );

    Ok(())
}
