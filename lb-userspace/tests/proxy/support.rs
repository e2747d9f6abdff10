//! A namespace for each test, servers that say who they are, and a proxy in front of them.
use lb_common::model::{Protocol, ServiceKey};
use lb_common::plan::Proxying;
use lb_common::proxy::{Balance, Proxied, Server, Settings};
use lb_userspace::datapath::proxy::{Proxy, ProxyView, ServerView};
use nix::sched::{CloneFlags, unshare};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The virtual IP of every test, on `lo`.
pub(crate) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
pub(crate) const PORT: u16 = 6443;
/// Longer than anything here takes on a machine that does ten other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on a thread in a new network namespace with the virtual IP on `lo`; threads that it starts are in there
/// as well.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root to make a network namespace");
        return;
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        ip("address add 192.0.2.100/32 dev lo");
        ip("address add 2001:db8::100/128 dev lo nodad");
        // The kernel makes the route to it a moment later.
        eventually("there is IPv6", || {
            let asked = TcpStream::connect("[2001:db8::100]:1");
            asked.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
        });
        test();
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(args: &str) {
    let out = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(
        out.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Waits until `met`.
pub(crate) fn eventually(what: &str, mut met: impl FnMut() -> bool) {
    let start = Instant::now();
    while !met() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A server that runs `serve` on a thread for each connection.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) fn start(last: u8, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::at(
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), PORT),
            serve,
        )
    }

    pub(crate) fn at(address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (accepted.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                count.fetch_add(1, Ordering::Relaxed);
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, accepted }
    }

    /// Sends its number, then echoes until the client ends, and ends.
    pub(crate) fn named(last: u8) -> Self {
        Self::start(last, move |mut stream| {
            let _ = stream.write_all(&[last]);
            echo(stream);
        })
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// A server of weight 1, without a limit, alive.
pub(crate) const fn server(address: SocketAddr) -> Server {
    Server {
        address: address.ip(),
        port: address.port(),
        weight: 1,
        most: 0,
        resume: 0,
        up: true,
    }
}

/// The virtual server of every test.
pub(crate) fn proxied(servers: &[SocketAddr]) -> Proxied {
    Proxied {
        key: key(VIP, PORT),
        balance: Balance::RoundRobin,
        listen: vec![],
        send_header: None,
        accept_header: vec![],
        held: true,
        servers: servers.iter().map(|a| server(*a)).collect(),
    }
}

pub(crate) const fn key(address: IpAddr, port: u16) -> ServiceKey {
    ServiceKey {
        address,
        port,
        protocol: Protocol::Tcp,
    }
}

/// A proxy that is stopped at the end.
pub(crate) struct Running {
    proxy: Option<Proxy>,
    want: Proxying,
}

impl Running {
    pub(crate) fn start(servers: &[SocketAddr]) -> Self {
        Self::with(proxied(servers), |_| {})
    }

    pub(crate) fn with(proxied: Proxied, settle: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            threads: Some(2),
            ..Settings::default()
        };
        settle(&mut settings);
        let proxy = Proxy::start(&settings).unwrap();
        let mut running = Self {
            proxy: Some(proxy),
            want: Proxying {
                settings,
                servers: [(proxied.key, proxied)].into(),
            },
        };
        running.change(|_| {});
        running
    }

    /// Changes what is served.
    pub(crate) fn change(&mut self, how: impl FnOnce(&mut Proxied)) {
        how(self.want.servers.get_mut(&key(VIP, PORT)).unwrap());
        self.apply();
    }

    /// Changes everything.
    pub(crate) fn change_all(&mut self, how: impl FnOnce(&mut Proxying)) {
        how(&mut self.want);
        self.apply();
    }

    fn apply(&mut self) {
        let proxy = self.proxy.as_mut().unwrap();
        assert_eq!(proxy.set(&self.want), Vec::<String>::new());
        assert_eq!(proxy.serving(), self.want);
    }

    pub(crate) fn proxy(&mut self) -> &mut Proxy {
        self.proxy.as_mut().unwrap()
    }

    pub(crate) fn view(&self) -> ProxyView {
        self.proxy.as_ref().unwrap().view()
    }

    pub(crate) fn server(&self, address: SocketAddr) -> ServerView {
        let view = self.view();
        let mut all = view.servers.into_iter().flat_map(|s| s.servers);
        all.find(|s| s.address == address).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.proxy.take().unwrap().stop();
    }
}

pub(crate) fn connect() -> TcpStream {
    connect_to(SocketAddr::new(VIP, PORT))
}

pub(crate) fn connect_to(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The number that a server of [`Backend::named`] says, or the error instead.
pub(crate) fn who(stream: &mut TcpStream) -> std::io::Result<u8> {
    let mut name = [0];
    stream.read_exact(&mut name)?;
    Ok(name[0])
}

/// A connection to a named server, and which.
pub(crate) fn served() -> (TcpStream, u8) {
    let mut stream = connect();
    let name = who(&mut stream).unwrap();
    (stream, name)
}

/// Asserts that a connection still carries bytes both ways.
pub(crate) fn assert_alive(stream: &mut TcpStream) {
    stream.write_all(b"?").unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"?");
}

/// Whether a connection was reset, as opposed to ended well.
pub(crate) fn is_reset(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).err();
    error.is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
}
