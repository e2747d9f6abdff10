//! A node with the datapath in it, and a peer on the same cable.
use anyhow::Result;
use lb_common::plan::Forwarding;
use lb_common::spec::XdpAttach;
use lb_tests::topology::Lab;
use lb_userspace::datapath::xdp::{Xdp, object};
use lb_userspace::sys::rtnl::{Link, Rtnl};
use std::collections::{BTreeMap, BTreeSet};

/// The datapath in a node.
pub(crate) struct Bench {
    pub(crate) xdp: Xdp,
    pub(crate) rtnl: Rtnl,
}

impl Bench {
    pub(crate) async fn open() -> Self {
        Self {
            xdp: Xdp::open().await.unwrap(),
            rtnl: Rtnl::open().unwrap(),
        }
    }

    pub(crate) async fn set(&mut self, forwarding: Forwarding) -> Vec<String> {
        self.xdp.set(&forwarding, &mut self.rtnl).await
    }

    pub(crate) async fn turn(&mut self) -> Vec<String> {
        self.xdp.maintain(&mut self.rtnl).await
    }

    pub(crate) async fn link(&mut self, name: &str) -> Link {
        self.rtnl.link_named(name).await.unwrap().unwrap()
    }

    pub(crate) async fn index(&mut self, name: &str) -> u32 {
        self.link(name).await.index
    }
}

/// Why these tests cannot run here.
pub(crate) fn cannot() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        Some("needs root to make network namespaces and to load programs")
    } else if !object::is_built_in() {
        Some("built without the eBPF object: cargo xtask build-ebpf, and touch lb-userspace/build.rs")
    } else {
        None
    }
}

/// Runs `test` in node `a` of a lab of two.
pub(crate) fn on_eth0(test: impl AsyncFnOnce(Bench) + Send) -> Result<()> {
    in_lab(async |_: &Lab, bench: Bench| test(bench).await)
}

/// The same with the lab at hand: `a` and `b` on one switch.
pub(crate) fn in_lab(test: impl AsyncFnOnce(&Lab, Bench) + Send) -> Result<()> {
    let lab = Lab::builder()
        .node("a", &["10.0.0.1/24", "fd00::1/64"])
        .node("b", &["10.0.0.2/24", "fd00::2/64"])
        .build()?;
    lab.node("a")?.netns().run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(&lab, Bench::open().await).await });
    })
}

/// Nothing to forward, on these interfaces.
pub(crate) fn forwarding(interfaces: &[u32]) -> Forwarding {
    Forwarding {
        attach: XdpAttach::default(),
        interfaces: BTreeSet::from_iter(interfaces.iter().copied()),
        vips: BTreeMap::new(),
        services: BTreeMap::new(),
        key: Default::default(),
    }
}
