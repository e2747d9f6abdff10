//! The election's driver on real sockets, in network namespaces that the test makes: one thread is one node, and a
//! bridge in the test's own namespace joins them. Needs root; without it every test says so and passes.
use lb_common::model::{AdvertInterval, AuthPass, MacAddr, Priority, Version, Vrid};
use lb_common::spec::{
    Announce, ChecksumForm, Instance, InterfaceSelector, SyncGroup, TrackInterface, Transport,
};
use lb_common::vrrp::{FaultReason, State};
use lb_userspace::vrrp::{self, Command, Config, Driver, InstanceView, RoleView};
use nix::sched::{CloneFlags, unshare};
use std::process::Command as Process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
struct Node {
    jobs: Option<mpsc::Sender<Job>>,
    tid: i32,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in inbox {
                job();
            }
        });
        Self {
            jobs: Some(jobs),
            tid: told.recv().unwrap(),
            thread: Some(thread),
        }
    }

    fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = tell.send(f());
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        told.recv().expect("the node's thread is alive")
    }

    fn ip(&self, args: &str) {
        let args = args.to_owned();
        self.run(move || ip(&args));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let _ = self.thread.take().unwrap().join();
    }
}

fn ip(args: &str) {
    let out = Process::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(out.status.success(), "ip {args}: {}", String::from_utf8_lossy(&out.stderr));
}

/// `n` nodes, each with `eth0` on one bridge: 10.9.0.1.., fe80::1.. and 2001:db8::1...
struct Lab {
    hub: Node,
    nodes: Vec<Node>,
}

impl Lab {
    fn new(n: usize) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root to make network namespaces");
            return None;
        }
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let hub = Node::new();
        hub.ip("link add br0 type bridge forward_delay 0");
        hub.ip("link set br0 up");
        let mut lab = Self { hub, nodes: Vec::new() };
        for _ in 0..n {
            lab.add();
        }
        Some(lab)
    }

    fn add(&mut self) {
        let i = self.nodes.len() + 1;
        let node = Node::new();
        let tid = node.tid;
        self.hub.ip(&format!(
            "link add port{i} type veth peer name eth0 address 02:00:00:00:00:0{i} netns {tid}"
        ));
        self.hub.ip(&format!("link set port{i} master br0 up"));
        node.ip("link set eth0 addrgenmode none");
        node.ip(&format!("addr add 10.9.0.{i}/24 dev eth0"));
        node.ip(&format!("addr add fe80::{i}/64 dev eth0 nodad"));
        node.ip(&format!("addr add 2001:db8::{i}/64 dev eth0 nodad"));
        node.ip("link set eth0 up");
        self.nodes.push(node);
    }

    fn start(&self, node: usize, instances: Vec<Instance>) -> Running {
        self.start_with(
            node,
            Config {
                instances,
                linger: Duration::from_millis(100),
                realtime: None,
                ..Config::default()
            },
        )
    }

    fn start_with(&self, node: usize, config: Config) -> Running {
        let driver = self.nodes[node].run(move || vrrp::spawn(config)).unwrap();
        Running::new(driver)
    }
}

/// A driver with somebody who says that everything was applied.
struct Running {
    driver: Option<Driver>,
    applying: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    applier: Option<JoinHandle<()>>,
}

