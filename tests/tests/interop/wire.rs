//! The ways of speaking: the same instance in keepalived's words and in ours.
use anyhow::Result;
use lb_tests::topology::{Lab, Node};
use lb_tests::{keepalived, native};
use std::net::IpAddr;
use std::time::Duration;

/// Long enough for whatever is waited for on a busy machine; what is judged is that it happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);
const VRID: u8 = 51;
const PASSWORD: &str = "Example";

/// Version, family, password, transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    V2,
    V2Pass,
    V2PassUnicast,
    V3,
    V3Unicast,
    V3Ipv6,
    V3Ipv6Unicast,
}

/// What differs between the two routers of a bout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) priority: u8,
    pub(crate) preempt: bool,
}

impl Wire {
    pub(crate) fn version(self) -> u8 {
        match self {
            Self::V2 | Self::V2Pass | Self::V2PassUnicast => 2,
            Self::V3 | Self::V3Unicast | Self::V3Ipv6 | Self::V3Ipv6Unicast => 3,
        }
    }

    pub(crate) fn is_ipv6(self) -> bool {
        matches!(self, Self::V3Ipv6 | Self::V3Ipv6Unicast)
    }

    pub(crate) fn is_unicast(self) -> bool {
        matches!(self, Self::V2PassUnicast | Self::V3Unicast | Self::V3Ipv6Unicast)
    }

    fn password(self) -> Option<String> {
        matches!(self, Self::V2Pass | Self::V2PassUnicast).then(|| PASSWORD.to_owned())
    }

    /// As fast as the version can.
    pub(crate) fn interval(self) -> Duration {
        Duration::from_millis(if self.version() == 2 { 1000 } else { 100 })
    }

    pub(crate) fn vip(self) -> IpAddr {
        if self.is_ipv6() {
            IpAddr::from([0xfd00, 0x122, 0, 0, 0, 0, 0, 0x200])
        } else {
            IpAddr::from([192, 168, 122, 200])
        }
    }

    fn prefix(self) -> String {
        format!("{}/{}", self.vip(), if self.is_ipv6() { 64 } else { 24 })
    }

    /// Source and peers of the node in unicast.
    fn unicast(self, lab: &Lab, node: &Node) -> Result<Option<(String, Vec<String>)>> {
        if !self.is_unicast() {
            return Ok(None);
        }
        let mut peers = Vec::new();
        for other in lab.controllers().filter(|other| other.name() != node.name()) {
            peers.push(other.address(self.is_ipv6())?.to_string());
        }
        Ok(Some((node.address(self.is_ipv6())?.to_string(), peers)))
    }

    /// For `cplb` on the node.
    pub(crate) fn ours(self, lab: &Lab, node: &Node, setting: Setting) -> Result<String> {
        let mut instance = native::Instance::new(VRID, &[&self.prefix()]).with_priority(setting.priority);
        instance.version = self.version();
        instance.interval = self.interval();
        instance.auth_pass = self.password();
        instance.preempt = setting.preempt;
        instance.unicast = self.unicast(lab, node)?;
        Ok(native::configuration(&[instance], ""))
    }

    /// For keepalived on the node.
    pub(crate) fn theirs(self, lab: &Lab, node: &Node, setting: Setting) -> Result<String> {
        let mut instance = keepalived::Instance::new(VRID, &[&self.prefix()]);
        instance.priority = setting.priority;
        instance.version = self.version();
        instance.interval = self.interval().as_secs_f64();
        instance.auth_pass = self.password();
        instance.nopreempt = !setting.preempt;
        instance.unicast = self.unicast(lab, node)?;
        Ok(keepalived::configuration(&[instance]))
    }
}
