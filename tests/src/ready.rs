//! Addresses that can be used.
use crate::topology::Node;
use crate::wait;
use anyhow::Result;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

/// Waiting until a node can speak.
pub trait Ready {
    /// Until every address can be bound: one of IPv6 is tentative for a moment even where nobody checks it for doubles.
    fn wait_for_addresses(&self, limit: Duration) -> Result<()>;
}

impl Ready for Node {
    fn wait_for_addresses(&self, limit: Duration) -> Result<()> {
        let what = format!("the addresses of {}", self.name());
        wait::until(&what, limit, || {
            let addresses: Vec<IpAddr> = self.addresses().into_values().flatten().collect();
            let unbound = addresses.into_iter().filter(|a| !is_link_local(*a));
            let all = self
                .netns()
                .run(|| unbound.into_iter().all(|a| UdpSocket::bind((a, 0)).is_ok()));
            matches!(all, Ok(true)).then_some(())
        })?;
        // Link-local ones follow the link: give the same moment to them.
        wait::until(&what, limit, || {
            let found = self.addresses().into_values().flatten().any(is_link_local);
            found.then_some(())
        })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
