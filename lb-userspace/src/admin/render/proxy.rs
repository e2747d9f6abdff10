//! The userspace proxy as a person reads it.
use crate::datapath::proxy::{ProxiedView, ProxyView, ServerView};
use std::fmt::{Result, Write};

pub(super) fn proxy(out: &mut String, p: &ProxyView) -> Result {
    writeln!(
        out,
        "\nPROXY   {} of at most {} connections, {} threads",
        p.sessions, p.most, p.threads
    )?;
    if p.held_bytes > 0 {
        writeln!(out, "  {} bytes wait for slow receivers", p.held_bytes)?;
    }
    for server in &p.servers {
        proxied(out, server)?;
    }
    Ok(())
}

fn proxied(out: &mut String, p: &ProxiedView) -> Result {
    let how = p
        .how
        .as_deref()
        .unwrap_or("NOT LISTENING: see the problems below");
    writeln!(out, "  {}  {how}", p.key)?;
    for address in &p.listens {
        writeln!(out, "    also on {address}")?;
    }
    let troubles = [
        (p.unserved, "clients were taken by no server"),
        (p.cut, "connections were cut"),
        (p.headless, "connections lacked their PROXY protocol header"),
    ];
    writeln!(out, "    {} clients taken in", p.accepted)?;
    for (count, what) in troubles.iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "    {count} {what}")?;
    }
    for s in &p.servers {
        server(out, s)?;
    }
    Ok(())
}

fn server(out: &mut String, s: &ServerView) -> Result {
    let state = if s.alive { "" } else { "  DEAD" };
    let failures = match s.failures {
        0 => String::new(),
        n => format!("  {n} not taken"),
    };
    writeln!(
        out,
        "    {:<26} {:>6} now {:>9} in all  {:>9} sent {:>9} received{failures}{state}",
        s.address,
        s.active,
        s.sessions,
        bytes(s.to_server),
        bytes(s.to_client)
    )
}

/// With at most four digits.
fn bytes(n: u64) -> String {
    let mut value = n;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 10_000 {
            return format!("{value} {unit}");
        }
        value /= 1024;
    }
    format!("{value} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::model::{Protocol, ServiceKey};

    #[test]
    fn what_is_wrong_is_shown_and_what_is_not_is_not() {
        let server = ServerView {
            address: "192.0.2.1:6443".parse().unwrap(),
            alive: false,
            active: 0,
            sessions: 7,
            failures: 3,
            to_server: 123,
            to_client: 5 << 30,
        };
        let mut view = ProxyView {
            threads: 2,
            sessions: 1,
            most: 9,
            held_bytes: 0,
            servers: vec![ProxiedView {
                key: ServiceKey {
                    address: "192.0.2.100".parse().unwrap(),
                    port: 6443,
                    protocol: Protocol::Tcp,
                },
                how: None,
                listens: vec!["0.0.0.0:6444".parse().unwrap()],
                accepted: 8,
                unserved: 1,
                cut: 0,
                headless: 0,
                servers: vec![server],
            }],
        };
        let mut text = String::new();
        proxy(&mut text, &view).unwrap();
        for line in [
            "NOT LISTENING",
            "also on 0.0.0.0:6444",
            "1 clients were taken by no server",
            "3 not taken  DEAD",
            "5120 MiB",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("cut") && !text.contains("wait for"), "{text}");
        view.servers[0].how = Some("steered".into());
        view.held_bytes = 1;
        let mut text = String::new();
        proxy(&mut text, &view).unwrap();
        assert!(text.contains("TCP 192.0.2.100:6443  steered\n") && text.contains("1 bytes wait"));
    }
}
