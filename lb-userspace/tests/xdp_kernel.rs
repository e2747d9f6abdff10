//! The XDP datapath's user-space half in this kernel: loading, attaching, refusing, replacing, switching, leases.
//!
//! Natively on veth, in network namespaces of the tests' own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "xdp_kernel/support.rs"]
mod support;

use anyhow::Result;
use lb_tests::skip;
use support::{Bench, forwarding, on_eth0};

#[test]
fn the_program_is_attached_natively_and_goes_when_it_is_no_longer_wanted() -> Result<()> {
    if let Some(why) = support::cannot() {
        skip!("{why}");
    }
    on_eth0(async |mut bench: Bench| {
        let eth0 = bench.index("eth0").await;
        let problems = bench.set(forwarding(&[eth0])).await;
        assert_eq!(problems, Vec::<String>::new());
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
