//! What a veth pair wants before native XDP works across it.
//!
//! A frame that a program sends back through its own veth (`XDP_TX`) or out of another one arrives only if the peer
//! runs a program natively too, and else nobody says a word: not an error, not a counter. So each port of the lab's
//! switch gets a program of two instructions that passes everything. And such a frame has left the kernel's own packet
//! behind, with the note that a checksum is still to be computed: so senders compute theirs at once.
#![expect(
    unsafe_code,
    reason = "bpf(2) and ethtool's ioctl(2) have no safe form, and no library loads bare instructions"
)]

use crate::netns::Netns;
use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Passes everything: `r0 = XDP_PASS; exit`.
pub const PASS: &[u64] = &[insn(0xb7, 0, 0, 0, 2), insn(0x95, 0, 0, 0, 0)];

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 4;
/// `ETHTOOL_STXCSUM` of `linux/ethtool.h`.
const SET_TX_CHECKSUMS: u32 = 0x17;
/// `ETHTOOL_SFLAGS`: all of the flags at once, of which a veth has but the two for VLAN tags.
const SET_FLAGS: u32 = 0x26;
/// `ETHTOOL_SGRO`.
const SET_RECEIVE_OFFLOAD: u32 = 0x2c;

/// One instruction as `linux/bpf.h` has it: operation, registers, offset, constant.
pub const fn insn(code: u8, dst: u8, src: u8, offset: i16, constant: i32) -> u64 {
    let [a, b] = offset.to_le_bytes();
    let [c, d, e, f] = constant.to_le_bytes();
    u64::from_le_bytes([code, src << 4 | dst, a, b, c, d, e, f])
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The part of `union bpf_attr` that makes a link.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// A program on an interface. It goes when this is dropped.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
}

/// Runs these instructions natively on an interface of the namespace.
pub fn attach(netns: &Netns, interface: &str, instructions: &[u64]) -> Result<Attached> {
    let attached = netns.run(|| -> Result<OwnedFd> {
        let index = if_nametoindex(interface)?;
        let program = load(instructions).context("the verifier")?;
        Ok(link(&program, index)?)
    })?;
    let link =
        attached.with_context(|| format!("a native XDP program on {interface} of {}", netns.name()))?;
    Ok(Attached { _link: link })
}

/// Makes the kernel compute the checksums of what it sends through an interface itself, before it is sent.
pub fn checksum_at_once(netns: &Netns, interface: &str) -> Result<()> {
    let set = netns.run(|| ethtool(interface, SET_TX_CHECKSUMS, false))?;
    set.with_context(|| format!("checksums of {interface} of {}", netns.name()))
}

/// Switches generic receive offload: with it a veth takes frames that a program redirected to its peer.
pub fn receive_offload(netns: &Netns, interface: &str, on: bool) -> Result<()> {
    let set = netns.run(|| ethtool(interface, SET_RECEIVE_OFFLOAD, on))?;
    set.with_context(|| format!("receive offload of {interface} of {}", netns.name()))
}

/// Leaves VLAN tags where they are: in the frames that go out and in those that come in. A veth that takes them out
/// gives its peer frames without one, and the tag beside them, where no program sees it.
pub fn leave_vlan_tags(netns: &Netns, interface: &str) -> Result<()> {
    let set = netns.run(|| ethtool(interface, SET_FLAGS, false))?;
    set.with_context(|| format!("VLAN tags of {interface} of {}", netns.name()))
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let attributes = Load {
        kind: BPF_PROG_TYPE_XDP,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        name: *b"cplb_lab\0\0\0\0\0\0\0\0",
        attach_type: BPF_XDP,
        ..Load::default()
    };
    // SAFETY: the pointers in it are of slices and literals that live until the call has returned, with these lengths.
    unsafe { bpf(BPF_PROG_LOAD, &attributes) }
}

fn link(program: &OwnedFd, interface: u32) -> io::Result<OwnedFd> {
    let attributes = Link {
        program: program.as_raw_fd().cast_unsigned(),
        interface,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    // SAFETY: there are no pointers in it.
    unsafe { bpf(BPF_LINK_CREATE, &attributes) }
}

/// A command of bpf(2) that gives a descriptor.
///
/// # Safety
/// Pointers in `attributes` must be good for what the command does with them.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes there; what the pointers in it are is the caller's promise.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands give a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn ethtool(interface: &str, command: u32, on: bool) -> io::Result<()> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut value = Value {
        command,
        data: on.into(),
    };
    // SAFETY: all zero bytes are a valid `ifreq`: it is made of integers and a pointer that may be null.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: the kernel wants a string.
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(interface.bytes())
    {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
    // SAFETY: the request and the value that it points to live until the call has returned.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
