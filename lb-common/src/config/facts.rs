//! What a validation needs and the block itself does not say: `--backend` flags and the addresses of controllers.
use super::path::Path;
use super::problem::{Findings, Problem};
use super::raw::k0sctl::{Cluster, Host as RawHost};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Gathered by whoever may look at the command line and ask the DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `--backend`, in order.
    pub backends: Vec<Backend>,
    /// The controllers of a k0sctl.yaml.
    pub controllers: Vec<Controller>,
}

/// One `--backend ADDR[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// As it was given.
    pub text: String,
    /// The real server's address.
    pub address: IpAddr,
    /// Its port, where given.
    pub port: Option<u16>,
}

impl Backend {
    /// Reads `192.0.2.1`, `192.0.2.1:6443`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:6443`.
    ///
    /// # Errors
    /// A problem that names the flag: there is no position in a file to show.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let plain = match bare {
            Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
            None => text.parse::<IpAddr>().ok(),
        };
        let parsed = plain
            .map(|a| (a, None))
            .or_else(|| text.parse::<SocketAddr>().ok().map(|s| (s.ip(), Some(s.port()))));
        let (address, port) = parsed.ok_or_else(|| {
            Problem::flag(
                flag(text),
                format!("{text:?} is not an IP address with an optional port"),
            )
            .help("write ADDR or ADDR:PORT; an IPv6 address with a port needs brackets: [2001:db8::1]:6443")
        })?;
        if port == Some(0) {
            return Err(Problem::flag(flag(text), "a real server has no port 0")
                .help("leave the port out: it is then the virtual server's"));
        }
        Ok(Self {
            text: text.into(),
            address,
            port,
        })
    }

    /// The flag with its argument, as problems name it.
    pub fn flag(&self) -> String {
        flag(&self.text)
    }
}

fn flag(text: &str) -> String {
    format!("--backend {text}")
}

/// The address of a controller of a k0sctl.yaml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Where it is written.
    pub path: Path,
    /// What is written there: an address, or a name that was resolved to `address`.
    pub text: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// A controller of a k0sctl.yaml as it is written: a name is still to be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where.
    pub path: Path,
    /// An IP address or a name.
    pub text: String,
}

/// The hosts of a k0sctl.yaml that run an API server. `single` and unknown roles are problems; a controller without an
/// address that others can reach is a warning, for the other ways of naming it remain.
pub fn controllers(cluster: &Cluster, findings: &mut Findings) -> Vec<Host> {
    let all = Path::of(&["spec", "hosts"]);
    let hosts = cluster
        .spec
        .as_ref()
        .and_then(|s| s.hosts.as_deref())
        .unwrap_or_default();
    let mut found = Vec::new();
    for (i, host) in hosts.iter().enumerate() {
        let at = all.index(i);
        match host.role.as_deref() {
            Some("controller" | "controller+worker") => match address(host, &at) {
                Some(h) => found.push(h),
                None => findings.warn(
                    Problem::new(
                        &at,
                        "this controller has no address that other nodes can reach, so it is no real server",
                    )
                    .help("give it a privateAddress"),
                ),
            },
            Some("worker") => {}
            Some("single") => findings.refuse(
                Problem::new(
                    &at.key("role"),
                    "control plane load balancing cannot be used in a single-node cluster",
                )
                .help("use the role controller or controller+worker"),
            ),
            Some(other) => findings.refuse(
                Problem::new(&at.key("role"), format!("{other:?} is no role of a host"))
                    .help("the roles are controller, controller+worker, worker and single"),
            ),
            None => findings.refuse(
                Problem::new(&at.key("role"), "the role of this host is missing")
                    .help("the roles are controller, controller+worker, worker and single"),
            ),
        }
    }
    found
}

fn address(host: &RawHost, at: &Path) -> Option<Host> {
    let from = |path: Path, text: Option<&String>| {
        text.filter(|t| !t.is_empty()).map(|t| Host {
            path,
            text: t.clone(),
        })
    };
    let of = |key: &str, c: Option<&super::raw::k0sctl::Connection>| {
        from(at.key(key).key("address"), c.and_then(|c| c.address.as_ref()))
    };
    from(at.key("privateAddress"), host.private_address.as_ref())
        .or_else(|| of("ssh", host.ssh.as_ref()))
        .or_else(|| of("openSSH", host.open_ssh.as_ref()))
}

/// Where real servers were taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RealServerSource {
    /// `--backend`.
    Flags,
    /// `realServers` of the virtual server.
    File,
    /// The controllers of the k0sctl.yaml.
    Controllers,
    /// `unicastSourceIP` and `unicastPeers` of the instance of that name.
    Unicast(String),
    /// Nobody named any: the API server of the node itself, for k0s's proxy.
    Own,
}

impl fmt::Display for RealServerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flags => f.write_str("--backend"),
            Self::File => f.write_str("realServers"),
            Self::Controllers => f.write_str("controllers of the k0sctl file"),
            Self::Own => f.write_str("this node's own API server"),
            Self::Unicast(name) => write!(f, "unicastSourceIP and unicastPeers of {name}"),
        }
    }
}

/// The ways of naming real servers, for whoever used none.
pub(super) fn ways(k0sctl: bool, native: bool) -> String {
    let mut ways = Vec::new();
    if native {
        ways.push("realServers of the virtual server");
    }
    if k0sctl {
        ways.push("privateAddress of the controllers in spec.hosts");
    }
    ways.push("unicastSourceIP with unicastPeers of the instance");
    ways.push("--backend ADDR[:PORT], once for each controller");
    format!("name the API servers by one of: {}", ways.join("; ")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_read_in_every_spelling() {
        for (text, address, port) in [
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:6443", "192.0.2.1", Some(6443)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:1", "2001:db8::1", Some(1)),
        ] {
            let b = Backend::parse(text).unwrap();
            assert_eq!((b.address, b.port), (address.parse().unwrap(), port), "{text}");
        }
        for text in [
            "",
            "node1",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "[192.0.2.1]:1",
            "[::1",
            "fe80::1%eth0",
        ] {
            let problem = Backend::parse(text).unwrap_err();
            assert_eq!(
                problem.place,
                super::super::Place::Flag(format!("--backend {text}"))
            );
        }
    }
}