impl Running {
    fn new(driver: Driver) -> Self {
        let applying = Arc::new(AtomicBool::new(true));
        let end = Arc::new(AtomicBool::new(false));
        let (roles, commander) = (driver.roles(), driver.commander());
        let (on, stop) = (Arc::clone(&applying), Arc::clone(&end));
        let applier = thread::spawn(move || {
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let generation = roles.borrow().generation;
                if generation != last && on.load(Ordering::Relaxed) {
                    commander.send(Command::Applied { generation });
                    last = generation;
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            driver: Some(driver),
            applying,
            end,
            applier: Some(applier),
        }
    }

    fn driver(&self) -> &Driver {
        self.driver.as_ref().unwrap()
    }

    fn view(&self) -> Arc<RoleView> {
        Arc::clone(&self.driver().roles().borrow())
    }

    fn one(&self) -> InstanceView {
        self.view().instances.first().cloned().expect("an instance")
    }

    fn send(&self, command: Command) {
        self.driver().commander().send(command);
    }

    fn reload(&self, instances: Vec<Instance>) {
        self.send(Command::Reload {
            instances,
            sync_groups: Vec::new(),
        });
    }

    fn is(&self, state: State) -> bool {
        self.view().instances.first().is_some_and(|i| i.state == state)
    }

    fn holds(&self) -> bool {
        self.view().instances.iter().any(|i| i.holds)
    }

    fn stop(mut self) {
        self.send(Command::Shutdown);
        self.driver.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.commander().send(Command::Shutdown);
            let _ = driver.join();
        }
        self.end.store(true, Ordering::Relaxed);
        let _ = self.applier.take().unwrap().join();
    }
}

/// Waits for something that must come; how long it takes is not what is tested.
#[track_caller]
fn until(what: &str, mut f: impl FnMut() -> bool) {
    let start = Instant::now();
    while !f() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn instance(priority: u8) -> Instance {
    Instance {
        name: "k0s-vip-0".to_owned(),
        virtual_ips: vec!["10.9.0.100/24".parse().unwrap()],
        interface: InterfaceSelector::Auto,
        vrid: Vrid::new(51).unwrap(),
        version: Version::V3,
        priority: Priority::new(priority).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        advert_interval: AdvertInterval::new(Version::V3, 10).unwrap(),
        auth_pass: None,
        transport: Transport::Multicast,
        checksum: ChecksumForm::PseudoHeader,
        announce: Announce {
            repeat: 2,
            delay: Duration::from_millis(100),
            refresh: None,
            interval: Duration::from_millis(10),
        },
        track: Vec::new(),
        address_label: 0,
    }
}

fn v2(priority: u8) -> Instance {
    Instance {
        version: Version::V2,
        advert_interval: AdvertInterval::SECOND,
        auth_pass: AuthPass::new("secret99"),
        ..instance(priority)
    }
}

fn v6(priority: u8) -> Instance {
    Instance {
        virtual_ips: vec!["fe80::5454/128".parse().unwrap(), "2001:db8::54/64".parse().unwrap()],
        ..instance(priority)
    }
}

fn unicast(priority: u8, own: u8, peers: &[u8]) -> Instance {
    let address = |n| format!("10.9.0.{n}").parse().unwrap();
    Instance {
        transport: Transport::Unicast {
            source: Some(address(own)),
            peers: peers.iter().map(|p| address(*p)).collect(),
        },
        ..instance(priority)
    }
}

/// Two nodes: the better one becomes Active, leaves well, and the other follows.
fn elects_and_succeeds(better: Instance, worse: Instance) {
    let Some(lab) = Lab::new(2) else { return };
    let a = lab.start(0, vec![better]);
    let b = lab.start(1, vec![worse]);
    until("the better one holds", || a.is(State::Active) && a.holds());
    until("it is heard", || b.one().active.is_some());
    assert_eq!((b.is(State::Backup), b.holds()), (true, false));
    assert_eq!(b.one().active.unwrap().address, a.one().source.unwrap());
    until("it announces", || a.one().counters.announced >= 4);
    assert!(b.one().counters.rejected.is_empty(), "{:?}", b.one().last_rejected);
    a.stop();
    until("the other follows", || b.is(State::Active) && b.holds());
    assert_eq!(b.one().active, None);
    b.stop();
}

#[test]
fn v3_over_ipv4() {
    elects_and_succeeds(instance(200), instance(100));
}

#[test]
fn v2_with_a_password() {
    elects_and_succeeds(v2(200), v2(100));
}

#[test]
fn v3_over_ipv6() {
    elects_and_succeeds(v6(200), v6(100));
}

#[test]
fn v3_in_unicast() {
    elects_and_succeeds(unicast(200, 1, &[2]), unicast(100, 2, &[1]));
}

#[test]
fn v3_with_the_checksum_of_rfc_9568() {
    let form = |i| Instance {
        checksum: ChecksumForm::MessageOnly,
        ..i
    };
    elects_and_succeeds(form(instance(200)), instance(100));
}
