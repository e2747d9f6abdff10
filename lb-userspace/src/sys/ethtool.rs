//! What a driver says of itself (`SIOCETHTOOL`).
#![expect(unsafe_code, reason = "ioctl(2) has no safe form")]

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::ffi::c_char;
use std::os::fd::AsRawFd;

/// `ETHTOOL_GDRVINFO`
const GET_DRIVER: u32 = 0x3;
/// `ETHTOOL_GFLAGS`
const GET_FLAGS: u32 = 0x25;
/// `ETH_FLAG_RXVLAN`
const RX_VLAN: u32 = 1 << 8;

/// Whether the device takes VLAN tags out of frames that arrive, so that no program sees them
/// (`ethtool -k`: `rx-vlan-offload`). A device that does not say does not.
pub fn strips_vlan_tags(interface: &str) -> nix::Result<bool> {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value {
        command: GET_FLAGS,
        data: 0,
    };
    match ask(interface, &mut value) {
        Ok(()) => Ok(value.data & RX_VLAN != 0),
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The driver's name: `veth`, `i40e`, `virtio_net`.
pub fn driver(interface: &str) -> nix::Result<String> {
    /// `struct ethtool_drvinfo`
    #[repr(C)]
    struct Info {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    let mut info = Info {
        command: GET_DRIVER,
        driver: [0; 32],
        rest: [0; 160],
    };
    ask(interface, &mut info)?;
    let name = info.driver.split(|b| *b == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn ask<T>(interface: &str, question: &mut T) -> nix::Result<()> {
    /// The part of `struct ifreq` that this request uses, at its full size.
    #[repr(C)]
    struct Request<T> {
        name: [c_char; libc::IFNAMSIZ],
        data: *mut T,
        rest: [u64; 2],
    }
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut request = Request {
        name,
        data: question,
        rest: [0; 2],
    };
    // SAFETY: the kernel reads and writes an `ifreq`, no larger than `Request`, and of `data` as many bytes as the
    // command's structure has, which is what `T` lays out; both outlive the call.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    Errno::result(r).map(drop)
}

/// `SIOCETHTOOL`
const SIOCETHTOOL: libc::Ioctl = 0x8946;
