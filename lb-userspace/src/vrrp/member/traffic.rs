//! One instance's adverts, both ways.
use super::{Member, REJECTED_EVERY, RETRY_FIRST, SEND_FAILURES, wall_ms};
use crate::sys::rawsock::Datagram;
use crate::vrrp::Rejected;
use crate::vrrp::pool::Pool;
use lb_common::model::Version;
use lb_common::spec::{Instance, Transport};
use lb_common::time::Instant;
use lb_common::vrrp::{Advert, Input, Notes, PacketMeta, ReceiveConfig, Reject, Router, receive};
use lb_common::wire::vrrp::{Addresses, Advertisement, Auth, group};
use std::net::IpAddr;

/// An advert was not sent.
#[derive(Debug, thiserror::Error)]
pub(in crate::vrrp) enum SendError {
    #[error("there is no socket")]
    NoSocket,
    #[error(transparent)]
    Io(std::io::Error),
    #[error(transparent)]
    Encode(lb_common::wire::vrrp::EncodeError),
}

impl Member {
    /// Judges a packet and hands a good one to the machine. What is worth a line in the log comes back.
    pub(in crate::vrrp) fn packet(
        &mut self,
        now: Instant,
        router: &mut Router,
        d: &Datagram<'_>,
    ) -> Result<Option<(Advert, Notes)>, Reject> {
        let meta = PacketMeta {
            source: d.source,
            destination: Some(d.destination),
            hop_limit: Some(d.hop_limit),
        };
        match receive(&self.config, meta, d.payload) {
            Ok((advert, notes)) => {
                self.counters.received += 1;
                router.handle(now, self.id, Input::Advert(advert));
                Ok(self.is_remarkable(&notes).then_some((advert, notes)))
            }
            Err(reject) => {
                self.count_rejected(now, &reject);
                Err(reject)
            }
        }
    }

    /// VIPs without a link-local one are as they are on every node that has this file.
    fn is_remarkable(&self, notes: &Notes) -> bool {
        let only_link_local = notes.interval_cs.is_none() && notes.addresses.is_none();
        !notes.is_empty() && !only_link_local
    }

    fn count_rejected(&mut self, now: Instant, reject: &Reject) {
        match self.counters.rejected.get_mut(reject.kind()) {
            Some(n) => *n += 1,
            None => {
                self.counters.rejected.insert(reject.kind().to_owned(), 1);
            }
        }
        let fresh = |(at, _): &(Instant, Rejected)| now.saturating_since(*at) < REJECTED_EVERY;
        if !self.rejected.as_ref().is_some_and(fresh) {
            let rejected = Rejected {
                at_ms: wall_ms(),
                source: reject.source,
                why: reject.to_string(),
            };
            self.rejected = Some((now, rejected));
        }
    }

    /// Sends one advert to the group or to every peer. An error is given when this made a fault of it.
    pub(in crate::vrrp) fn send(
        &mut self,
        pool: &Pool,
        priority: u8,
        scratch: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        let (Some(source), Some(key)) = (self.source(), self.vrrp_key()) else {
            return Ok(());
        };
        self.advert.priority = priority;
        let mut result = Err(SendError::NoSocket);
        let to_group = [group(self.family())];
        let to: &[IpAddr] = match &self.spec.transport {
            Transport::Multicast => &to_group,
            Transport::Unicast { peers, .. } => peers,
        };
        for to in to {
            scratch.clear();
            let sent = match (pool.vrrp(key), self.advert.encode(source, *to, scratch)) {
                (Some(socket), Ok(())) => socket.send(source, *to, scratch).map_err(SendError::Io),
                (None, _) => Err(SendError::NoSocket),
                (_, Err(e)) => Err(SendError::Encode(e)),
            };
            // One peer that is out of reach is not this node's fault.
            if result.is_err() {
                result = sent;
            }
        }
        self.count_sent(result)
    }

    fn count_sent(&mut self, result: Result<(), SendError>) -> Result<(), SendError> {
        match result {
            Ok(()) => {
                self.counters.sent += 1;
                self.failures = 0;
                self.retry = RETRY_FIRST;
                Ok(())
            }
            Err(e) => {
                self.failures += 1;
                Err(e)
            }
        }
    }

    /// Whether so many adverts could not be sent that others take this router for dead.
    pub(in crate::vrrp) fn is_mute(&self) -> bool {
        self.failures >= SEND_FAILURES
    }
}

pub(super) fn receive_config(i: &Instance, source: IpAddr) -> ReceiveConfig {
    let peers = match &i.transport {
        Transport::Multicast => Vec::new(),
        Transport::Unicast { peers, .. } => peers.clone(),
    };
    ReceiveConfig {
        version: i.version,
        vrid: i.vrid,
        advert_interval: i.advert_interval,
        auth_pass: i.auth_pass,
        source,
        addresses: i.virtual_ips.iter().map(|p| p.addr()).collect(),
        peers,
        unicast_min_hop_limit: None,
    }
}

pub(super) fn template(i: &Instance) -> Advertisement {
    Advertisement {
        version: i.version,
        vrid: i.vrid,
        priority: i.priority.get(),
        interval_cs: i.advert_interval.centiseconds(),
        reserved: 0,
        auth: (i.version == Version::V2).then(|| Auth::from_pass(i.auth_pass)),
        addresses: Addresses::of(i.family(), i.virtual_ips.iter().map(|p| p.addr())),
        checksum_form: i.checksum,
    }
}
