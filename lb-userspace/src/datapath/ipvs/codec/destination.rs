//! A real server to attributes and back (`ip_vs_genl_fill_dest`, `ip_vs_genl_parse_dest`).
use super::attributes::Attributes;
use super::service::write_service_key;
use super::stats::{Stats, read_stats};
use super::{DecodeError, EncodeError, Unmodelled, Unread, address_bytes, family_number, family_of_number};
use crate::datapath::ipvs::uapi::{
    CONN_F_DROUTE, CONN_F_FWD_MASK, CONN_F_LOCALNODE, CONN_F_MASQ, CONN_F_TUNNEL, CmdAttr, DestAttr,
    TUNNEL_FLAG_NOCSUM, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP,
};
use lb_common::model::{Family, Forwarding, ServiceKey, TunnelType};
use lb_common::plan::Destination;
use std::net::IpAddr;

/// How many connections a real server has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// In a state that counts as active (TCP: established).
    pub active: u32,
    /// The others.
    pub inactive: u32,
    /// Persistence templates: clients that will come back here.
    pub persistent: u32,
}

/// A real server as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedDestination {
    /// Its configuration.
    pub destination: Destination,
    /// Its connections.
    pub connections: Connections,
    /// Its counters.
    pub stats: Stats,
}

/// A real server that our types cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignDestination {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What we have no word for.
    pub why: Unmodelled,
}

/// A real server as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadDestination {
    /// Ours, or just like ours.
    Modelled(ObservedDestination),
    /// Somebody else's.
    Foreign(ForeignDestination),
}

/// What names a real server of `service`.
pub fn write_destination_key(
    service: &ServiceKey,
    address: IpAddr,
    port: u16,
) -> Result<Attributes, EncodeError> {
    write_service_key(service)?.nest(CmdAttr::Dest, &identity(address, port)?)
}

/// The whole real server, for adding and for editing.
pub fn write_destination(service: &ServiceKey, d: &Destination) -> Result<Attributes, EncodeError> {
    let (method, tunnel_type, tunnel_port) = method_numbers(d.forwarding);
    for (name, value) in [
        ("weight", d.weight),
        ("upper threshold", d.upper_threshold),
        ("lower threshold", d.lower_threshold),
    ] {
        if i32::try_from(value).is_err() {
            return Err(EncodeError::Signed(name, value));
        }
    }
    let nest = identity(d.address, d.port)?
        .put(DestAttr::FwdMethod, method)?
        .put(DestAttr::Weight, d.weight)?
        // Always there, as with ipvsadm: kernels before 5.3 pass over attributes that they do not know.
        .put(DestAttr::TunType, tunnel_type)?
        .put(DestAttr::TunPort, tunnel_port.to_be_bytes())?
        .put(DestAttr::TunFlags, TUNNEL_FLAG_NOCSUM)?
        .put(DestAttr::UThresh, d.upper_threshold)?
        .put(DestAttr::LThresh, d.lower_threshold)?;
    write_service_key(service)?.nest(CmdAttr::Dest, &nest)
}

/// With its own family, which may be another than the service's (TUN only).
fn identity(address: IpAddr, port: u16) -> Result<Attributes, EncodeError> {
    Attributes::new()
        .put(DestAttr::AddrFamily, family_number(Family::of(address)))?
        .put(DestAttr::Addr, address_bytes(address))?
        .put(DestAttr::Port, port.to_be_bytes())
}

fn method_numbers(forwarding: Forwarding) -> (u32, u8, u16) {
    match forwarding {
        Forwarding::DirectRouting => (CONN_F_DROUTE, TUNNEL_IPIP, 0),
        Forwarding::Nat => (CONN_F_MASQ, TUNNEL_IPIP, 0),
        Forwarding::Tunnel { kind, port } => {
            let number = match kind {
                TunnelType::Ipip => TUNNEL_IPIP,
                TunnelType::Gue => TUNNEL_GUE,
                TunnelType::Gre => TUNNEL_GRE,
            };
            (CONN_F_TUNNEL, number, port)
        }
    }
}

/// One message of the dump of a service's real servers. `service` is the service's family, which old kernels mean
/// where they say none.
pub fn read_destination(message: &Attributes, service: Family) -> Result<ReadDestination, DecodeError> {
    let nest = message.required(CmdAttr::Dest)?;
    let family = match nest
        .optional::<_, 2>(DestAttr::AddrFamily)?
        .map(u16::from_ne_bytes)
    {
        None | Some(0) => service,
        Some(number) => family_of_number(number).map_err(|_| DecodeError::Value {
            attribute: "destination AddrFamily".to_owned(),
            value: number.into(),
        })?,
    };
    // Counts, like statistics, are never worth an error.
    let count = |kind| Ok::<_, DecodeError>(nest.optional(kind)?.map_or(0, u32::from_ne_bytes));
    let address = nest.address(DestAttr::Addr, family)?;
    let port = nest.be16(DestAttr::Port)?;
    match read_forwarding(&nest) {
        Ok(forwarding) => Ok(ReadDestination::Modelled(ObservedDestination {
            destination: Destination {
                address,
                port,
                forwarding,
                weight: nest.u32(DestAttr::Weight)?,
                upper_threshold: nest.u32(DestAttr::UThresh)?,
                lower_threshold: nest.u32(DestAttr::LThresh)?,
            },
            connections: Connections {
                active: count(DestAttr::ActiveConns)?,
                inactive: count(DestAttr::InactConns)?,
                persistent: count(DestAttr::PersistConns)?,
            },
            stats: read_stats(&nest, DestAttr::Stats64, DestAttr::Stats)?,
        })),
        Err(Unread::Unmodelled(why)) => Ok(ReadDestination::Foreign(ForeignDestination {
            address,
            port,
            why,
        })),
        Err(Unread::Broken(e)) => Err(e),
    }
}

fn read_forwarding(nest: &Attributes) -> Result<Forwarding, Unread> {
    // The kernel masks it already; one that did not would show NOOUTPUT and INACTIVE, which it adds by itself.
    match nest.u32(DestAttr::FwdMethod)? & CONN_F_FWD_MASK {
        CONN_F_MASQ => Ok(Forwarding::Nat),
        CONN_F_TUNNEL => Ok(read_tunnel(nest)?),
        // LOCALNODE: kernels before 2.6.37 turned a real server that is this host itself into it; later ones keep what
        // was asked (and deliver here all the same). Neither touches the packet.
        CONN_F_DROUTE | CONN_F_LOCALNODE => Ok(Forwarding::DirectRouting),
        other => Err(Unmodelled::Forwarding(other).into()),
    }
}

fn read_tunnel(nest: &Attributes) -> Result<Forwarding, Unread> {
    let [number] = nest.optional::<_, 1>(DestAttr::TunType)?.unwrap_or([TUNNEL_IPIP]);
    let kind = match number {
        TUNNEL_IPIP => TunnelType::Ipip,
        TUNNEL_GUE => TunnelType::Gue,
        TUNNEL_GRE => TunnelType::Gre,
        other => return Err(Unmodelled::TunnelType(other).into()),
    };
    let flags = nest.optional(DestAttr::TunFlags)?.map_or(0, u16::from_ne_bytes);
    if flags != TUNNEL_FLAG_NOCSUM {
        return Err(Unmodelled::TunnelFlags(flags).into());
    }
    let port = nest.optional(DestAttr::TunPort)?.map_or(0, u16::from_be_bytes);
    Ok(Forwarding::Tunnel { kind, port })
}
