//! A server for thousands of connections; see `lb_tests::crowd`.
use anyhow::{Result, bail};
use clap::Parser;
use lb_tests::crowd::server::{self, Options};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Answers each line with who it is, whose connection it sees, and how many lines that one had.
#[derive(Debug, Parser)]
struct Arguments {
    /// What it calls itself.
    #[arg(long)]
    name: String,
    /// Listens there, TCP on every address.
    #[arg(long)]
    port: Vec<u16>,
    /// The same with TLS.
    #[arg(long)]
    tls_port: Vec<u16>,
    /// Answers UDP at this address too.
    #[arg(long)]
    vip: Vec<IpAddr>,
    /// DER.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// PKCS #8, DER.
    #[arg(long)]
    key: Option<PathBuf>,
    /// On SIGTERM it says so at /readyz, and ends after so many milliseconds. Without it, it ends at once.
    #[arg(long)]
    grace: Option<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let tls = match (arguments.certificate, arguments.key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => bail!("--certificate and --key belong together"),
    };
    server::serve(&Options {
        name: arguments.name,
        ports: arguments.port,
        tls_ports: arguments.tls_port,
        vips: arguments.vip,
        tls,
        grace: arguments.grace.map(Duration::from_millis),
    })
}
