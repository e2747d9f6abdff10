//! Nothing circles: two virtual IPs on two nodes and on one, in peace and at each change of holder. k0s balances on every
//! node as soon as there are two (k0s #5178).
use crate::cluster::{Cluster, LONG, PORT, lab, other_vip, sources, vip};
use crate::kernel::{self, needs_ipvs};
use crate::{traffic, wire};
use anyhow::{Context, Result};
use lb_tests::apiserver::Authority;
use lb_tests::client::Client;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(1500);

/// Two instances, of which each prefers another node: `first` is better for the first VIP, `second` for the second.
fn file(first: u8, second: u8) -> String {
    format!(
        "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nspec:\n  vrrpInstances:\n    \
         - {{name: one, virtualIPs: [\"{}/24\"], version: 3, advertInterval: 300ms, priority: {first}}}\n    \
         - {{name: two, virtualIPs: [\"{}/24\"], version: 3, advertInterval: 300ms, priority: {second}}}\n  \
         virtualServers:\n    - {{ipAddress: {}, lbAlgo: mh, persistenceTimeoutSeconds: 0}}\n    - {{ipAddress: {}}}\n",
        vip(),
        other_vip(),
        vip(),
        other_vip()
    )
}

/// Waits until `vip` is held by `node`, which directs to all three.
fn arrives(cluster: &Cluster<'_>, vip: IpAddr, node: &str) -> Result<()> {
    let what = format!("{vip} on {node}");
    let found = wait::until(&what, LONG, || {
        let there = matches!(cluster.lab.holders(vip)[..], [one] if one.name() == node);
        let list = kernel::real_servers(cluster.lab.node(node).ok()?, SocketAddr::new(vip, PORT)).ok()?;
        (there && list.len() == 3).then_some(())
    });
    found.with_context(|| cluster.tables())
}

/// Both virtual IPs are asked all the time, and every packet is counted.
fn watched(lab: &Lab, client: &Client<'_>, when: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let vips = [vip(), other_vip()];
    let capture = wire::tcp_of(lab, &vips)?;
    let [to, and] = vips.map(|v| SocketAddr::new(v, PORT));
    let (((), second), first) = traffic::during(client, &sources(false), to, || {
        traffic::during(client, &sources(false), and, work)
    })?;
    let all = first.len() + second.len();
    let failed = [traffic::failures(&first), traffic::failures(&second)].concat();
    eprintln!("{when}: {all} connections, {} failed", failed.len());
    assert!(
        failed.len() * 3 < all,
        "{when}: too many failed to tell: {failed:#?}"
    );
    wire::assert_nothing_circled(lab, &capture.finish()?, &vips, when)
}

#[test]
fn two_virtual_ips_never_send_a_packet_round() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let priorities = |node: &Node| match node.name() {
        "c1" => file(200, 100),
        "c2" => file(100, 200),
        _ => file(150, 150),
    };
    let mut cluster = Cluster::start(&lab, &[vip(), other_vip()], |node| Ok(priorities(node)))?;
    arrives(&cluster, vip(), "c1")?;
    arrives(&cluster, other_vip(), "c2")?;
    cluster.settled(vip(), 3)?;
    let client = cluster.client()?;
    watched(&lab, &client, "held by two nodes", || {
        thread::sleep(MOMENT * 2);
        Ok(())
    })?;
    watched(&lab, &client, "one of two holders is told to stop", || {
        cluster.stop("c1")?;
        arrives(&cluster, vip(), "c3")?;
        thread::sleep(MOMENT);
        Ok(())
    })?;
    watched(
        &lab,
        &client,
        "all of the other is killed, and one node holds both",
        || {
            cluster.daemon("c2")?.signal_all(Signal::SIGKILL)?;
            cluster.daemon_mut("c2")?.wait_all(LONG)?;
            arrives(&cluster, other_vip(), "c3")?;
            thread::sleep(MOMENT * 2);
            Ok(())
        },
    )?;
    let left = kernel::real_servers(lab.node("c2")?, SocketAddr::new(other_vip(), PORT))?;
    assert_eq!(
        left.len(),
        3,
        "the killed holder's virtual server is in its kernel: {left:?}"
    );
    watched(&lab, &client, "both come back and take their own over", || {
        cluster.run("c1")?;
        cluster.run("c2")?;
        arrives(&cluster, vip(), "c1")?;
        arrives(&cluster, other_vip(), "c2")?;
        thread::sleep(MOMENT);
        Ok(())
    })
}

/// So that the tests above can fail: two directors without us and without a guard, each with the other as real server.
#[test]
fn a_packet_that_circles_is_counted() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let service = SocketAddr::new(vip(), PORT).to_string();
    for (node, real) in [("c1", "192.168.122.185"), ("c2", "192.168.122.37")] {
        let node = lab.node(node)?;
        node.netns()
            .ip("link add d0 type dummy\nlink set d0 up\naddress add 192.168.122.200/32 dev d0\n")?;
        node.netns().sysctl("ipv4.conf.eth0.arp_ignore", "1")?;
        node.output(&["ipvsadm", "-A", "-t", &service, "-s", "rr"])?;
        node.output(&[
            "ipvsadm",
            "-a",
            "-t",
            &service,
            "-r",
            &format!("{real}:{PORT}"),
            "-g",
        ])?;
    }
    lab.node("c1")?
        .netns()
        .ip("address add 192.168.122.200/24 dev eth0\n")?;
    let capture = wire::tcp_of(&lab, &[vip()])?;
    let authority = Authority::new()?;
    let client = Client::new(lab.node("client")?, &authority)?;
    assert!(client.get(SocketAddr::new(vip(), PORT), "/api").is_err());
    let seen = wire::rounds(&capture.finish()?, &[vip()], kernel::mac(lab.node("client")?)?);
    assert!(!seen.looped.is_empty() && seen.passed_twice > 10, "{seen:?}");
    Ok(())
}
