//! What the kernel of a node says, in the words of `ipvsadm`, `ip` and `nft`.
use anyhow::{Context, Result};
use lb_tests::topology::Node;
use std::net::SocketAddr;
use std::path::Path;

/// Leaves a test where the kernel has no IPVS.
macro_rules! needs_ipvs {
    () => {
        if !crate::kernel::has_ipvs() {
            lb_tests::wait::say_skipped("this kernel has no IPVS (cargo xtask vm has one)");
            return Ok(());
        }
    };
}
pub(crate) use needs_ipvs;

/// Whether virtual servers can be had here.
pub(crate) fn has_ipvs() -> bool {
    Path::new("/proc/net/ip_vs").exists()
}

/// `ipvsadm --save -n`, line by line.
pub(crate) fn saved(node: &Node) -> Result<Vec<String>> {
    let text = node.output(&["ipvsadm", "--save", "-n"])?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// The real servers of a TCP virtual server, as `ADDRESS:PORT`.
pub(crate) fn real_servers(node: &Node, service: SocketAddr) -> Result<Vec<String>> {
    let start = format!("-a -t {service} -r ");
    let lines = saved(node)?;
    let after = lines.iter().filter_map(|line| line.strip_prefix(&start));
    Ok(after
        .filter_map(|rest| rest.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// The line that makes a virtual server: `-A -t ...`.
pub(crate) fn service_line(node: &Node, service: SocketAddr) -> Result<String> {
    let start = format!("-A -t {service} ");
    let line = saved(node)?.into_iter().find(|line| line.starts_with(&start));
    line.with_context(|| format!("no virtual server {service} on {}", node.name()))
}

/// The MAC address of `eth0`.
pub(crate) fn mac(node: &Node) -> Result<[u8; 6]> {
    let text = node.output(&["cat", "/sys/class/net/eth0/address"])?;
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(text.trim().split(':')) {
        *byte = u8::from_str_radix(part, 16)?;
    }
    Ok(mac)
}

/// The names of nftables' tables.
pub(crate) fn tables(node: &Node) -> Result<String> {
    node.output(&["nft", "list", "tables"])
}

/// Whether an interface of that name is there.
pub(crate) fn has_link(node: &Node, name: &str) -> Result<bool> {
    let list = node.output(&["ls", "/sys/class/net"])?;
    Ok(list.split_whitespace().any(|n| n == name))
}
