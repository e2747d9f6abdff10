//! The XDP datapath's user-space half in this kernel: loading, attaching, refusing, replacing, switching, leases.
//!
//! Natively on veth, in network namespaces of the tests' own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "xdp_kernel/daemon.rs"]
mod daemon;
#[path = "xdp_kernel/links.rs"]
mod links;
#[path = "xdp_kernel/others.rs"]
mod others;
#[path = "xdp_kernel/support.rs"]
mod support;
#[path = "xdp_kernel/traffic.rs"]
mod traffic;

use anyhow::Result;
use lb_tests::skip;
use support::{Bench, Net, VIP, cannot, forwarding};

#[test]
fn the_program_is_attached_natively_and_goes_when_it_is_no_longer_wanted() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    Net::new()?.direct(async |mut bench: Bench| {
        let eth0 = bench.index("eth0").await;
        assert_eq!(bench.set(&forwarding(&[eth0])).await, Vec::<String>::new());
        let link = bench.link("eth0").await;
        assert!(link.xdp.unwrap().native);
        let view = bench.xdp.view().unwrap();
        assert_eq!(view.interfaces[0].mode, "native");
        assert_eq!(view.interfaces[0].program, link.xdp.map(|x| x.program));
        assert!(bench.xdp.observed().is_some());
        bench.xdp.clear();
        assert_eq!(bench.link("eth0").await.xdp, None);
        assert_eq!(bench.xdp.observed(), None);
    })
}

#[test]
fn connections_to_a_virtual_ip_reach_its_real_servers() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        let wanted = bench.holding(VIP, &["10.0.0.2", "10.0.0.3"]).await;
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, Vec::<String>::new());
        let mut seen: Vec<String> = (0..40).map(|_| net.ask(VIP).unwrap()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["b", "c"]);
        let view = bench.xdp.view().unwrap();
        let service = &view.services[0];
        assert_eq!(service.traffic.new_flows, 40);
        let there: u64 = view.backends.iter().map(|b| b.traffic.packets).sum();
        assert_eq!(there, service.traffic.packets);
        assert!(view.dropped.is_empty(), "{view:?}");
    })
}
