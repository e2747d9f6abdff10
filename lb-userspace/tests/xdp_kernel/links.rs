//! Kinds of links, and links that change.
use super::support::{self, Bench, Net, VIP, cannot, forwarding, with_service};
use anyhow::Result;
use lb_common::plan::Method;
use lb_common::spec::XdpMode;
use lb_tests::{skip, veth};
use lb_userspace::sys::rtnl::Change;
use std::time::Duration;

const BACKENDS: [&str; 2] = ["10.0.0.2", "10.0.0.3"];
const NOTHING: Vec<String> = Vec::new();

#[test]
fn an_interface_that_comes_back_has_the_program_again() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let a = net.lab.node("a")?.netns();
    net.direct(async |mut bench: Bench| {
        a.ip("link add v0 type veth peer name v1\n").unwrap();
        let v0 = bench.index("v0").await;
        assert_eq!(bench.set(&forwarding(&[v0])).await, NOTHING);
        a.ip("link del v0\n").unwrap();
        assert_eq!(
            bench.xdp.observed(),
            None,
            "what is not there is not seen as if it were"
        );
        assert_eq!(
            bench.turn().await,
            NOTHING,
            "an interface that is gone is no fault of the program's"
        );
        assert!(bench.xdp.view().unwrap().interfaces.is_empty());
        a.ip(&format!("link add v0 index {v0} type veth peer name v1\n"))
            .unwrap();
        assert_eq!(bench.turn().await, NOTHING);
        assert!(bench.link("v0").await.xdp.is_some());
    })
}

#[test]
fn a_program_that_somebody_takes_off_is_missed() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    Net::new()?.direct(async |mut bench: Bench| {
        let eth0 = bench.index("eth0").await;
        let wanted = forwarding(&[eth0]);
        bench.set(&wanted).await;
        for link in bench.xdp.held() {
            lb_userspace::sys::bpf::detach(std::os::fd::AsFd::as_fd(&link)).unwrap();
        }
        assert_eq!(bench.link("eth0").await.xdp, None);
        assert_eq!(bench.xdp.observed(), None);
        assert_eq!(bench.set(&wanted).await, NOTHING);
        assert!(bench.link("eth0").await.xdp.is_some());
    })
}

#[test]
fn a_real_server_with_another_mac_address_is_found_when_the_kernel_says_so() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _server = net.serve("b", VIP)?;
    let b = net.lab.node("b")?.netns();
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        let wanted = bench.holding(VIP, &["10.0.0.2"]).await;
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, NOTHING);
        assert_eq!(net.ask(VIP).unwrap(), "b");
        let mut watch = bench.rtnl.watch().unwrap();
        b.sysctl("ipv4.conf.eth0.arp_notify", "1").unwrap();
        b.ip("link set eth0 address 02:00:00:00:00:77\n").unwrap();
        let told = async {
            loop {
                let changes = watch.next().await.unwrap();
                let ours = |c: &Change| matches!(c, Change::Neighbour { interface, ip } if bench.xdp.watches(*interface, *ip));
                if changes.iter().any(ours) {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
        assert_eq!(bench.turn().await, NOTHING);
        let way = &bench.xdp.view().unwrap().backends[0].way;
        assert_eq!(way, "02:00:00:00:00:77 on eth0");
        assert_eq!(net.ask(VIP).unwrap(), "b");
    })
}

#[test]
fn a_director_with_another_mac_address_goes_on() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _server = net.serve("b", VIP)?;
    let a = net.lab.node("a")?.netns();
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        let wanted = bench.holding(VIP, &["10.0.0.2"]).await;
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, NOTHING);
        assert_eq!(net.ask(VIP).unwrap(), "b");
        a.sysctl("ipv4.conf.eth0.arp_notify", "1").unwrap();
        a.ip("link set eth0 address 02:00:00:00:00:55\n").unwrap();
        assert!(net.ask(VIP).is_err(), "frames to another address are not its own");
        assert_eq!(bench.settle().await, NOTHING);
        assert_eq!(net.ask(VIP).unwrap(), "b");
        assert!(bench.xdp.view().unwrap().passed.contains_key("not_for_us"));
    })
}

