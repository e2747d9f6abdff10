//! Every way in which a holder goes: well, killed alone, killed with everything, stopped, cut off. A client that asks
//! every 2 ms sees nothing of the first two; two holders never last; nothing stays behind.
mod cable;
mod killed;
mod leftovers;
mod unnoticed;

use anyhow::Result;
use lb_tests::native::Instance;
use lb_tests::pair;
use lb_tests::standing::{self, Standing};
use lb_tests::topology::Node;
use lb_tests::wait;
use std::net::IpAddr;
use std::time::Duration;

pub(crate) const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 122, 200));
pub(crate) use pair::PATIENCE;

/// Version 3 on the IPv4 address, adverts of 100 ms.
pub(crate) fn instance(priority: u8) -> Instance {
    Instance::new(51, &["192.168.122.200/24"]).with_priority(priority)
}

/// Version 2, adverts of 1 s.
pub(crate) fn slow(priority: u8) -> Instance {
    let mut instance = instance(priority);
    (instance.version, instance.interval) = (2, Duration::from_secs(1));
    instance
}

/// Waits until the address is not on the node any more.
pub(crate) fn lets_go(node: &Node, vip: IpAddr) -> Result<()> {
    let what = format!("{vip} is gone from {}", node.name());
    wait::until(&what, PATIENCE, || (!node.holds(vip)).then_some(()))
}

/// Waits until a daemon answers there again.
pub(crate) fn answers(node: &Node) -> Result<Standing> {
    wait::until("a status", PATIENCE, || standing::of(node).ok())
}

/// Every parameter of the network that we may touch.
pub(crate) fn parameters(node: &Node) -> Result<Vec<String>> {
    let keys = ["promote_secondaries", "arp_ignore", "arp_announce"];
    keys.iter()
        .map(|key| node.netns().sysctl_value(&format!("ipv4.conf.eth0.{key}")))
        .collect()
}
