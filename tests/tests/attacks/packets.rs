//! The packets that nobody should believe, and what they are called in the status and in the log.
use super::pair::{PASSWORD, VRID, Wire};
use anyhow::Result;
use lb_tests::adverts::{Advert, resum_message_only};
use std::net::IpAddr;

/// A row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Bad {
    pub(crate) name: &'static str,
    pub(crate) wire: Wire,
    /// As it is counted and logged.
    pub(crate) kind: &'static str,
    pub(crate) ttl: u32,
    pub(crate) make: fn(source: IpAddr, vip: IpAddr) -> Result<Vec<u8>>,
}

fn v2(source: IpAddr, vip: IpAddr) -> Result<Vec<u8>> {
    Advert::v2(VRID, Some(PASSWORD), &[vip]).bytes(source)
}

fn v3(source: IpAddr, vip: IpAddr) -> Result<Vec<u8>> {
    Advert::v3(VRID, 10, &[vip]).bytes(source)
}

/// An advert that is altered and then has a right checksum again: that of the message only, which counts in both
/// versions over IPv4.
fn altered(mut bytes: Vec<u8>, alter: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    alter(&mut bytes);
    resum_message_only(&mut bytes);
    bytes
}

fn broken(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[6] ^= 0x55;
    bytes
}

/// keepalived 2.2.7 restarts its timer for every one of these, and so sends nothing while one comes in less than an
/// interval; the interval of 0 makes its backup a second master each time.
pub(crate) const ALL: [Bad; 17] = [
    Bad {
        name: "v2, a bad checksum",
        wire: Wire::V2,
        kind: "checksum",
        ttl: 255,
        make: |s, v| Ok(broken(v2(s, v)?)),
    },
    Bad {
        name: "v2, another password",
        wire: Wire::V2,
        kind: "auth",
        ttl: 255,
        make: |s, v| Advert::v2(VRID, Some("wrong"), &[v]).bytes(s),
    },
    Bad {
        name: "v2, no password",
        wire: Wire::V2,
        kind: "auth-type",
        ttl: 255,
        make: |s, v| Advert::v2(VRID, None, &[v]).bytes(s),
    },
    Bad {
        name: "v2, an interval of 2 s",
        wire: Wire::V2,
        kind: "interval",
        ttl: 255,
        make: |s, v| {
            let mut advert = Advert::v2(VRID, Some(PASSWORD), &[v]);
            advert.interval_cs = 200;
            advert.bytes(s)
        },
    },
    Bad {
        name: "v2, TTL 254",
        wire: Wire::V2,
        kind: "ttl",
        ttl: 254,
        make: v2,
    },
    Bad {
        name: "v2, type 2",
        wire: Wire::V2,
        kind: "type",
        ttl: 255,
        make: |s, v| Ok(altered(v2(s, v)?, |b| b[0] = 0x22)),
    },
    Bad {
        name: "v2, trailing bytes",
        wire: Wire::V2,
        kind: "length",
        ttl: 255,
        make: |s, v| Ok(altered(v2(s, v)?, |b| b.extend([0; 8]))),
    },
    Bad {
        name: "v2, cut off",
        wire: Wire::V2,
        kind: "length",
        ttl: 255,
        make: |s, v| Ok(altered(v2(s, v)?, |b| b.truncate(12))),
    },
    Bad {
        name: "v2, the other version",
        wire: Wire::V2,
        kind: "version",
        ttl: 255,
        make: |s, v| Advert::v3(VRID, 100, &[v]).bytes(s),
    },
    Bad {
        name: "v3, a bad checksum",
        wire: Wire::V3,
        kind: "checksum",
        ttl: 255,
        make: |s, v| Ok(broken(v3(s, v)?)),
    },
    Bad {
        name: "v3, an interval of 0",
        wire: Wire::V3,
        kind: "interval",
        ttl: 255,
        make: |s, v| Ok(altered(v3(s, v)?, |b| b[4..6].fill(0))),
    },
    Bad {
        name: "v3, TTL 254",
        wire: Wire::V3,
        kind: "ttl",
        ttl: 254,
        make: v3,
    },
    Bad {
        name: "v3, type 2",
        wire: Wire::V3,
        kind: "type",
        ttl: 255,
        make: |s, v| Ok(altered(v3(s, v)?, |b| b[0] = 0x32)),
    },
    Bad {
        name: "v3, trailing bytes",
        wire: Wire::V3,
        kind: "length",
        ttl: 255,
        make: |s, v| Ok(altered(v3(s, v)?, |b| b.extend([0; 8]))),
    },
    Bad {
        name: "v3, no addresses",
        wire: Wire::V3,
        kind: "count",
        ttl: 255,
        make: |s, v| {
            Ok(altered(v3(s, v)?, |b| {
                b[3] = 0;
                b.truncate(8);
            }))
        },
    },
    Bad {
        name: "v3, the other version",
        wire: Wire::V3,
        kind: "version",
        ttl: 255,
        make: |s, v| Advert::v2(VRID, None, &[v]).bytes(s),
    },
    Bad {
        name: "v3 over IPv6, hop limit 254",
        wire: Wire::V3Ipv6,
        kind: "ttl",
        ttl: 254,
        make: v3,
    },
];
