//! keepalived as the other side.
use crate::daemon::Daemon;
use crate::topology::Node;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::process::Command;

/// A `vrrp_instance`, with what the suites vary.
#[derive(Debug, Clone)]
pub struct Instance {
    /// In the file and in keepalived's log.
    pub name: String,
    /// `virtual_router_id`.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// 1 to 254, 255 with the addresses' owner.
    pub priority: u8,
    /// `advert_int` in seconds; version 3 takes hundredths.
    pub interval: f64,
    /// `auth_pass`, version 2 only.
    pub auth_pass: Option<String>,
    /// Whether it starts as `state MASTER`.
    pub master: bool,
    /// `nopreempt`.
    pub nopreempt: bool,
    /// `unicast_src_ip` and `unicast_peer`.
    pub unicast: Option<(String, Vec<String>)>,
    /// With their prefixes.
    pub addresses: Vec<String>,
    /// Further lines as they are.
    pub extra: Vec<String>,
}

impl Instance {
    /// Version 3, priority 100, adverts of 1 s, on `eth0`.
    pub fn new(vrid: u8, addresses: &[&str]) -> Self {
        Self {
            name: format!("VI_{vrid}"),
            vrid,
            version: 3,
            priority: 100,
            interval: 1.0,
            auth_pass: None,
            master: false,
            nopreempt: false,
            unicast: None,
            addresses: addresses.iter().map(|&a| a.to_owned()).collect(),
            extra: Vec::new(),
        }
    }

    fn render(&self) -> String {
        let mut lines = vec![
            format!("state {}", if self.master { "MASTER" } else { "BACKUP" }),
            "interface eth0".to_owned(),
            format!("version {}", self.version),
            format!("virtual_router_id {}", self.vrid),
            format!("priority {}", self.priority),
            format!("advert_int {}", self.interval),
        ];
        if self.nopreempt {
            lines.push("nopreempt".into());
        }
        if let Some(password) = &self.auth_pass {
            lines.push(format!(
                "authentication {{\n    auth_type PASS\n    auth_pass {password}\n  }}"
            ));
        }
        if let Some((source, peers)) = &self.unicast {
            lines.push(format!(
                "unicast_src_ip {source}\n  unicast_peer {{\n    {}\n  }}",
                peers.join("\n    ")
            ));
        }
        lines.push(format!(
            "virtual_ipaddress {{\n    {}\n  }}",
            self.addresses.join("\n    ")
        ));
        lines.extend(self.extra.iter().cloned());
        format!("vrrp_instance {} {{\n  {}\n}}\n", self.name, lines.join("\n  "))
    }
}

/// A whole `keepalived.conf`.
pub fn configuration(instances: &[Instance]) -> String {
    let mut text = String::from("global_defs {\n  vrrp_garp_master_refresh 0\n}\n");
    for instance in instances {
        let _ = write!(text, "{}", instance.render());
    }
    text
}

/// Starts it in the node with that configuration.
pub fn start(node: &Node, configuration: &str) -> Result<Daemon> {
    let path = node.dir().join("keepalived.conf");
    fs::write(&path, configuration).with_context(|| path.display().to_string())?;
    let file = |name: &str| node.dir().join(name);
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--log-console", "--log-detail", "--no-syslog"]);
    command.arg("--use-file").arg(&path);
    command.arg("--pid").arg(file("keepalived.pid"));
    command.arg("--vrrp_pid").arg(file("keepalived-vrrp.pid"));
    command.arg("--checkers_pid").arg(file("keepalived-checkers.pid"));
    Daemon::start(node, "keepalived", command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_rendered() {
        let mut instance = Instance::new(51, &["192.168.122.200/24"]);
        instance.auth_pass = Some("Example".into());
        instance.version = 2;
        let text = configuration(&[instance]);
        assert!(text.contains("vrrp_instance VI_51 {\n  state BACKUP\n  interface eth0\n  version 2\n"));
        assert!(text.contains("auth_pass Example"));
    }
}
