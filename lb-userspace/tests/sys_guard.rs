//! The director guard against a real kernel, in network namespaces of the tests' own. Skipped without root or nf_tables.
//! That IPVS passes over what is hidden is tried in a VM; here a spying chain stands where IPVS would.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use lb_common::model::MacAddr;
use lb_userspace::sys::guard::{Applied, Guard, GuardError, GuardSpec};
use std::collections::BTreeSet;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const VIP4: &str = "192.0.2.10";
const VIP6: &str = "2001:db8::10";
const LEASE: Duration = Duration::from_secs(5);

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
        runtime.block_on(async {
            match Guard::open().unwrap().apply(&GuardSpec::default()).await {
                Ok(_) => {
                    Guard::open().unwrap().remove().await.unwrap();
                    test().await;
                }
                Err(e @ GuardError::Unsupported { .. }) => println!("skipped: {e}"),
                Err(e) => panic!("{e}"),
            }
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(program: &str, args: &str) -> String {
    let out = Command::new(program)
        .args(args.split_whitespace())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{program} {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

fn ip(args: &str) -> String {
    run("ip", args)
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in another namespace that does what it is told.
struct Client {
    jobs: mpsc::Sender<Job>,
}

impl Client {
    /// Joined to the calling thread's namespace by a veth pair, with addresses, and with the VIPs here on `lo`.
    fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (tid, ready) = mpsc::channel();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            tid.send(nix::unistd::gettid()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let tid = ready.recv().unwrap();
        ip("link set lo up");
        ip("link add va type veth peer name vb");
        ip(&format!("link set vb netns {tid}"));
        ip("addr add 198.51.100.1/24 dev va");
        ip("addr add 2001:db8:1::1/64 dev va nodad");
        ip("link set va up");
        ip(&format!("addr add {VIP4}/32 dev lo"));
        ip(&format!("addr add {VIP6}/128 dev lo nodad"));
        let client = Self { jobs };
        client.run(|| {
            ip("link set lo up");
            ip("addr add 198.51.100.2/24 dev vb");
            ip("addr add 2001:db8:1::2/64 dev vb nodad");
            ip("link set vb up");
            ip(&format!("route add {VIP4} via 198.51.100.1"));
            ip(&format!("route add {VIP6} via 2001:db8:1::1"));
        });
        client
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(done.send(job())))).unwrap();
        result.recv().unwrap()
    }

    fn mac(&self) -> MacAddr {
        let text = self.run(|| ip("-o link show dev vb"));
        let mut words = text.split_whitespace().skip_while(|w| *w != "link/ether");
        words.nth(1).unwrap().parse().unwrap()
    }

    /// 64 KiB there and back over TCP, and a datagram, to each VIP.
    fn talk(&self) {
        for vip in [VIP4, VIP6] {
            let vip: IpAddr = vip.parse().unwrap();
            let listener = TcpListener::bind((vip, 0)).unwrap();
            let socket = UdpSocket::bind(listener.local_addr().unwrap()).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let echo = std::thread::spawn({
                move || {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut all = vec![0; 1 << 16];
                    stream.read_exact(&mut all).unwrap();
                    stream.write_all(&all).unwrap();
                }
            });
            let to = socket.local_addr().unwrap();
            let back = self.run(move || ask(to));
            assert!(back, "{to} does not answer");
            let mut datagram = [0; 16];
            assert_eq!(socket.recv(&mut datagram).unwrap(), 5, "{to}");
            echo.join().unwrap();
        }
    }
}

fn ask(to: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(3)) else {
        return false;
    };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let all: Vec<u8> = (0..1u32 << 16).map(|n| n.to_le_bytes()[0]).collect();
    let mut back = vec![0; all.len()];
    stream.write_all(&all).unwrap();
    stream.read_exact(&mut back).unwrap();
    let from: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    UdpSocket::bind(from).unwrap().send_to(b"hello", to).unwrap();
    back == all
}

/// Chains at IPVS's two priorities that count what is still for a VIP, and at the end what is for a VIP again.
fn spy() {
    let rules = format!(
        "table inet spy {{
          counter seen {{ }}
          counter after {{ }}
          counter sent {{ }}
          chain a {{ type filter hook input priority 98
            ip daddr {VIP4} counter name seen
            ip6 daddr {VIP6} counter name seen
          }}
          chain b {{ type filter hook input priority 99
            ip daddr {VIP4} counter name seen
            ip6 daddr {VIP6} counter name seen
          }}
          chain o {{ type filter hook output priority -98
            ip daddr {VIP4} counter name sent
            ip6 daddr {VIP6} counter name sent
          }}
          chain c {{ type filter hook input priority 200
            ip daddr {VIP4} counter name after
            ip6 daddr {VIP6} counter name after
          }}
        }}
        "
    );
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Packets of a spying counter, which is set back.
fn spied(counter: &str) -> u64 {
    let text = run("nft", &format!("reset counter inet spy {counter}"));
    let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
    words.nth(1).unwrap().parse().unwrap()
}

fn spec(vips: &[&str], peers: &[MacAddr]) -> GuardSpec {
    GuardSpec {
        vips: vips.iter().map(|v| v.parse().unwrap()).collect(),
        peers: peers.iter().copied().collect(),
        ..GuardSpec::default()
    }
}

fn vips() -> [IpAddr; 2] {
    [VIP4.parse().unwrap(), VIP6.parse().unwrap()]
}

#[test]
fn what_is_applied_is_read_back_and_applied_once() {
    in_namespace(async || {
        let mut guard = Guard::open().unwrap();
        assert_eq!(guard.read_back().await.unwrap(), None);
        let peer = MacAddr([2, 0, 0, 0, 0, 1]);
        let mut wanted = spec(&[VIP4, VIP6, "203.0.2.10"], &[peer]);
        assert_eq!(guard.apply(&wanted).await.unwrap(), Applied::Created);
        assert_eq!(guard.apply(&wanted).await.unwrap(), Applied::Unchanged);
        let state = guard.read_back().await.unwrap().unwrap();
        assert!(state.intact && state.directing.is_empty(), "{state:?}");
        assert_eq!(state.spec, wanted);
        guard.renew(&vips(), LEASE).await.unwrap();

        wanted.tunnels = true;
        wanted.keep_own_clients = true;
        wanted.peers.clear();
        wanted.vips.remove(&"203.0.2.10".parse().unwrap());
        assert_eq!(guard.apply(&wanted).await.unwrap(), Applied::Updated);
        // Another one, as after a restart, finds the same; the lease goes on.
        let mut other = Guard::open().unwrap();
        let state = other.read_back().await.unwrap().unwrap();
        assert_eq!(state.spec, wanted);
        assert_eq!(state.directing.keys().copied().collect::<Vec<_>>(), vips());
        assert!(
            state
                .directing
                .values()
                .all(|left| *left > LEASE / 2 && *left <= LEASE),
            "{state:?}"
        );
        assert_eq!(other.apply(&wanted).await.unwrap(), Applied::Unchanged);
        assert_eq!(
            other.apply(&GuardSpec::default()).await.unwrap(),
            Applied::Updated
        );
        assert_eq!(
            other.read_back().await.unwrap().unwrap().spec,
            GuardSpec::default()
        );
    });
}

#[test]
fn without_a_lease_nothing_is_seen_where_ipvs_would_be_and_all_is_answered() {
    in_namespace(async || {
        let client = Client::new();
        let mut guard = Guard::open().unwrap();
        spy();
        client.talk();
        assert!(spied("seen") > 0);
        guard.apply(&spec(&[VIP4, VIP6], &[])).await.unwrap();
        spied("after");
        client.talk();
        assert_eq!(spied("seen"), 0);
        let counters = guard.read_back().await.unwrap().unwrap().counters;
        assert!(
            counters.not_directing.packets > 10 && counters.not_directing.bytes > 2 << 16,
            "{counters:?}"
        );
        assert_eq!(counters.not_directing, counters.restored);
        assert_eq!(spied("after"), counters.restored.packets);
        assert_eq!(counters.from_peers.packets, 0);

        // One family directed: the other is hidden all the same.
        guard.renew(&vips()[..1], LEASE).await.unwrap();
        client.talk();
        let seen = spied("seen");
        let later = guard.read_back().await.unwrap().unwrap().counters;
        assert!(seen > 0 && later.not_directing.packets > counters.not_directing.packets);
        guard.renew(&vips(), LEASE).await.unwrap();
        client.talk();
        assert_eq!(guard.read_back().await.unwrap().unwrap().counters, later);
        assert!(spied("seen") > seen);
    });
}

#[test]
fn what_a_peer_sent_is_hidden_from_a_director_too() {
    in_namespace(async || {
        let client = Client::new();
        let mut guard = Guard::open().unwrap();
        let peers = [client.mac(), MacAddr([2, 0, 0, 0, 0, 1])];
        guard.apply(&spec(&[VIP4, VIP6], &peers)).await.unwrap();
        guard.renew(&vips(), LEASE).await.unwrap();
        spy();
        client.talk();
        assert_eq!(spied("seen"), 0);
        let counters = guard.read_back().await.unwrap().unwrap().counters;
        assert!(counters.from_peers.packets > 10, "{counters:?}");
        assert_eq!(counters.from_peers, counters.restored);
        assert_eq!(counters.not_directing.packets, 0);
        guard.apply(&spec(&[VIP4, VIP6], &[])).await.unwrap();
        client.talk();
        assert!(spied("seen") > 0);
    });
}

#[test]
fn what_came_by_a_tunnel_is_hidden_where_that_is_wanted() {
    in_namespace(async || {
        let client = Client::new();
        let tunnel = |remote, local| {
            let mut args = format!("link add tun1 type gre remote {remote} local {local}");
            if Command::new("ip")
                .args(args.split_whitespace())
                .status()
                .unwrap()
                .success()
            {
                return true;
            }
            args = args.replace("gre", "ipip");
            Command::new("ip")
                .args(args.split_whitespace())
                .status()
                .unwrap()
                .success()
        };
        if !tunnel("198.51.100.2", "198.51.100.1") {
            println!("skipped: this kernel has neither gre nor ipip devices");
            return;
        }
        ip("link set tun1 up");
        client.run(move || {
            assert!(tunnel("198.51.100.1", "198.51.100.2"));
            ip("link set tun1 up");
            ip("addr add 203.0.113.2/32 dev tun1");
            ip(&format!("route replace {VIP4} dev tun1 src 203.0.113.2"));
        });
        ip("route add 203.0.113.2 dev tun1");
        let mut guard = Guard::open().unwrap();
        let mut wanted = spec(&[VIP4, VIP6], &[]);
        guard.apply(&wanted).await.unwrap();
        guard.renew(&vips(), LEASE).await.unwrap();
        spy();
        client.talk();
        assert!(spied("seen") > 0);
        wanted.tunnels = true;
        guard.apply(&wanted).await.unwrap();
        client.talk();
        let counters = guard.read_back().await.unwrap().unwrap().counters;
        assert!(counters.from_tunnels.packets > 10, "{counters:?}");
        assert_eq!(counters.from_tunnels, counters.restored);
    });
}

#[test]
fn own_clients_are_kept_where_that_is_wanted() {
    in_namespace(async || {
        let _client = Client::new();
        let mut guard = Guard::open().unwrap();
        let mut wanted = spec(&[VIP4, VIP6], &[]);
        guard.apply(&wanted).await.unwrap();
        guard.renew(&vips(), LEASE).await.unwrap();
        spy();
        let talk = || {
            for vip in vips() {
                let listener = TcpListener::bind((vip, 0)).unwrap();
                let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut accepted, from) = listener.accept().unwrap();
                assert_eq!(from.ip(), vip);
                accepted.write_all(b"hello").unwrap();
                stream.read_exact(&mut [0; 5]).unwrap();
            }
        };
        talk();
        assert!(spied("sent") > 0 && spied("seen") > 0);
        wanted.keep_own_clients = true;
        guard.apply(&wanted).await.unwrap();
        talk();
        assert_eq!(spied("sent"), 0);
        let counters = guard.read_back().await.unwrap().unwrap().counters;
        assert!(counters.own_clients.packets > 6, "{counters:?}");
        assert_eq!(counters.own_clients, counters.returned);
        assert_eq!(counters.own_arrived, counters.own_clients);
        assert_eq!(counters.own_arrived, counters.restored);
        assert_eq!(spied("seen"), 0);
    });
}

