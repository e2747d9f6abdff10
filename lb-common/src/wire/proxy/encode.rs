//! Addresses to a header.
use super::{Addresses, SIGNATURE, Version};
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
/// AF_INET and AF_INET6, both with STREAM.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a connection. Where one end is IPv4 and the other IPv6, both are written as IPv6.
pub fn encode(version: Version, addresses: &Addresses) -> Vec<u8> {
    let (from, to) = (
        addresses.source.ip().to_canonical(),
        addresses.destination.ip().to_canonical(),
    );
    let ports = (addresses.source.port(), addresses.destination.port());
    match version {
        Version::V1 => text(from, to, ports),
        Version::V2 => binary(from, to, ports),
    }
}

fn text(from: IpAddr, to: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            format!("PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1)
        }
        _ => {
            let (from, to) = (wide(from), wide(to));
            format!("PROXY TCP6 {from} {to} {} {}\r\n", ports.0, ports.1)
        }
    }
    .into_bytes()
}

fn binary(from: IpAddr, to: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    let mut out = Vec::with_capacity(52);
    out.extend_from_slice(SIGNATURE);
    out.push(VERSION_AND_COMMAND);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.push(TCP4);
            out.extend_from_slice(&12u16.to_be_bytes());
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        _ => {
            out.push(TCP6);
            out.extend_from_slice(&36u16.to_be_bytes());
            out.extend_from_slice(&wide(from).octets());
            out.extend_from_slice(&wide(to).octets());
        }
    }
    out.extend_from_slice(&ports.0.to_be_bytes());
    out.extend_from_slice(&ports.1.to_be_bytes());
    out
}

const fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}

impl Addresses {
    /// Both ends.
    pub const fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { source, destination }
    }
}
