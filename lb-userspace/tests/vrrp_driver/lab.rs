//! Nodes in network namespaces: one thread is one node, and a bridge in a namespace of its own joins them.
#![expect(unreachable_pub, reason = "the module of one test binary")]

use lb_common::spec::Instance;
use lb_common::vrrp::State;
use lb_userspace::vrrp::{self, Command, Config, Driver, InstanceView, RoleView};
use nix::sched::{CloneFlags, unshare};
use std::process::Command as Process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
pub struct Node {
    jobs: Option<mpsc::Sender<Job>>,
    tid: i32,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub fn new() -> Self {
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

    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = tell.send(f());
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        told.recv().expect("the node's thread is alive")
    }

    pub fn ip(&self, args: &str) {
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

pub fn ip(args: &str) {
    let out = Process::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(
        out.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// `n` nodes, each with `eth0` on one bridge: 10.9.0.1.., fe80::1.. and 2001:db8::1...
pub struct Lab {
    pub hub: Node,
    pub nodes: Vec<Node>,
}

impl Lab {
    pub fn new(n: usize) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root to make network namespaces");
            return None;
        }
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        let hub = Node::new();
        hub.ip("link add br0 type bridge forward_delay 0");
        hub.ip("link set br0 up");
        let mut lab = Self {
            hub,
            nodes: Vec::new(),
        };
        for _ in 0..n {
            lab.add();
        }
        Some(lab)
    }

    pub fn add(&mut self) {
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

    pub fn start(&self, node: usize, instances: Vec<Instance>) -> Running {
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

    pub fn start_with(&self, node: usize, config: Config) -> Running {
        let driver = self.nodes[node].run(move || vrrp::spawn(config)).unwrap();
        Running::new(driver)
    }
}

/// A driver with somebody who says that everything was applied.
pub struct Running {
    pub driver: Option<Driver>,
    pub applying: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    applier: Option<JoinHandle<()>>,
}

impl Running {
    pub fn new(driver: Driver) -> Self {
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

    pub fn driver(&self) -> &Driver {
        self.driver.as_ref().unwrap()
    }

    pub fn view(&self) -> Arc<RoleView> {
        Arc::clone(&self.driver().roles().borrow())
    }

    pub fn one(&self) -> InstanceView {
        self.view().instances.first().cloned().expect("an instance")
    }

    pub fn send(&self, command: Command) {
        self.driver().commander().send(command);
    }

    pub fn reload(&self, instances: Vec<Instance>) {
        self.send(Command::Reload {
            instances,
            sync_groups: Vec::new(),
        });
    }

    pub fn is(&self, state: State) -> bool {
        self.view().instances.first().is_some_and(|i| i.state == state)
    }

    pub fn holds(&self) -> bool {
        self.view().instances.iter().any(|i| i.holds)
    }

    pub fn stop(mut self) {
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
pub fn until(what: &str, mut f: impl FnMut() -> bool) {
    let start = Instant::now();
    while !f() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
