//! Switches under `/proc/sys/net`, which is a view of the network namespace of the thread that reads it
//! (`net/sysctl_net.c`, `net_ctl_header_lookup`): use it on the thread that holds the namespace, and never through
//! a pool of threads.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

const ROOT: &str = "/proc/sys";

/// A switch by its path with slashes, `net/ipv4/conf/eth0.100/arp_ignore`: interface names may hold dots, so that the
/// dotted form would have two readings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sysctl(String);

/// A switch could not be named, read or set.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The path leaves `/proc/sys/net` or has an empty part.
    #[error("{0:?} is not a path below net/")]
    Path(String),
    /// The kernel has no such switch, or no such interface.
    #[error("{action}: this kernel has no {switch} (is the interface gone, or a module missing?)")]
    Missing {
        /// What was being done.
        action: String,
        /// The switch.
        switch: Sysctl,
    },
    /// `/proc/sys` is mounted read-only, as in a container without privileges.
    #[error(
        "{action}: {ROOT} is read-only here: mount it read-write, or set {switch}={value} on the host by hand"
    )]
    ReadOnly {
        /// What was being done.
        action: String,
        /// The switch.
        switch: Sysctl,
        /// The wanted value.
        value: String,
    },
    /// Anything else.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The value is not a number.
    #[error("reading {switch}: {value:?} is not a number")]
    NotANumber {
        /// The switch.
        switch: Sysctl,
        /// What it holds.
        value: String,
    },
}

impl SysctlError {
    /// Whether the same call may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted)
    }
}

impl Sysctl {
    /// By its path below `/proc/sys`; `/` between the parts.
    pub fn new(path: impl Into<String>) -> Result<Self, SysctlError> {
        let path = path.into();
        let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if path.starts_with("net/") && path.split('/').all(sound) {
            Ok(Self(path))
        } else {
            Err(SysctlError::Path(path))
        }
    }

    /// `net/ipv4/conf/INTERFACE/NAME`.
    pub fn ipv4(interface: &str, name: &str) -> Result<Self, SysctlError> {
        Self::of_interface("ipv4", interface, name)
    }

    /// `net/ipv6/conf/INTERFACE/NAME`.
    pub fn ipv6(interface: &str, name: &str) -> Result<Self, SysctlError> {
        Self::of_interface("ipv6", interface, name)
    }

    /// `net/ipv4/conf/all/NAME`.
    pub(crate) fn ipv4_all(name: &str) -> Self {
        Self(format!("net/ipv4/conf/all/{name}"))
    }

    fn of_interface(family: &str, interface: &str, name: &str) -> Result<Self, SysctlError> {
        // A name with a slash cannot exist (`dev_valid_name`), but it may be asked for.
        if interface.contains('/') {
            return Err(SysctlError::Path(interface.to_owned()));
        }
        Self::new(format!("net/{family}/conf/{interface}/{name}"))
    }

    /// Its path with slashes.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// Its value without the line's end.
    pub fn read(&self) -> Result<String, SysctlError> {
        let text = fs::read_to_string(self.file()).map_err(|e| self.explain(e, None))?;
        Ok(text.trim_end().to_owned())
    }

    /// Its value as a number.
    pub fn read_number(&self) -> Result<i64, SysctlError> {
        let value = self.read()?;
        value.parse().map_err(|_| SysctlError::NotANumber {
            switch: self.clone(),
            value,
        })
    }

    /// Sets it.
    pub fn write(&self, value: &str) -> Result<(), SysctlError> {
        fs::write(self.file(), value).map_err(|e| self.explain(e, Some(value)))
    }

    /// Sets a number unless it is set; says whether it had to.
    pub fn ensure(&self, value: i64) -> Result<bool, SysctlError> {
        if self.read_number()? == value {
            return Ok(false);
        }
        self.write(&value.to_string())?;
        Ok(true)
    }

    fn file(&self) -> PathBuf {
        PathBuf::from(ROOT).join(&self.0)
    }

    fn explain(&self, source: io::Error, value: Option<&str>) -> SysctlError {
        let action = match value {
            Some(value) => format!("setting {self} to {value}"),
            None => format!("reading {self}"),
        };
        let switch = self.clone();
        match (source.raw_os_error(), value) {
            (Some(libc::ENOENT), _) => SysctlError::Missing { action, switch },
            // Root is denied by the mount's mode or by a mask over it, never by the file's bits.
            (Some(libc::EROFS | libc::EACCES | libc::EPERM), Some(value)) => SysctlError::ReadOnly {
                action,
                switch,
                value: value.to_owned(),
            },
            _ => SysctlError::Io { action, source },
        }
    }
}

impl fmt::Display for Sysctl {
    /// As sysctl(8) writes it: dots between the parts, a slash for a dot within one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            fmt::Write::write_char(
                f,
                match c {
                    '/' => '.',
                    '.' => '/',
                    c => c,
                },
            )?;
        }
        Ok(())
    }
}

impl FromStr for Sysctl {
    type Err = SysctlError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

impl TryFrom<String> for Sysctl {
    type Error = SysctlError;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Self::new(s)
    }
}

impl From<Sysctl> for String {
    fn from(s: Sysctl) -> Self {
        s.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_an_interface_name_stays_one_part() {
        let s = Sysctl::ipv4("eth0.100", "arp_ignore").unwrap();
        assert_eq!(s.path(), "net/ipv4/conf/eth0.100/arp_ignore");
        assert_eq!(s.to_string(), "net.ipv4.conf.eth0/100.arp_ignore");
    }

    #[test]
    fn no_path_leaves_the_tree() {
        for path in [
            "kernel/panic",
            "net/../kernel/panic",
            "net//x",
            "net/",
            "/net/x",
            "net",
        ] {
            assert!(Sysctl::new(path).is_err(), "{path}");
        }
        assert!(Sysctl::ipv4("../../../kernel", "panic").is_err());
        assert!(Sysctl::ipv6("", "forwarding").is_err());
        assert!(serde_json::from_str::<Sysctl>("\"net/../x\"").is_err());
    }

    #[test]
    fn what_is_missing_and_what_is_read_only_are_told_apart() {
        let missing = Sysctl::ipv4("no-such-if", "arp_ignore").unwrap();
        assert!(matches!(missing.read(), Err(SysctlError::Missing { .. })));
        let error = missing.explain(io::Error::from_raw_os_error(libc::EROFS), Some("1"));
        assert_eq!(
            error.to_string(),
            "setting net.ipv4.conf.no-such-if.arp_ignore to 1: /proc/sys is read-only here: mount it read-write, \
             or set net.ipv4.conf.no-such-if.arp_ignore=1 on the host by hand"
        );
    }
}
