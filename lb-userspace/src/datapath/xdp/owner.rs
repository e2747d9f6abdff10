//! Whose program is on an interface already.
use crate::sys::bpf::{self, ProgramInfo};
use crate::sys::rtnl::XdpOn;
use std::fmt;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

/// A program of somebody else's, as far as it can be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The interface.
    pub interface: String,
    /// What the interface says of it.
    pub on: XdpOn,
    /// What the kernel says of it; reading that needs CAP_SYS_ADMIN.
    pub program: Option<ProgramInfo>,
    /// The link that holds it there, where one does; the same.
    pub link: Option<u32>,
    /// When it was loaded.
    pub since: Option<SystemTime>,
}

impl Owner {
    /// Asks the kernel.
    pub fn find(interface: &str, index: u32, on: XdpOn) -> Self {
        let program = bpf::program_by_id(on.program)
            .and_then(|fd| bpf::program_info(fd.as_fd()))
            .ok();
        let since = program.as_ref().and_then(|p| {
            let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
            let age = Duration::from(now).checked_sub(Duration::from_nanos(p.loaded_ns))?;
            SystemTime::now().checked_sub(age)
        });
        Self {
            interface: interface.to_owned(),
            on,
            program,
            link: bpf::xdp_link_on(index, on.program),
            since,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has an XDP program of somebody else's already: {} mode, program {}",
            self.interface,
            if self.on.native { "native" } else { "generic" },
            self.on.program
        )?;
        if let Some(p) = &self.program {
            let name = if p.name.is_empty() {
                "without a name"
            } else {
                &p.name
            };
            write!(f, " ({name}), loaded by user {}", p.uid)?;
        }
        if let Some(since) = self.since {
            // To the minute: a sentence that changed each second would be news each second.
            let time = humantime::format_rfc3339_seconds(since).to_string();
            write!(f, " at {}Z", time.get(..16).unwrap_or(&time))?;
        }
        match self.link {
            Some(id) => write!(
                f,
                ", held by link {id}: stop the process that holds it (`bpftool link show id {id}` names it)"
            )?,
            None if self.program.is_some() => write!(
                f,
                ", attached without a link: `ip link set dev {} xdp off` removes it, if nobody needs it",
                self.interface
            )?,
            None => write!(f, " (`bpftool prog show id {}` tells whose)", self.on.program)?,
        }
        f.write_str(
            "; to live beside it, pin it and name it in `xdp.next`, or let it call ours through `xdp.rootArray`",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_owner_and_what_to_do() {
        let mut owner = Owner {
            interface: "eth0".into(),
            on: XdpOn {
                program: 42,
                native: true,
            },
            program: Some(ProgramInfo {
                id: 42,
                name: "bpf_xdp_entry".into(),
                uid: 0,
                loaded_ns: 0,
            }),
            link: Some(7),
            since: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_000_125_400)),
        };
        let text = owner.to_string();
        for part in [
            "eth0 has an XDP program of somebody else's already: native mode, program 42 (bpf_xdp_entry)",
            "loaded by user 0 at 2026-11-18T11:08Z, held by link 7: stop the process",
            "`xdp.next`",
        ] {
            assert!(text.contains(part), "{text}");
        }
        owner.link = None;
        assert!(owner.to_string().contains("`ip link set dev eth0 xdp off`"));
        owner.program = None;
        owner.since = None;
        assert!(
            owner
                .to_string()
                .contains("`bpftool prog show id 42` tells whose")
        );
    }
}