#[test]
fn a_real_server_that_is_not_on_the_link_is_a_problem_with_its_remedy() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let a = net.lab.node("a")?.netns();
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        a.ip("route add 10.9.0.0/24 via 10.0.0.2\nroute add prohibit 172.16.0.0/12\n")
            .unwrap();
        let wanted = bench.holding(VIP, &["10.9.0.1", "172.16.0.1", "10.0.0.1"]).await;
        bench.set(&wanted).await;
        let said = bench.settle().await;
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with(
                "the real server 10.9.0.1 is not on a network of this node (it is behind 10.0.0.2 on eth0)"
            ),
            "{said:?}"
        );
        assert!(said[0].ends_with("use `lbKind: TUN`"), "{said:?}");
        assert_eq!(said[1], "no route leads to the real server 172.16.0.1");
        let view = bench.xdp.view().unwrap();
        let way = |a: &str| {
            view.backends
                .iter()
                .find(|b| b.address.to_string() == a)
                .unwrap()
                .way
                .clone()
        };
        assert_eq!(way("10.0.0.1"), "this node");
        assert_eq!(way("10.9.0.1"), "its MAC address is not known");
        // Through a tunnel it is reached by way of its gateway.
        let eth0 = bench.index("eth0").await;
        let tunnel = with_service(forwarding(&[eth0]), VIP, eth0, &["10.9.0.1"], Method::Tunnel);
        bench.set(&tunnel).await;
        assert_eq!(bench.settle().await, NOTHING);
        let gateway = bench.rtnl.neighbours(eth0).await.unwrap();
        let gateway = gateway.iter().find(|n| n.ip.to_string() == "10.0.0.2").unwrap();
        let way = &bench.xdp.view().unwrap().backends[0].way;
        assert_eq!(*way, format!("{} on eth0", gateway.mac.unwrap()));
    })
}

#[test]
fn real_servers_on_another_interface_are_reached_through_it() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _server = net.serve("b", VIP)?;
    let (a, b) = (net.lab.node("a")?.netns(), net.lab.node("b")?.netns());
    a.ip(&format!(
        "link add eth1 type veth peer name eth1 netns {}\nlink set eth1 up\naddress add 10.2.0.1/24 dev eth1\n",
        b.name()
    ))?;
    b.ip("link set eth1 up\naddress add 10.2.0.2/24 dev eth1\n")?;
    let _receiver = veth::attach(b, "eth1", veth::PASS)?;
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        let wanted = bench.holding(VIP, &["10.2.0.2"]).await;
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, NOTHING);
        let view = bench.xdp.view().unwrap();
        assert!(view.backends[0].way.ends_with(" on eth1"), "{view:?}");
        let on: Vec<&str> = view.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(
            on,
            ["eth0", "eth1"],
            "what leaves natively needs a program where it leaves"
        );
        assert_eq!(net.ask(VIP).unwrap(), "b");
        let nothing = forwarding(&[bench.index("eth0").await]);
        assert_eq!(bench.set(&nothing).await, NOTHING);
        assert_eq!(
            bench.link("eth1").await.xdp,
            None,
            "and no longer than it leaves there"
        );
    })
}

#[test]
fn an_mtu_that_takes_several_buffers_takes_the_variant_for_them() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let a = net.lab.node("a")?.netns();
    net.direct(async |mut bench: Bench| {
        // The peer's packets are what has to fit a buffer.
        a.ip("link add v0 mtu 9000 type veth peer name v1 mtu 9000\n")
            .unwrap();
        let (eth0, v0) = (bench.index("eth0").await, bench.index("v0").await);
        assert_eq!(bench.set(&forwarding(&[eth0, v0])).await, NOTHING);
        let view = bench.xdp.view().unwrap();
        let [plain, frags] = view.interfaces.as_slice() else {
            panic!("{view:?}");
        };
        assert_eq!((plain.mode.as_str(), &plain.why), ("native", &None));
        assert_eq!(frags.mode, "native");
        let why = frags.why.as_deref().unwrap();
        assert_eq!(why, "an MTU of 9000 takes frames of several buffers");
        assert_ne!(plain.program, frags.program);
        // One goes on with the maps of the other, and both are replaced together.
        bench.xdp.replace(bench.xdp.globals()).unwrap();
        let again = bench.xdp.view().unwrap();
        assert_ne!(again.interfaces[1].program, frags.program);
        assert!(bench.xdp.observed().is_some());
    })
}

#[test]
fn a_bridge_is_generic_and_says_why() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    let a = net.lab.node("a")?.netns();
    a.ip(
        "link add br0 type bridge forward_delay 0\nlink set eth0 master br0\naddress flush dev eth0\n\
          address add 10.0.0.1/24 dev br0\nlink set br0 up\n",
    )?;
    a.ip(&format!("address add {VIP}/24 dev br0\n"))?;
    net.direct(async |mut bench: Bench| {
        let br0 = bench.index("br0").await;
        let wanted = with_service(forwarding(&[br0]), VIP, br0, &BACKENDS, Method::Direct);
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, NOTHING);
        let on = &bench.xdp.view().unwrap().interfaces[0];
        assert_eq!(on.mode, "generic");
        assert_eq!(
            on.why.as_deref(),
            Some("br0 is a bridge device, which no driver runs XDP on")
        );
        assert!(!bench.link("br0").await.xdp.unwrap().native);
        let mut seen: Vec<String> = (0..20).map(|_| net.ask(VIP).unwrap()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["b", "c"]);
        let mut native = wanted;
        native.attach.mode = XdpMode::Native;
        let said = bench.set(&native).await;
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("the XDP program cannot be on br0 as `mode: native` asks: "),
            "{said:?}"
        );
    })
}