#[test]
fn the_lease_ends_by_itself_and_lives_on_while_renewed() {
    in_namespace(async || {
        let mut guard = Guard::open().unwrap();
        guard.apply(&spec(&[VIP4, VIP6], &[])).await.unwrap();
        for _ in 0..4 {
            guard.renew(&vips(), Duration::from_secs(1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(guard.read_back().await.unwrap().unwrap().directing.len(), 2);
        }
        let start = Instant::now();
        guard.renew(&vips(), Duration::from_secs(1)).await.unwrap();
        while !guard.read_back().await.unwrap().unwrap().directing.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("a lease of 1 s ended after {:?}", start.elapsed());
        assert!(start.elapsed() > Duration::from_millis(900));
        // After it ended, and given back before.
        guard.renew(&vips(), LEASE).await.unwrap();
        guard.renew(&vips()[1..], LEASE).await.unwrap();
        let left: Vec<_> = guard
            .read_back()
            .await
            .unwrap()
            .unwrap()
            .directing
            .into_keys()
            .collect();
        assert_eq!(left, &vips()[1..]);
        guard.renew(&[], LEASE).await.unwrap();
        assert!(guard.read_back().await.unwrap().unwrap().directing.is_empty());
    });
}

#[test]
fn a_flush_by_somebody_else_is_told_and_damage_is_repaired() {
    in_namespace(async || {
        let mut guard = Guard::open().unwrap();
        let wanted = spec(&[VIP4, VIP6], &[]);
        assert!(matches!(guard.renew(&vips(), LEASE).await, Err(GuardError::Gone)));
        guard.apply(&wanted).await.unwrap();
        run("nft", "flush ruleset");
        assert!(matches!(guard.renew(&vips(), LEASE).await, Err(GuardError::Gone)));
        assert_eq!(guard.read_back().await.unwrap(), None);
        for damage in [
            "flush ruleset",
            "flush chain inet cplb_guard hide",
            "flush table inet cplb_guard",
            "add rule inet cplb_guard hide drop",
            "flush set inet cplb_guard peers",
            "flush map inet cplb_guard covered4",
            "add chain inet cplb_guard more",
        ] {
            let mut wanted = wanted.clone();
            wanted.peers.insert(MacAddr([2, 0, 0, 0, 0, 9]));
            guard.apply(&wanted).await.unwrap();
            run("nft", damage);
            assert_ne!(
                guard.apply(&wanted).await.unwrap(),
                Applied::Unchanged,
                "{damage}"
            );
            let state = guard.read_back().await.unwrap().unwrap();
            assert!(state.intact && state.spec == wanted, "{damage}: {state:?}");
        }
    });
}

#[test]
fn removal_takes_our_table_and_no_other() {
    in_namespace(async || {
        let mut guard = Guard::open().unwrap();
        guard.remove().await.unwrap();
        spy();
        guard.apply(&spec(&[VIP4], &[])).await.unwrap();
        println!("{}", run("nft", "list table inet cplb_guard"));
        guard.remove().await.unwrap();
        guard.remove().await.unwrap();
        let left = run("nft", "list ruleset");
        assert!(
            left.contains("table inet spy") && !left.contains("cplb"),
            "{left}"
        );
    });
}

#[test]
fn many_vips_and_peers_fit() {
    in_namespace(async || {
        let mut guard = Guard::open().unwrap();
        let vips: BTreeSet<IpAddr> = (0..600u32)
            .flat_map(|n| {
                let v4 = IpAddr::from((0x0a00_0000 + n * 7).to_be_bytes());
                let v6 = IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(n)).to_be_bytes());
                [v4, v6]
            })
            .collect();
        let peers = (0..=254).map(|n| MacAddr([2, 0, 0, 0, 0, n])).collect();
        let wanted = GuardSpec {
            vips: vips.clone(),
            peers,
            tunnels: true,
            keep_own_clients: true,
        };
        let all: Vec<_> = vips.into_iter().collect();
        let start = Instant::now();
        assert_eq!(guard.apply(&wanted).await.unwrap(), Applied::Created);
        println!(
            "table with {} VIPs and 255 peers made in {:?}",
            all.len(),
            start.elapsed()
        );
        let start = Instant::now();
        guard.renew(&all, LEASE).await.unwrap();
        println!("{} leases renewed in {:?}", all.len(), start.elapsed());
        assert_eq!(guard.apply(&wanted).await.unwrap(), Applied::Unchanged);
        assert_eq!(
            guard.read_back().await.unwrap().unwrap().directing.len(),
            all.len()
        );
        let start = Instant::now();
        for _ in 0..100 {
            guard.renew(&all[..3], LEASE).await.unwrap();
        }
        println!("three leases renewed in {:?}", start.elapsed() / 100);
    });
}
