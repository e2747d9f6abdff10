//! Whether a frame is sound, by a library that knows nothing of us: every length fits and every checksum is right.
use anyhow::{Context, Result, ensure};
use etherparse::{Icmpv4Slice, Icmpv6Slice, IpSlice, NetSlice, SlicedPacket, TransportSlice};

/// IP in IP, IPv6 in IP.
const TUNNELS: [u8; 2] = [4, 41];

/// Checks a whole frame, and what is in its tunnel.
pub fn sound(frame: &[u8]) -> Result<()> {
    let packet = SlicedPacket::from_ethernet(frame).context("etherparse does not understand it")?;
    let net = packet.net.as_ref().context("no IP")?;
    let mut inside = network(net, packet.transport.as_ref())?;
    while let Some(bytes) = inside {
        let packet = SlicedPacket::from_ip(bytes).context("etherparse does not understand what is inside")?;
        let net = packet.net.as_ref().context("no IP inside")?;
        inside = network(net, packet.transport.as_ref())?;
    }
    Ok(())
}

/// Checks one network header and what it carries; gives the packet that is tunnelled.
fn network<'a>(net: &NetSlice<'a>, transport: Option<&TransportSlice<'a>>) -> Result<Option<&'a [u8]>> {
    if let NetSlice::Ipv4(ip) = net {
        let header = ip.header();
        let right = header.to_header().calc_header_checksum();
        ensure!(
            header.header_checksum() == right,
            "IPv4 checksum {:#06x}, right is {right:#06x}",
            header.header_checksum()
        );
    }
    let ip = match net {
        NetSlice::Ipv4(ip) => IpSlice::Ipv4(ip.clone()),
        NetSlice::Ipv6(ip) => IpSlice::Ipv6(ip.clone()),
        NetSlice::Arp(_) => return Ok(None),
    };
    let payload = ip.payload();
    if TUNNELS.contains(&payload.ip_number.0) {
        return Ok(Some(payload.payload));
    }
    if !payload.fragmented {
        carried(&ip, transport.context("nothing known inside")?)?;
    }
    Ok(None)
}

fn carried(ip: &IpSlice<'_>, transport: &TransportSlice<'_>) -> Result<()> {
    let (name, said, right) = match transport {
        TransportSlice::Tcp(tcp) => (
            "TCP",
            tcp.checksum(),
            match ip {
                IpSlice::Ipv4(ip) => {
                    tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())?
                }
                IpSlice::Ipv6(ip) => {
                    tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())?
                }
            },
        ),
        TransportSlice::Udp(udp) => {
            let (header, payload) = (udp.to_header(), udp.payload());
            let right = match ip {
                IpSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), payload)?,
                IpSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), payload)?,
            };
            ("UDP", udp.checksum(), right)
        }
        TransportSlice::Icmpv4(icmp) => ("ICMP", icmp.checksum(), icmp4(icmp)),
        TransportSlice::Icmpv6(icmp) => {
            let IpSlice::Ipv6(ip) = ip else { return Ok(()) };
            (
                "ICMPv6",
                icmp.checksum(),
                icmp6(icmp, ip.header().source(), ip.header().destination())?,
            )
        }
        _ => return Ok(()),
    };
    ensure!(
        said == right,
        "{name} checksum {said:#06x}, right is {right:#06x}"
    );
    Ok(())
}

fn icmp4(icmp: &Icmpv4Slice<'_>) -> u16 {
    icmp.icmp_type().calc_checksum(icmp.payload())
}

fn icmp6(icmp: &Icmpv6Slice<'_>, src: [u8; 16], dst: [u8; 16]) -> Result<u16> {
    Ok(icmp.icmp_type().calc_checksum(src, dst, icmp.payload())?)
}
