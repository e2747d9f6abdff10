//! Servers on another network, behind a router: IPIP and IP6IP6, with everything that the longer header brings along.
use crate::cluster::{LONG, PLAIN, instances, needs_xdp, services, sources, vip, vips};
use anyhow::{Context, Result};
use lb_tests::cplb::Cplb;
use lb_tests::crowd::server::{self, Service};
use lb_tests::crowd::{self, Crowd, Plan, Reach};
use lb_tests::decap::Decapsulator;
use lb_tests::ready::Ready;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// Two directors and the client on one network, two servers on another, and a router between.
fn lab() -> Result<Lab> {
    let own: Vec<String> = sources(false)
        .iter()
        .map(|a| format!("{a}/24"))
        .chain(sources(true).iter().map(|a| format!("{a}/64")))
        .collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let lab = Lab::builder()
        .node("c1", &["192.168.122.37/24", "fd00:122::37/64"])
        .node("c2", &["192.168.122.185/24", "fd00:122::185/64"])
        .node("client", &own)
        .node("router", &["192.168.122.1/24", "fd00:122::1/64"])
        .nic("eth1", &["10.30.0.1/24", "fd00:30::1/64"])
        .on("br1")
        .node("r1", &["10.30.0.11/24", "fd00:30::11/64"])
        .on("br1")
        .node("r2", &["10.30.0.12/24", "fd00:30::12/64"])
        .on("br1")
        .native_xdp()
        .build()?;
    for node in lab.nodes() {
        node.wait_for_addresses(LONG)?;
    }
    let router = lab.node("router")?.netns();
    router.sysctl("ipv4.ip_forward", "1")?;
    router.sysctl("ipv6.conf.all.forwarding", "1")?;
    for name in ["c1", "c2"] {
        let node = lab.node(name)?.netns();
        node.ip("route add 10.30.0.0/24 via 192.168.122.1\nroute add fd00:30::/64 via fd00:122::1\n")?;
    }
    for name in ["r1", "r2"] {
        let node = lab.node(name)?.netns();
        node.ip("route add default via 10.30.0.1\nroute add default via fd00:30::1\n")?;
        node.ip(&format!(
            "address add {}/32 dev lo\naddress add {}/128 dev lo\n",
            vip(false),
            vip(true)
        ))?;
    }
    Ok(lab)
}

fn file(priority: u8) -> Result<String> {
    let server = |vip, addresses: [&str; 2]| {
        let [a, b] = addresses;
        format!(
            "    - {{ipAddress: \"{vip}\", ports: [{PLAIN}], datapath: xdp, lbKind: TUN, tunnel: {{type: ipip}}, \
             persistenceTimeoutSeconds: 0, realServers: [{{address: \"{a}\"}}, {{address: \"{b}\"}}]}}\n"
        )
    };
    let four = server(vip(false), ["10.30.0.11", "10.30.0.12"]);
    let six = server(vip(true), ["fd00:30::11", "fd00:30::12"]);
    Ok(instances(priority)? + "  virtualServers:\n" + &four + &six)
}

/// Waits until connections to both virtual IPs are answered by both servers.
fn settled(client: &Node, daemon: &Cplb<'_>) -> Result<()> {
    let both = wait::until("both servers answer through the tunnel", LONG, || {
        let crowd = open(client, 40, LONG).ok()?;
        let answered = crowd.established(Duration::from_secs(8)).is_ok() && crowd.servers().len() == 2;
        if !answered {
            thread::sleep(Duration::from_millis(200));
        }
        answered.then_some(())
    });
    both.with_context(|| daemon.log())
}

fn open(client: &Node, connections: usize, interval: Duration) -> Result<Crowd> {
    let reach = Reach {
        sources: [sources(false), sources(true)].concat(),
        to: services(PLAIN),
        tls: None,
    };
    let patience = Duration::from_secs(30);
    Crowd::start(
        client,
        &reach,
        Plan {
            connections,
            interval,
            patience,
        },
    )
}

#[test]
fn tunnels_carry_many_bytes_and_outlive_their_director() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let mut servers = Vec::new();
    let mut ends = Vec::new();
    for name in ["r1", "r2"] {
        let node = lab.node(name)?;
        ends.push(Decapsulator::open(node)?);
        servers.push(server::start(
            node,
            Service {
                ports: &[PLAIN],
                vips: &vips(),
                tls: None,
                grace: None,
            },
        )?);
    }
    let mut first = Cplb::start(lab.node("c1")?, &file(200)?, &[])?;
    let second = Cplb::start(lab.node("c2")?, &file(150)?, &[])?;
    let client = lab.node("client")?;
    settled(client, &first)?;

    let crowd = open(client, 200, Duration::from_millis(300))?;
    crowd.established(LONG)?;
    for to in services(PLAIN) {
        let from = SocketAddr::new(sources(to.is_ipv6())[0], 0);
        let mut line = crowd::line(client, Some(from), to, Duration::from_secs(30))?;
        // A client's segments fit its own network and not the tunnel: it has to be told, or nothing of this arrives.
        line.put(5_000_000).with_context(|| format!("5 MB to {to}"))?;
        line.get(5_000_000).with_context(|| format!("5 MB from {to}"))?;
    }
    let packets: Vec<_> = ends.iter().map(Decapsulator::packets).collect();
    eprintln!("through tunnels ended by {}: {packets:?} packets", ends[0].by());

    first.signal(Signal::SIGTERM)?;
    first.wait_all(LONG)?;
    wait::until("c2 holds", LONG, || second.node().holds(vip(true)).then_some(()))?;
    crowd.heard_again(LONG)?;
    crowd.intact().context("the director was told to stop")
}
