//! The far end of a tunnel: takes the outer header off what arrives at a node and hands the rest to its kernel.
//!
//! A kernel does that itself with an `ipip` or `ip6tnl` device; one that was built without them, as many small
//! machines' are, gets it done by two threads, a raw socket for each outer protocol, and a TUN device.
#![expect(
    unsafe_code,
    reason = "making a TUN device is an ioctl that nix has no safe form of"
)]

use crate::topology::Node;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// IPv4 in whatever came before it.
const IPIP: i32 = 4;
/// IPv6 in whatever came before it.
const IPV6: i32 = 41;

/// An open end. It closes when dropped.
#[derive(Debug)]
pub struct Decapsulator {
    stop: Arc<AtomicBool>,
    packets: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    by: &'static str,
}

impl Decapsulator {
    /// Opens the node's end for IPv4 and IPv6 in either.
    pub fn open(node: &Node) -> Result<Self> {
        let (stop, packets) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let kernels = "link add cplb4 type ipip local any remote any\nlink set cplb4 up\n\
                       link add cplb6 type ip6tnl mode any local any remote any\nlink set cplb6 up\n";
        if node.netns().ip(kernels).is_ok() {
            for device in ["cplb4", "cplb6"] {
                node.netns()
                    .sysctl(&format!("ipv4.conf.{device}.rp_filter"), "0")?;
            }
            return Ok(Self {
                stop,
                packets,
                thread: None,
                by: "the kernel's devices",
            });
        }
        let (sockets, tun) = node
            .netns()
            .run(|| -> io::Result<_> { Ok((sockets()?, tun()?)) })??;
        node.netns().ip("link set decap0 mtu 1500 up\n")?;
        node.netns().sysctl("ipv4.conf.decap0.rp_filter", "0")?;
        let (flag, count) = (stop.clone(), packets.clone());
        let thread = thread::spawn(move || {
            // It ends with the lab: an interface that went away is no error here.
            let _ = carry(sockets, tun, &flag, &count);
        });
        Ok(Self {
            stop,
            packets,
            thread: Some(thread),
            by: "a TUN device",
        })
    }

    /// Who does it, for messages.
    pub fn by(&self) -> &'static str {
        self.by
    }

    /// Packets that had their outer header taken off, as far as it was not the kernel that did it.
    pub fn packets(&self) -> Option<u64> {
        self.thread.as_ref().map(|_| self.packets.load(Ordering::Relaxed))
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sockets of every outer and inner family. Those of IPv4 give the outer header along.
fn sockets() -> io::Result<Vec<(Socket, bool)>> {
    let mut sockets = Vec::new();
    for (domain, with_header) in [(Domain::IPV4, true), (Domain::IPV6, false)] {
        for protocol in [IPIP, IPV6] {
            let socket = Socket::new(
                domain,
                Type::RAW.cloexec().nonblocking(),
                Some(Protocol::from(protocol)),
            )?;
            socket.set_recv_buffer_size(4 << 20)?;
            sockets.push((socket, with_header));
        }
    }
    Ok(sockets)
}

fn tun() -> io::Result<File> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zero bytes are a valid `ifreq`: it is made of integers and a pointer that may be null.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"decap0") {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: the request lives until the call has returned; the kernel reads and writes no more than an `ifreq`.
    match unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } {
        0 => Ok(tun),
        _ => Err(io::Error::last_os_error()),
    }
}

fn carry(
    mut sockets: Vec<(Socket, bool)>,
    mut tun: File,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let mut fds: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut fds, PollTimeout::from(50_u8))?;
        for (socket, with_header) in &mut sockets {
            while let Ok(length) = socket.read(&mut buffer) {
                let packet = &buffer[..length];
                let outer = match packet.first() {
                    Some(first) if *with_header => usize::from(first & 0x0f) * 4,
                    _ => 0,
                };
                let inner = packet.get(outer..).context("a packet shorter than its header")?;
                tun.write_all(inner).context("decap0")?;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}
