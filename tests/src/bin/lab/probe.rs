//! What this kernel can do, by trying it in a namespace.
use anyhow::{Context, Result};
use lb_tests::netns::Netns;
use lb_tests::topology::Lab;

/// IPVS, and the devices that go with it.
pub(crate) fn ipvs() -> Result<()> {
    let netns = Netns::new("probe")?;
    netns
        .output(&["ipvsadm", "--list", "--numeric"])
        .context("this kernel has no IPVS")?;
    netns
        .ip("link add cplb-probe type dummy\n")
        .context("this kernel has no dummy devices")?;
    netns
        .ip("link add cplb-br type bridge\nlink add cplb-a type veth peer name cplb-b\n")
        .context("this kernel has no bridge or veth")
}

/// Programs that run natively on veth.
pub(crate) fn xdp() -> Result<()> {
    let lab = Lab::builder().node("probe", &[]).native_xdp().build();
    lab.map(drop)
        .context("this kernel takes no XDP program on a veth")
}
