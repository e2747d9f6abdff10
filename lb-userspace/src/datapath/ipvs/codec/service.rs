//! A virtual server to attributes and back (`ip_vs_genl_fill_service`, `ip_vs_genl_parse_service`).
use super::attributes::Attributes;
use super::stats::{Stats, read_stats};
use super::{
    DecodeError, EncodeError, Unmodelled, Unread, address_bytes, family_number, family_of_number,
    protocol_of_number, whole_seconds,
};
use crate::datapath::ipvs::uapi::{
    CmdAttr, SVC_F_ONEPACKET, SVC_F_PERSISTENT, SVC_F_SCHED1, SVC_F_SCHED2, SVC_F_SCHED3, SvcAttr,
};
use lb_common::model::{Family, Persistence, Scheduler, SchedulerFlags, ServiceKey};
use lb_common::plan::Service;
use std::time::Duration;

/// The most that the kernel can multiply by its ticks a second without losing bits (`svc->timeout = u->timeout * HZ`),
/// and what `ipvsadm` allows: 31 days.
const PERSISTENCE_MAX: u32 = 31 * 24 * 3600;

/// A service as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadService {
    /// Ours, or just like ours.
    Modelled(Service, Stats),
    /// Somebody else's.
    Foreign(ForeignService),
}

/// A service that our types cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignService {
    /// What names it; `None` where a firewall mark does, or something unknown.
    pub key: Option<ServiceKey>,
    /// What we have no word for.
    pub why: Unmodelled,
}

/// What names a service, which is all that most commands need.
pub fn write_service_key(key: &ServiceKey) -> Result<Attributes, EncodeError> {
    Attributes::new().nest(CmdAttr::Service, &identity(key)?)
}

/// The whole service, for adding and for editing.
pub fn write_service(service: &Service) -> Result<Attributes, EncodeError> {
    let family = Family::of(service.key.address);
    let timeout = match service.persistence {
        Some(p) => whole_seconds(p.timeout, 1, PERSISTENCE_MAX)?,
        None => 0,
    };
    let nest = identity(&service.key)?
        .put(SvcAttr::SchedName, service.scheduler.name())?
        .put(SvcAttr::Flags, flag_bytes(service))?
        .put(SvcAttr::Timeout, timeout)?
        .put(SvcAttr::Netmask, netmask_bytes(service.persistence, family)?)?;
    Attributes::new().nest(CmdAttr::Service, &nest)
}

fn identity(key: &ServiceKey) -> Result<Attributes, EncodeError> {
    Attributes::new()
        .put(SvcAttr::Af, family_number(Family::of(key.address)))?
        .put(SvcAttr::Protocol, u16::from(key.protocol.number()))?
        .put(SvcAttr::Addr, address_bytes(key.address))?
        .put(SvcAttr::Port, key.port.to_be_bytes())
}

