//! What one virtual router was told, and the RFC's arithmetic on it.
use crate::model::{AdvertInterval, Priority, Version};
use core::net::IpAddr;
use core::time::Duration;

/// The configuration of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Which VRRP: it decides what Skew_Time is and whether the interval is adopted.
    pub version: Version,
    /// Before tracking's weights.
    pub priority: Priority,
    /// Preempt_Mode.
    pub preempt: bool,
    /// Wait this long before preempting a living router.
    pub preempt_delay: Duration,
    /// Advertisement_Interval.
    pub advert_interval: AdvertInterval,
    /// The primary address that adverts leave from: breaks ties of priority (unsigned, network order).
    pub source: IpAddr,
    /// How long a router that lost keeps answering, so that nothing is lost before the winner's announcement arrives.
    pub linger: Duration,
    /// The first burst of announcements is repeated after this.
    pub announce_delay: Duration,
    /// Announce again this often while Active.
    pub announce_refresh: Option<Duration>,
    /// Member of a sync group: it does not become Active by itself but asks its group.
    pub gated: bool,
}