#[test]
fn a_vlan_is_generic_until_its_parent_leaves_the_tags_in_frames() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let vlan = |node: &str, address: &str| -> Result<()> {
        let netns = net.lab.node(node)?.netns();
        netns.ip(&format!(
            "link add link eth0 name eth0.100 type vlan id 100\nlink set eth0.100 up\naddress add {address}/24 dev eth0.100\n"
        ))
    };
    if let Err(error) = vlan("a", "10.1.0.1") {
        skip!(
            "this kernel has no VLAN devices ({})",
            support::first_line(&error)
        );
    }
    for (node, address) in [("b", "10.1.0.2"), ("c", "10.1.0.3"), ("client", "10.1.0.9")] {
        vlan(node, address)?;
    }
    let vip = "10.1.0.100";
    let _servers = [net.serve("b", vip)?, net.serve("c", vip)?];
    let a = net.lab.node("a")?.netns();
    a.ip(&format!("address add {vip}/24 dev eth0.100\n"))?;
    veth::checksum_at_once(net.lab.node("client")?.netns(), "eth0.100")?;
    net.direct(async |mut bench: Bench| {
        let index = bench.index("eth0.100").await;
        let wanted = with_service(
            forwarding(&[index]),
            vip,
            index,
            &["10.1.0.2", "10.1.0.3"],
            Method::Direct,
        );
        let asked = |net: &Net| {
            let mut seen: Vec<String> = (0..20).map(|_| net.ask(vip).unwrap()).collect();
            seen.sort();
            seen.dedup();
            seen
        };
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, NOTHING);
        let on = bench.xdp.view().unwrap().interfaces[0].clone();
        assert_eq!((on.name.as_str(), on.mode.as_str()), ("eth0.100", "generic"));
        assert!(on.why.unwrap().contains("`ethtool -K eth0 rxvlan off`"));
        assert_eq!(asked(&net), ["b", "c"]);
        // As a network card that leaves the tags where they are.
        veth::leave_vlan_tags(a, "eth0").unwrap();
        for node in net.lab.nodes() {
            veth::leave_vlan_tags(net.lab.switch(), &format!("{}.eth0", node.name())).unwrap();
        }
        assert_eq!(bench.settle().await, NOTHING);
        let view = bench.xdp.view().unwrap();
        assert_eq!(view.interfaces.len(), 1, "{view:?}");
        let on = &view.interfaces[0];
        assert_eq!(
            (on.name.as_str(), on.mode.as_str(), &on.why),
            ("eth0", "native", &None)
        );
        assert_eq!(asked(&net), ["b", "c"]);
        assert!(bench.xdp.view().unwrap().dropped.is_empty());
    })
}

#[test]
fn a_bond_takes_it_natively_or_says_why_not() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _server = net.serve("b", VIP)?;
    let a = net.lab.node("a")?.netns();
    if let Err(error) = a.ip("link add bond0 type bond mode active-backup miimon 100\n") {
        skip!("this kernel has no bonds ({})", support::first_line(&error));
    }
    // The bond has the address from now on; left on the port too, it would keep the route there.
    a.ip("link set eth0 down\naddress flush dev eth0\nlink set eth0 master bond0\naddress add 10.0.0.1/24 dev bond0\nlink set bond0 up\n")?;
    a.ip(&format!("address add {VIP}/24 dev bond0\n"))?;
    net.direct(async |mut bench: Bench| {
        let bond0 = bench.index("bond0").await;
        let wanted = with_service(forwarding(&[bond0]), VIP, bond0, &["10.0.0.2"], Method::Direct);
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, NOTHING);
        let on = &bench.xdp.view().unwrap().interfaces[0];
        assert!(on.mode == "native" || on.why.is_some(), "{on:?}");
        assert_eq!(net.ask(VIP).unwrap(), "b");
    })
}

#[test]
fn loopback_is_refused_with_the_reason() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    Net::new()?.direct(async |mut bench: Bench| {
        let lo = bench.index("lo").await;
        let said = bench.set(&forwarding(&[lo])).await;
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("the XDP program cannot be on lo: "),
            "{said:?}"
        );
        assert_eq!(bench.link("lo").await.xdp, None);
    })
}