/// `struct ip_vs_flags`. The mask is all ones, as `ipvsadm` has it: what we write is the whole truth, and a bit that
/// somebody else set goes. The kernel keeps its own bit (`IP_VS_SVC_F_HASHED`) in spite of it.
fn flag_bytes(service: &Service) -> [u8; 8] {
    let SchedulerFlags {
        fallback,
        port,
        sched3,
        one_packet,
    } = service.flags;
    let flags = [
        (service.persistence.is_some(), SVC_F_PERSISTENT),
        (one_packet, SVC_F_ONEPACKET),
        (fallback, SVC_F_SCHED1),
        (port, SVC_F_SCHED2),
        (sched3, SVC_F_SCHED3),
    ]
    .into_iter()
    .filter_map(|(set, bit)| set.then_some(bit))
    .sum::<u32>();
    let mut bytes = [0xff; 8];
    bytes[..4].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// IPv4 has a mask in network order, IPv6 a prefix length in host order, in one and the same attribute. It must be there
/// and in range even where nothing persists (`ip_vs_add_service`: `plen < 1 || plen > 128`).
fn netmask_bytes(persistence: Option<Persistence>, family: Family) -> Result<[u8; 4], EncodeError> {
    let prefix = persistence.map_or(family.bits(), |p| p.granularity);
    if !(1..=family.bits()).contains(&prefix) {
        return Err(EncodeError::Granularity { prefix, family });
    }
    Ok(match family {
        Family::Ipv4 => (u32::MAX << (32 - u32::from(prefix))).to_be_bytes(),
        Family::Ipv6 => u32::from(prefix).to_ne_bytes(),
    })
}

/// One message of a dump, or the answer to a question for one service.
pub fn read_service(message: &Attributes) -> Result<ReadService, DecodeError> {
    let nest = message.required(CmdAttr::Service)?;
    let stats = read_stats(&nest, SvcAttr::Stats64, SvcAttr::Stats)?;
    let mut key = None;
    match read_settings(&nest, &mut key) {
        Ok(service) => Ok(ReadService::Modelled(service, stats)),
        Err(Unread::Unmodelled(why)) => Ok(ReadService::Foreign(ForeignService { key, why })),
        Err(Unread::Broken(e)) => Err(e),
    }
}

/// `known` keeps the name of a service whose settings turn out to be foreign.
fn read_settings(nest: &Attributes, known: &mut Option<ServiceKey>) -> Result<Service, Unread> {
    if let Some(mark) = nest.optional::<_, 4>(SvcAttr::Fwmark)?.map(u32::from_ne_bytes)
        && mark != 0
    {
        return Err(Unmodelled::FirewallMark(mark).into());
    }
    let family = family_of_number(nest.u16(SvcAttr::Af)?)?;
    let key = ServiceKey {
        address: nest.address(SvcAttr::Addr, family)?,
        port: nest.be16(SvcAttr::Port)?,
        protocol: protocol_of_number(nest.u16(SvcAttr::Protocol)?)?,
    };
    *known = Some(key);
    let flags = nest.u32(SvcAttr::Flags)?;
    Ok(Service {
        key,
        scheduler: read_scheduler(nest)?,
        // HASHED is the kernel's, and a bit that is yet to come would be rewritten at every look if it counted.
        flags: SchedulerFlags {
            fallback: flags & SVC_F_SCHED1 != 0,
            port: flags & SVC_F_SCHED2 != 0,
            sched3: flags & SVC_F_SCHED3 != 0,
            one_packet: flags & SVC_F_ONEPACKET != 0,
        },
        persistence: if flags & SVC_F_PERSISTENT != 0 {
            Some(read_persistence(nest, family)?)
        } else {
            None
        },
    })
}

fn read_scheduler(nest: &Attributes) -> Result<Scheduler, Unread> {
    if let Some(engine) = nest.text(SvcAttr::PeName).filter(|name| !name.is_empty()) {
        return Err(Unmodelled::PersistenceEngine(engine).into());
    }
    let name = nest
        .text(SvcAttr::SchedName)
        .ok_or_else(|| DecodeError::Missing("service SchedName".to_owned()))?;
    Ok(name.parse().map_err(|_| Unmodelled::Scheduler(name))?)
}

fn read_persistence(nest: &Attributes, family: Family) -> Result<Persistence, Unread> {
    let timeout = Duration::from_secs(nest.u32(SvcAttr::Timeout)?.into());
    let granularity = match family {
        Family::Ipv4 => {
            let mask = u32::from_be(nest.u32(SvcAttr::Netmask)?);
            let prefix = mask.leading_ones();
            if mask.checked_shl(prefix).unwrap_or(0) != 0 {
                return Err(Unmodelled::Netmask(mask).into());
            }
            prefix
        }
        Family::Ipv6 => nest.u32(SvcAttr::Netmask)?,
    };
    let granularity = u8::try_from(granularity)
        .ok()
        .filter(|prefix| *prefix <= family.bits())
        .ok_or(Unmodelled::Netmask(granularity))?;
    Ok(Persistence { timeout, granularity })
}
