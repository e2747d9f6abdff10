//! Our own file, with what the suites vary.
use std::fmt::Write;
use std::time::Duration;

/// An item of `vrrpInstances`.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// `virtualRouterID`.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// 1 to 255.
    pub priority: u8,
    /// `advertInterval`.
    pub interval: Duration,
    /// `authPass`, version 2 only.
    pub auth_pass: Option<String>,
    /// `preempt`.
    pub preempt: bool,
    /// `interface`: a name or a MAC address.
    pub interface: String,
    /// `unicastSourceIP` and `unicastPeers`.
    pub unicast: Option<(String, Vec<String>)>,
    /// With their prefixes.
    pub addresses: Vec<String>,
    /// Further lines as they are.
    pub extra: Vec<String>,
}

impl Instance {
    /// Version 3, priority 100, adverts of 100 ms, on `eth0`.
    pub fn new(vrid: u8, addresses: &[&str]) -> Self {
        Self {
            name: format!("VI_{vrid}"),
            vrid,
            version: 3,
            priority: 100,
            interval: Duration::from_millis(100),
            auth_pass: None,
            preempt: true,
            interface: "eth0".into(),
            unicast: None,
            addresses: addresses.iter().map(|&a| a.to_owned()).collect(),
            extra: Vec::new(),
        }
    }

    /// The same with another priority.
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    fn render(&self) -> String {
        let mut lines = vec![
            format!("name: {}", self.name),
            format!("virtualIPs: {}", list(&self.addresses)),
            format!("interface: \"{}\"", self.interface),
            format!("virtualRouterID: {}", self.vrid),
            format!("version: {}", self.version),
            format!("priority: {}", self.priority),
            format!("preempt: {}", self.preempt),
            format!("advertInterval: {}ms", self.interval.as_millis()),
        ];
        if let Some(password) = &self.auth_pass {
            lines.push(format!("authPass: {password}"));
        }
        if let Some((source, peers)) = &self.unicast {
            lines.push(format!("unicastSourceIP: \"{source}\""));
            lines.push(format!("unicastPeers: {}", list(peers)));
        }
        lines.extend(self.extra.iter().cloned());
        format!("    - {}\n", lines.join("\n      "))
    }
}

fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// A whole file. `extra` are further lines below `spec`, indented by two.
pub fn configuration(instances: &[Instance], extra: &str) -> String {
    let mut text = String::from(
        "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nmetadata:\n  name: lab\nspec:\n  vrrpInstances:\n",
    );
    for instance in instances {
        let _ = write!(text, "{}", instance.render());
    }
    text + extra
}

/// A `syncGroups` of one group, for [`configuration`].
pub fn sync_group(instances: &[&str]) -> String {
    format!(
        "  syncGroups:\n    - name: together\n      instances: [{}]\n",
        instances.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_rendered() {
        let mut instance = Instance::new(51, &["192.168.122.200/24"]).with_priority(7);
        instance.extra.push("preemptDelay: 1s".into());
        let text = configuration(&[instance], &sync_group(&["a", "b"]));
        assert!(text.contains("    - name: VI_51\n      virtualIPs: [\"192.168.122.200/24\"]\n"));
        assert!(text.contains("      priority: 7\n"));
        assert!(text.contains("      preemptDelay: 1s\n  syncGroups:\n"));
    }
}
