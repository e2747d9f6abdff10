//! Whether this kernel has what the demonstration takes. Trying makes the kernel load the modules, if it has them.
use anyhow::{Context, Result};
use lb_tests::netns::Netns;

pub(crate) fn probe() -> Result<()> {
    let netns = Netns::new("probe")?;
    netns
        .ip("link add cplb-probe type dummy\n")
        .context("no dummy devices")?;
    netns
        .output(&["ipvsadm", "--list", "--numeric"])
        .context("no IPVS")?;
    netns
        .ip("link add cplb-br type bridge\nlink add cplb-a type veth peer name cplb-b\n")
        .context("no bridge or veth")
}
