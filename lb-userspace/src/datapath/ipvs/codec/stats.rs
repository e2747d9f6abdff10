//! Counters and rates. The kernel's estimator refreshes both every two seconds (`net/netfilter/ipvs/ip_vs_est.c`).
use super::DecodeError;
use super::attributes::{Attributes, Kind};
use crate::datapath::ipvs::uapi::StatsAttr;

/// Since the object was made or zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub inpkts: u64,
    /// Packets to clients; with NAT only, the others answer directly.
    pub outpkts: u64,
    /// Bytes from clients.
    pub inbytes: u64,
    /// Bytes to clients; with NAT only.
    pub outbytes: u64,
    /// Per second.
    pub rates: Rates,
}

/// Per second, smoothed by the kernel over some seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Connections.
    pub conns: u64,
    /// Packets from clients.
    pub inpkts: u64,
    /// Packets to clients.
    pub outpkts: u64,
    /// Bytes from clients.
    pub inbytes: u64,
    /// Bytes to clients.
    pub outbytes: u64,
}

/// The 64-bit form where there is one, else the narrow one, else zeroes: statistics are never worth an error.
pub(super) fn read_stats<K: Kind>(object: &Attributes, wide: K, narrow: K) -> Result<Stats, DecodeError> {
    let nest = match object.nested(wide)? {
        Some(nest) => Some(nest),
        None => object.nested(narrow)?,
    };
    nest.map_or(Ok(Stats::default()), |nest| read_counters(&nest))
}

fn read_counters(nest: &Attributes) -> Result<Stats, DecodeError> {
    let get = |kind| counter(nest, kind);
    Ok(Stats {
        conns: get(StatsAttr::Conns)?,
        inpkts: get(StatsAttr::InPkts)?,
        outpkts: get(StatsAttr::OutPkts)?,
        inbytes: get(StatsAttr::InBytes)?,
        outbytes: get(StatsAttr::OutBytes)?,
        rates: Rates {
            conns: get(StatsAttr::Cps)?,
            inpkts: get(StatsAttr::InPps)?,
            outpkts: get(StatsAttr::OutPps)?,
            inbytes: get(StatsAttr::InBps)?,
            outbytes: get(StatsAttr::OutBps)?,
        },
    })
}

/// A counter tells its own width: the narrow form has bytes in 64 bits and the rest in 32.
fn counter(nest: &Attributes, kind: StatsAttr) -> Result<u64, DecodeError> {
    match nest.optional::<_, 8>(kind) {
        Ok(Some(bytes)) => Ok(u64::from_ne_bytes(bytes)),
        Ok(None) => Ok(0),
        Err(_) => nest.u32(kind).map(u64::from),
    }
}
