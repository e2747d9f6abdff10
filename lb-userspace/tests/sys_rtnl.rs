//! Addresses and links against a real kernel, in network namespaces of the tests' own. Skipped without root.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use lb_common::model::{Family, IpPrefix};
use lb_common::plan::{AddressKey, Lifetime};
use lb_userspace::sys::rtnl::{
    Address, Change, NeighbourState, OWNER, Remaining, RouteKind, Rtnl, RtnlError, Scope,
};
use lb_userspace::sys::sysctl::Sysctl;
use nix::mount::{MsFlags, mount};
use std::future::Future;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

const LEASE: Lifetime = Lifetime::Lease(Duration::from_secs(3));

/// Runs `test` on a thread in a new network namespace, which goes with the thread.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root to make a network namespace");
        return;
    }
    let thread = std::thread::spawn(move || {
        if let Err(e) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            println!("skipped: cannot make a network namespace: {e}");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip ARGS`, in the namespace of the calling thread.
fn ip(args: &str) -> String {
    let out = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(
        out.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// A veth pair `va`-`vb`, both up. Gives the index of `va`.
async fn pair(rtnl: &mut Rtnl) -> u32 {
    ip("link add va type veth peer name vb");
    ip("link set vb up");
    ip("link set va up");
    ip("link set lo up");
    rtnl.link_named("va").await.unwrap().unwrap().index
}

fn key(interface: u32, address: &str) -> AddressKey {
    AddressKey {
        interface,
        address: address.parse().unwrap(),
    }
}

async fn find(rtnl: &mut Rtnl, key: AddressKey) -> Option<Address> {
    rtnl.addresses().await.unwrap().into_iter().find(|a| a.key == key)
}

#[test]
fn an_address_is_put_with_our_mark_and_a_lease_and_taken_away() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        for text in [
            "192.0.2.7/24",
            "198.51.100.1/32",
            "2001:db8::7/64",
            "2001:db8:1::1/128",
        ] {
            let key = key(a, text);
            rtnl.put_address(key, LEASE).await.unwrap();
            let found = find(&mut rtnl, key).await.unwrap();
            assert!(found.is_ours() && found.owner == Some(OWNER), "{found:?}");
            assert!(
                found.deprecated && !found.tentative && !found.secondary,
                "{found:?}"
            );
            assert_eq!(found.scope, Scope::Global);
            assert!(matches!(found.remaining, Remaining::Seconds(2 | 3)), "{found:?}");
            rtnl.delete_address(key).await.unwrap();
            assert_eq!(find(&mut rtnl, key).await, None);
            rtnl.delete_address(key).await.unwrap();
        }
    });
}

#[test]
fn a_put_shortens_and_lengthens_and_takes_over() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        ip("address add 192.0.2.7/24 dev va");
        ip("address add 2001:db8::7/64 dev va nodad");
        for key in [key(a, "192.0.2.7/24"), key(a, "2001:db8::7/64")] {
            assert_eq!(find(&mut rtnl, key).await.unwrap().owner, None);
            let long = Lifetime::Lease(Duration::from_secs(600));
            rtnl.put_address(key, long).await.unwrap();
            let found = find(&mut rtnl, key).await.unwrap();
            // Kernels before 6.4 leave the mark as it was, which is none.
            assert!(found.is_ours() || found.owner.is_none());
            assert!(
                matches!(found.remaining, Remaining::Seconds(599 | 600)),
                "{found:?}"
            );
            rtnl.put_address(key, Lifetime::Lease(Duration::from_millis(1500)))
                .await
                .unwrap();
            let found = find(&mut rtnl, key).await.unwrap();
            assert!(matches!(found.remaining, Remaining::Seconds(1 | 2)), "{found:?}");
            rtnl.put_address(key, Lifetime::Forever).await.unwrap();
            let found = find(&mut rtnl, key).await.unwrap();
            assert_eq!((found.remaining, found.deprecated), (Remaining::Forever, true));
        }
    });
}

#[test]
fn a_lease_cut_short_ends_when_it_says() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        let keys = [key(a, "192.0.2.7/24"), key(a, "2001:db8::7/64")];
        for key in keys {
            let long = Lifetime::Lease(Duration::from_secs(600));
            rtnl.put_address(key, long).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        for key in keys {
            let short = Lifetime::Lease(Duration::from_secs(1));
            rtnl.put_address(key, short).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2500)).await;
        for key in keys {
            assert_eq!(find(&mut rtnl, key).await, None);
        }
    });
}

#[test]
fn an_unrenewed_lease_ends_and_a_renewed_one_does_not() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        let dying = [key(a, "192.0.2.7/24"), key(a, "2001:db8::7/64")];
        let living = [key(a, "192.0.2.8/24"), key(a, "2001:db8::8/64")];
        for key in dying.iter().chain(&living) {
            rtnl.put_address(*key, LEASE).await.unwrap();
        }
        let start = Instant::now();
        let mut gone = [None; 2];
        while start.elapsed() < Duration::from_secs(5) {
            for key in living {
                rtnl.put_address(key, LEASE).await.unwrap();
            }
            let now = rtnl.addresses().await.unwrap();
            for (key, gone) in dying.iter().zip(&mut gone) {
                if gone.is_none() && !now.iter().any(|a| a.key == *key) {
                    *gone = Some(start.elapsed());
                }
            }
            for key in living {
                assert!(
                    now.iter().any(|a| a.key == key),
                    "{key:?} after {:?}",
                    start.elapsed()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("a lease of 3 s ended after {gone:?}");
        assert!(gone.iter().all(Option::is_some), "{gone:?}");
    });
}

#[test]
fn many_addresses_go_in_one_call_and_each_has_its_own_result() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        let mut items: Vec<_> = (1..=254)
            .map(|n| (key(a, &format!("192.0.2.{n}/24")), LEASE))
            .collect();
        items[100].0.interface = 9999;
        let start = Instant::now();
        let results = rtnl.put_addresses(&items).await;
        let took = start.elapsed();
        let start = Instant::now();
        let again = rtnl.put_addresses(&items).await;
        println!(
            "254 addresses: added in {took:?}, renewed in {:?}",
            start.elapsed()
        );
        for results in [&results, &again] {
            assert_eq!(results.len(), 254);
            assert_eq!(results.iter().filter(|r| r.is_err()).count(), 1);
        }
        let error = results[100].as_ref().unwrap_err().to_string();
        assert!(
            error.starts_with("adding 192.0.2.101/24 to interface 9999: No such device"),
            "{error}"
        );
        assert_eq!(
            rtnl.addresses()
                .await
                .unwrap()
                .iter()
                .filter(|a| a.is_ours())
                .count(),
            253
        );
        let keys: Vec<_> = items.iter().map(|(key, _)| *key).collect();
        let start = Instant::now();
        let results = rtnl.delete_addresses(&keys).await;
        println!("254 addresses: removed in {:?}", start.elapsed());
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(
            rtnl.addresses()
                .await
                .unwrap()
                .iter()
                .filter(|a| a.is_ours())
                .count(),
            0
        );
    });
}

#[test]
fn the_hosts_route_to_its_subnet_is_untouched_by_a_vip_within_it() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        ip("address add 192.0.2.1/24 dev va");
        ip("address add 2001:db8::1/64 dev va nodad");
        let routes = || (ip("-4 route show table main"), ip("-6 route show table main"));
        let before = routes();
        let vips = [key(a, "192.0.2.7/24"), key(a, "2001:db8::7/64")];
        for lifetime in [LEASE, Lifetime::Lease(Duration::from_secs(1)), Lifetime::Forever] {
            for vip in vips {
                rtnl.put_address(vip, lifetime).await.unwrap();
            }
            assert_eq!(routes(), before);
        }
        assert!(find(&mut rtnl, vips[0]).await.unwrap().secondary);
        // New connections go on from the host's own addresses.
        for vip in vips {
            rtnl.put_address(vip, Lifetime::Lease(Duration::from_secs(1)))
                .await
                .unwrap();
        }
        for (to, from) in [("192.0.2.99", "192.0.2.1"), ("2001:db8::99", "2001:db8::1")] {
            let route = rtnl.route_to(to.parse().unwrap()).await.unwrap().unwrap();
            assert_eq!((route.interface, route.source), (a, Some(from.parse().unwrap())));
            assert_eq!((route.via, route.kind), (None, RouteKind::Unicast));
        }
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(find(&mut rtnl, vips[0]).await, None);
        assert_eq!(routes(), before);
        for vip in vips {
            rtnl.put_address(vip, LEASE).await.unwrap();
            rtnl.delete_address(vip).await.unwrap();
        }
        assert_eq!(routes(), before);
    });
}

#[test]
fn a_vip_that_is_the_primary_leaves_the_others_when_it_goes() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        let vip = key(a, "192.0.2.7/24");
        let host = key(a, "192.0.2.1/24");
        rtnl.put_address(vip, LEASE).await.unwrap();
        ip("address add 192.0.2.1/24 dev va");
        assert!(find(&mut rtnl, host).await.unwrap().secondary);
        rtnl.delete_address(vip).await.unwrap();
        assert!(!find(&mut rtnl, host).await.unwrap().secondary);
        assert!(
            ip("route show").contains("192.0.2.0/24 dev va"),
            "the route stays with the host's address"
        );

        // By expiry as well, which nobody can refuse at that moment.
        rtnl.delete_address(host).await.unwrap();
        rtnl.put_address(vip, Lifetime::Lease(Duration::from_secs(1)))
            .await
            .unwrap();
        ip("address add 192.0.2.1/24 dev va");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(find(&mut rtnl, vip).await, None);
        assert!(find(&mut rtnl, host).await.is_some());
        assert!(ip("route show").contains("192.0.2.0/24 dev va"));

        // Removed in one go with all that depend on it.
        let all = [vip, key(a, "192.0.2.8/24"), host];
        for key in &all {
            rtnl.put_address(*key, LEASE).await.unwrap();
        }
        assert!(rtnl.delete_addresses(&all).await.iter().all(Result::is_ok));
    });
}

#[test]
fn where_the_switch_cannot_be_set_the_primary_stays() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        Sysctl::ipv4("all", "promote_secondaries")
            .unwrap()
            .write("0")
            .unwrap();
        Sysctl::ipv4("va", "promote_secondaries")
            .unwrap()
            .write("0")
            .unwrap();
        // As in a container: this thread alone sees /proc/sys read-only.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        let bind = MsFlags::MS_BIND;
        for (from, to, flags) in [
            (none, "/", MsFlags::MS_REC | MsFlags::MS_PRIVATE),
            (Some("/proc/sys"), "/proc/sys", bind),
            (none, "/proc/sys", bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY),
        ] {
            mount(from, to, none, flags, none).unwrap_or_else(|e| panic!("mount {to}: {e}"));
        }
        let [vip, host, free] = ["192.0.2.7/24", "192.0.2.1/24", "198.51.100.7/24"].map(|t| key(a, t));
        for key in [vip, host, free] {
            rtnl.put_address(key, LEASE).await.unwrap();
        }
        let results = rtnl.delete_addresses(&[free, vip]).await;
        assert!(results[0].is_ok());
        let error = results[1].as_ref().unwrap_err();
        assert!(matches!(error, RtnlError::WouldRemoveOthers { .. }));
        let text = error.to_string();
        assert!(
            text.contains("would remove 192.0.2.1/24 too") && text.contains("read-only"),
            "{text}"
        );
        assert!(find(&mut rtnl, vip).await.is_some() && find(&mut rtnl, host).await.is_some());
        // A secondary, and a primary together with all its secondaries, endanger nobody.
        rtnl.delete_address(host).await.unwrap();
        rtnl.put_address(host, LEASE).await.unwrap();
        assert!(
            rtnl.delete_addresses(&[vip, host])
                .await
                .iter()
                .all(Result::is_ok)
        );
    });
}

#[test]
fn links_are_listed_and_a_link_of_another_type_is_not_taken_for_a_dummy() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        ip("link set va alias somebody");
        ip("link add br0 type bridge");
        ip("link set vb master br0");
        let links = rtnl.links().await.unwrap();
        let named = |name: &str| links.iter().find(|l| l.name == name).unwrap();
        assert!(named("lo").loopback && named("lo").kind.is_none());
        assert_eq!(named("va").index, a);
        assert_eq!((named("va").up, named("va").running), (true, true));
        assert_eq!(named("va").kind.as_deref(), Some("veth"));
        assert_eq!(named("va").alias.as_deref(), Some("somebody"));
        assert!(named("va").mac.is_some());
        assert_eq!(named("vb").master, Some(named("br0").index));
        assert!(!named("br0").up);
        let error = rtnl.ensure_dummy("va", "cplb").await.unwrap_err();
        assert!(
            matches!(&error, RtnlError::WrongKind { kind, .. } if kind == "veth"),
            "{error}"
        );
        assert!(matches!(
            rtnl.ensure_dummy("lo", "cplb").await,
            Err(RtnlError::WrongKind { .. })
        ));
        rtnl.delete_link(a).await.unwrap();
        rtnl.delete_link(a).await.unwrap();
        assert_eq!(rtnl.link_named("va").await.unwrap(), None);
    });
}

#[test]
fn a_dummy_is_made_marked_up_and_adopted() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let dummy = match rtnl.ensure_dummy("dummyvip0", "cplb").await {
            Ok(dummy) => dummy,
            Err(e @ RtnlError::Unsupported { .. }) => {
                println!("skipped: {e}");
                return;
            }
            Err(e) => panic!("{e}"),
        };
        assert!(!dummy.adopted);
        let link = rtnl.link_named("dummyvip0").await.unwrap().unwrap();
        assert!(link.up && link.alias.as_deref() == Some("cplb"), "{link:?}");
        assert_eq!(rtnl.ensure_dummy("dummyvip0", "cplb").await.unwrap(), dummy);
        ip("link add theirs type dummy");
        assert!(rtnl.ensure_dummy("theirs", "cplb").await.unwrap().adopted);
        assert!(rtnl.link_named("theirs").await.unwrap().unwrap().up);
    });
}

#[test]
fn neighbours_are_probed_and_routes_found() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        ip("address add 192.0.2.1/24 dev va");
        assert_eq!(rtnl.default_route(Family::Ipv4).await.unwrap(), None);
        assert_eq!(rtnl.route_to("203.0.113.1".parse().unwrap()).await.unwrap(), None);
        assert_eq!(rtnl.default_route(Family::Ipv6).await.unwrap(), None);
        assert_eq!(
            rtnl.route_to("2001:db8:9::1".parse().unwrap()).await.unwrap(),
            None
        );
        ip("route add default via 192.0.2.254 metric 50");
        ip("route add default dev vb metric 100");
        let gateway: IpAddr = "192.0.2.254".parse().unwrap();
        let route = rtnl.default_route(Family::Ipv4).await.unwrap().unwrap();
        assert_eq!((route.interface, route.via, route.metric), (a, Some(gateway), 50));
        let local = rtnl
            .route_to("192.0.2.1".parse().unwrap())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(local.kind, RouteKind::Local);

        let mut watch = rtnl.watch().unwrap();
        rtnl.probe_neighbour(a, gateway).await.unwrap();
        let found = rtnl.neighbours(a).await.unwrap();
        let entry = found.iter().find(|n| n.ip == gateway).unwrap();
        assert_eq!(
            (entry.state, entry.mac, entry.usable()),
            (NeighbourState::Incomplete, None, None)
        );
        ip("neighbour replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev va");
        let changes = watch.next().await.unwrap();
        let nine: IpAddr = "192.0.2.9".parse().unwrap();
        assert!(
            changes.contains(&Change::Neighbour {
                interface: a,
                ip: nine
            }),
            "{changes:?}"
        );
        let found = rtnl.neighbours(a).await.unwrap();
        let entry = found.iter().find(|n| n.ip == nine).unwrap();
        assert_eq!(entry.usable().unwrap().to_string(), "02:00:00:00:00:09");
    });
}

#[test]
fn others_changes_are_seen_once_and_our_own_are_not() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        let mut watch = rtnl.watch().unwrap();
        let quiet = async |watch: &mut lb_userspace::sys::rtnl::Watch| {
            while tokio::time::timeout(Duration::from_millis(200), watch.next())
                .await
                .is_ok()
            {}
        };
        quiet(&mut watch).await;
        let vip = key(a, "198.51.100.1/32");
        for _ in 0..3 {
            rtnl.put_address(vip, LEASE).await.unwrap();
        }
        rtnl.delete_address(vip).await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");

        rtnl.put_address(vip, LEASE).await.unwrap();
        ip("address flush dev va");
        let changes = watch.next().await.unwrap();
        assert!(changes.contains(&Change::Address(vip)), "{changes:?}");
        quiet(&mut watch).await;
        ip("link set va down");
        assert!(watch.next().await.unwrap().contains(&Change::Link(a)));
    });
}

#[test]
fn a_reader_that_was_too_slow_is_told_to_read_everything() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        let mut watch = rtnl.watch().unwrap();
        let mut other = Rtnl::open().unwrap();
        let items: Vec<_> = (1..=254)
            .map(|n| (key(a, &format!("10.9.0.{n}/32")), LEASE))
            .collect();
        for _ in 0..20 {
            other.put_addresses(&items).await;
        }
        let changes = watch.next().await.unwrap();
        assert!(changes.contains(&Change::Resync), "{} changes", changes.len());
        assert!(changes.len() <= 254 + 10, "coalesced: {}", changes.len());
    });
}

#[test]
fn an_abandoned_request_does_not_disturb_the_next() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        let items: Vec<_> = (0..2000)
            .map(|n| (key(a, &format!("10.9.{}.{}/32", n / 250, n % 250 + 1)), LEASE))
            .collect();
        assert!(rtnl.put_addresses(&items).await.iter().all(Result::is_ok));
        for _ in 0..5 {
            // Polled once, then dropped with most of its list unread.
            let mut dump = Box::pin(rtnl.addresses());
            let waker = std::task::Waker::noop();
            let _ = dump.as_mut().poll(&mut std::task::Context::from_waker(waker));
            drop(dump);
            assert!(rtnl.links().await.unwrap().len() >= 3);
        }
        assert_eq!(
            rtnl.addresses()
                .await
                .unwrap()
                .iter()
                .filter(|x| x.is_ours())
                .count(),
            2000
        );
    });
}

#[test]
fn labels_are_set_and_removed() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let vip = "2001:db8::7".parse().unwrap();
        rtnl.set_address_label(vip, 10000).await.unwrap();
        rtnl.set_address_label(vip, 10000).await.unwrap();
        let labels = rtnl.address_labels().await.unwrap();
        let found: Vec<_> = labels
            .iter()
            .filter(|l| l.prefix == IpPrefix::host(vip.into()))
            .collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].label, 10000);
        rtnl.delete_address_label(vip).await.unwrap();
        rtnl.delete_address_label(vip).await.unwrap();
        assert!(
            !rtnl
                .address_labels()
                .await
                .unwrap()
                .iter()
                .any(|l| l.label == 10000)
        );
    });
}

#[test]
fn switches_of_this_namespace_are_read_and_set() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        pair(&mut rtnl).await;
        ip("link set va down");
        ip("link set va name eth0.100");
        let switch = Sysctl::ipv4("eth0.100", "arp_ignore").unwrap();
        assert_eq!(switch.read_number().unwrap(), 0);
        assert!(switch.ensure(1).unwrap());
        assert!(!switch.ensure(1).unwrap());
        assert_eq!(switch.read().unwrap(), "1");
    });
}

#[test]
fn what_the_kernel_refuses_is_told_in_its_words() {
    in_namespace(async || {
        let mut rtnl = Rtnl::open().unwrap();
        let a = pair(&mut rtnl).await;
        Sysctl::ipv6("va", "disable_ipv6").unwrap().write("1").unwrap();
        let error = rtnl
            .put_address(key(a, "2001:db8::7/64"), LEASE)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("adding 2001:db8::7/64 to va: Permission denied (EACCES)"),
            "{text}"
        );
        // The kernel's own words, where it is new enough to have some (6.3).
        assert!(
            text.ends_with("(EACCES)") || text.ends_with("IPv6 is disabled on this device"),
            "{text}"
        );
        assert!(!error.is_transient());
    });
}
