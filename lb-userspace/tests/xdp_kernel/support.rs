//! A director with the datapath in it, real servers and a client, on one switch.
use anyhow::{Context, Result};
use lb_common::abi::hash::Key;
use lb_common::model::{Protocol, ServiceKey};
use lb_common::plan::{Backend, Forwarder, Forwarding, Method};
use lb_common::spec::XdpAttach;
use lb_common::wire::tcp::ACK;
use lb_tests::capture::{Capture, Frame};
use lb_tests::forge::{self, Hop};
use lb_tests::inject::FrameSender;
use lb_tests::topology::Lab;
use lb_tests::veth::{self, Attached, PASS};
use lb_userspace::datapath::xdp::{Xdp, object};
use lb_userspace::sys::rtnl::{Link, Rtnl};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const VIP: &str = "10.0.0.100";
pub(crate) const PORT: u16 = 6443;

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

    pub(crate) async fn set(&mut self, forwarding: &Forwarding) -> Vec<String> {
        self.xdp.set(forwarding, &mut self.rtnl).await
    }

    pub(crate) async fn turn(&mut self) -> Vec<String> {
        self.xdp.maintain(&mut self.rtnl).await
    }

    /// Turns as the reconciler does until there is nothing to say, and gives what was said in the last one.
    pub(crate) async fn settle(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..50 {
            said = self.turn().await;
            let known = self
                .xdp
                .view()
                .is_some_and(|v| v.backends.iter().all(|b| !b.way.contains("not known")));
            if said.is_empty() && known {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        said
    }

    pub(crate) async fn link(&mut self, name: &str) -> Link {
        self.rtnl.link_named(name).await.unwrap().unwrap()
    }

    pub(crate) async fn index(&mut self, name: &str) -> u32 {
        self.link(name).await.index
    }

    /// The virtual IP on `eth0`, to real servers on these addresses.
    pub(crate) async fn holding(&mut self, vip: &str, backends: &[&str]) -> Forwarding {
        let eth0 = self.index("eth0").await;
        with_service(forwarding(&[eth0]), vip, eth0, backends, Method::Direct)
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

/// What a program said, for a skip's one line.
pub(crate) fn first_line(error: &anyhow::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The network of these tests, with what native XDP on veth needs.
pub(crate) struct Net {
    pub(crate) lab: Lab,
    _ports: Vec<Attached>,
}

impl Net {
    /// `a` directs, `b` and `c` serve, `client` asks.
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::builder()
            .node("a", &["10.0.0.1/24", "fd00::1/64"])
            .node("b", &["10.0.0.2/24", "fd00::2/64"])
            .node("c", &["10.0.0.3/24", "fd00::3/64"])
            .node("client", &["10.0.0.9/24", "fd00::9/64"])
            .build()?;
        let mut ports = Vec::new();
        for node in lab.nodes() {
            ports.push(veth::attach(
                lab.switch(),
                &format!("{}.eth0", node.name()),
                PASS,
            )?);
        }
        veth::checksum_at_once(lab.node("client")?.netns(), "eth0")?;
        Ok(Self { lab, _ports: ports })
    }

    /// Runs `test` in `a`, with the datapath opened there.
    pub(crate) fn direct(&self, test: impl AsyncFnOnce(Bench) + Send) -> Result<()> {
        self.lab.node("a")?.netns().run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async { test(Bench::open().await).await });
        })
    }

    /// Makes a node a real server of the virtual IP: it answers a connection with its name.
    pub(crate) fn serve(&self, node: &str, vip: &str) -> Result<Server> {
        let netns = self.lab.node(node)?.netns();
        let prefix = if vip.contains(':') { "128 nodad" } else { "32" };
        // Of every interface: the VLANs' too.
        netns.sysctl("ipv4.conf.all.arp_ignore", "1")?;
        netns.sysctl("ipv4.conf.all.arp_announce", "2")?;
        netns.ip(&format!("address add {vip}/{prefix} dev lo\n"))?;
        let address = SocketAddr::new(vip.parse()?, PORT);
        let listener = netns
            .run(|| TcpListener::bind(address))?
            .context(vip.to_owned())?;
        Ok(Server::start(listener, node.to_owned()))
    }

    /// The virtual IP is on the director's interface, as the reconciler puts it.
    pub(crate) fn hold(&self, vip: &str) -> Result<()> {
        let prefix = if vip.contains(':') { "64 nodad" } else { "24" };
        self.lab
            .node("a")?
            .netns()
            .ip(&format!("address add {vip}/{prefix} dev eth0\n"))
    }

    /// Segments of flows that nobody knows, from the client to the virtual IP, until it is stopped.
    pub(crate) fn stream(&self, vip: &str) -> Result<Stream> {
        let client = self.lab.node("client")?;
        let director = FrameSender::new(self.lab.node("a")?, "eth0")?.mac();
        let sender = FrameSender::new(client, "eth0")?;
        let hop = Hop {
            from: sender.mac(),
            to: director,
        };
        let from = client.address(vip.contains(':'))?;
        let to = SocketAddr::new(vip.parse()?, PORT);
        let mut segments = Vec::new();
        for port in 10_000..11_000 {
            segments.push(forge::segment(hop, SocketAddr::new(from, port), to, 1, ACK)?);
        }
        let mut arrivals = Vec::new();
        for node in ["b", "c"] {
            let ours = move |f: &Frame| {
                !f.outgoing
                    && f.ip()
                        .is_some_and(|ip| ip.source == from && ip.destination == to.ip())
            };
            arrivals.push(Capture::start(self.lab.node(node)?.netns(), ours)?);
        }
        Ok(Stream {
            sender: Background::start(move |stop| {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A little at a time: a veth's queue is short.
                    for segment in segments.iter().cycle().skip(sent % segments.len()).take(5) {
                        // A full queue takes none, which is no loss of what was sent.
                        while let Err(error) = sender.send(segment) {
                            let full = error.downcast_ref() == Some(&nix::errno::Errno::ENOBUFS);
                            assert!(full, "{error:#}");
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        sent += 1;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                sent
            }),
            arrivals,
        })
    }

    /// Who answers the client, or why nobody does.
    pub(crate) fn ask(&self, vip: &str) -> Result<String> {
        let address = SocketAddr::new(vip.parse()?, PORT);
        let limit = Duration::from_millis(500);
        let answer = self.lab.node("client")?.netns().run(|| {
            let mut stream = TcpStream::connect_timeout(&address, limit)?;
            stream.set_read_timeout(Some(limit))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        })?;
        Ok(answer?)
    }
}

/// Work on a thread until it is told to stop.
struct Background<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Background<T> {
    fn start(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        Self {
            stop,
            thread: Some(std::thread::spawn(move || work(&told))),
        }
    }

    fn finish(mut self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What [`Net::stream`] sends.
pub(crate) struct Stream {
    sender: Background<usize>,
    arrivals: Vec<Capture>,
}

impl Stream {
    /// How many were sent, and how many arrived at a real server.
    pub(crate) fn finish(self) -> (usize, usize) {
        let sent = self.sender.finish();
        // The last ones are still on their way.
        std::thread::sleep(Duration::from_millis(100));
        let arrived = self.arrivals.into_iter().map(|c| c.finish().unwrap().len()).sum();
        (sent, arrived)
    }
}

/// A real server.
pub(crate) struct Server(#[expect(dead_code, reason = "ends when it is dropped")] Background<()>);

impl Server {
    fn start(listener: TcpListener, name: String) -> Self {
        listener.set_nonblocking(true).unwrap();
        Self(Background::start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => drop(stream.write_all(name.as_bytes())),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        }))
    }
}

/// Nothing to forward, on these interfaces.
pub(crate) fn forwarding(interfaces: &[u32]) -> Forwarding {
    Forwarding {
        attach: XdpAttach::default(),
        interfaces: BTreeSet::from_iter(interfaces.iter().copied()),
        vips: BTreeMap::new(),
        services: BTreeMap::new(),
        key: Key {
            words: [7; 12],
            last: 9,
        },
    }
}

/// A virtual server more.
pub(crate) fn with_service(
    mut forwarding: Forwarding,
    vip: &str,
    interface: u32,
    backends: &[&str],
    method: Method,
) -> Forwarding {
    let address: IpAddr = vip.parse().unwrap();
    let key = ServiceKey {
        address,
        port: PORT,
        protocol: Protocol::Tcp,
    };
    let backends = backends.iter().map(|text| Backend {
        address: text.parse().unwrap(),
        weight: 1,
        up: true,
    });
    let forwarder = Forwarder {
        key,
        method,
        affinity: None,
        backends: backends.collect(),
    };
    forwarding.vips.insert(address, interface);
    forwarding.services.insert(key, forwarder);
    forwarding
}
