//! The program on an interface: by its driver where that can, for as long as this process (or its guardian) lives.
use super::object::{Object, ObjectError};
use super::owner::Owner;
use super::place::Site;
use crate::sys::bpf::{self, XdpMode};
use crate::sys::ethtool;
use crate::sys::rtnl::Link;
use lb_common::spec;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Frames of packets longer than this may take several buffers, which the plain program does not read.
const ONE_BUFFER: u32 = 1500;

/// An interface with our program on it.
#[derive(Debug)]
pub struct Attachment {
    /// Where.
    pub site: Site,
    /// Who runs it.
    pub mode: XdpMode,
    /// Whether it is the variant for frames of several buffers.
    pub frags: bool,
    /// Why it is not simply native.
    pub why: Option<String>,
    /// The interface's longest packet when it was attached.
    pub mtu: u32,
    link: Arc<OwnedFd>,
}

/// Why it is not on an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Somebody else's program is there.
    #[error("{0}")]
    Occupied(Owner),
    /// The kernel lets a program be on an interface, or on one above it, but not first there.
    #[error("{0}; the kernel takes no program on {1}, which is below it, while that one is there")]
    OccupiedAbove(Owner, String),
    /// The same, and the one above is ours: it has to go first.
    #[error("the program on {1}, above {0}, has to be detached first")]
    OursAbove(String, u32),
    /// The interface is gone.
    #[error("{0} is gone")]
    Gone(String),
    /// The kernel or the driver does not want it.
    #[error("the XDP program cannot be on {interface}: {why}")]
    Refused {
        /// The interface.
        interface: String,
        /// Each way that was tried and what came of it.
        why: String,
    },
    /// There is no program.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl Attachment {
    /// Attaches at `site`. `ours` are the numbers of our own programs.
    pub fn make(
        object: &mut Object,
        site: &Site,
        links: &BTreeMap<u32, Link>,
        mode: spec::XdpMode,
        ours: &[u32],
    ) -> Result<Self, AttachError> {
        let link = links
            .get(&site.interface)
            .ok_or_else(|| AttachError::Gone(site.name.clone()))?;
        let cx = Attempt {
            site,
            link,
            links,
            ours,
        };
        if let Some(why) = &site.generic {
            return cx
                .attach(object, XdpMode::Generic, false, Some(why.clone()))?
                .map_err(|e| cx.refused(&e));
        }
        let error = match cx.attach(object, XdpMode::Native, false, None)? {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let driver = ethtool::driver(&link.name).unwrap_or_else(|_| "its driver".into());
        let mut why = format!("{driver} refused native mode ({error})");
        if link.mtu > ONE_BUFFER {
            let remark = format!("an MTU of {} takes frames of several buffers", link.mtu);
            let second = match object.need_frags() {
                Ok(()) => cx
                    .attach(object, XdpMode::Native, true, Some(remark))?
                    .map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match second {
                Ok(done) => return Ok(done),
                Err(error) => why.push_str(&format!(
                    ", and for an MTU of {} with frames of several buffers ({error})",
                    link.mtu
                )),
            }
        }
        if mode == spec::XdpMode::Native {
            return Err(AttachError::Refused {
                interface: link.name.clone(),
                why: format!("{why}, and the file says `mode: native`"),
            });
        }
        let said = why.clone();
        cx.attach(object, XdpMode::Generic, false, Some(why))?
            .map_err(|error| AttachError::Refused {
                interface: link.name.clone(),
                why: format!(
                    "{said}, and the kernel generic mode ({}{error})",
                    age_hint(&error)
                ),
            })
    }

    /// Whether it is what would be made anew at `site`, whose interface has this MTU now. A driver that refused is asked
    /// again when that has changed, but not while something is `held`: what is detached passes everything.
    pub(super) fn suits(&self, site: &Site, mode: spec::XdpMode, mtu: Option<u32>, held: bool) -> bool {
        let (native, may_be_native) = (self.mode == XdpMode::Native, site.generic.is_none());
        let ask_again = !native && may_be_native && !held && mtu != Some(self.mtu);
        match mode {
            spec::XdpMode::Native => native && may_be_native,
            spec::XdpMode::Generic => !native,
            spec::XdpMode::Auto => (may_be_native || !native) && !ask_again,
        }
    }

    /// Whether the interface is there, and the program that it runs is ours.
    pub fn is_intact(&self) -> bool {
        bpf::link_info(self.link.as_fd()).is_ok_and(|info| info.interface == self.site.interface)
    }

    /// The number of the program that runs there now.
    pub fn program(&self) -> Option<u32> {
        bpf::link_info(self.link.as_fd()).ok().map(|info| info.program)
    }

    /// Puts the program of another object in this one's place, between two packets.
    pub fn replace(&self, object: &Object) -> Result<(), ObjectError> {
        let program = object.program(self.frags)?;
        bpf::replace_program(self.link.as_fd(), program).map_err(|e| ObjectError::Other {
            doing: format!(
                "putting another program in the place of the one on {}",
                self.site.name
            ),
            causes: e.to_string(),
        })
    }

    /// Takes it off the interface, also where the guardian holds the link as well.
    pub fn detach(self) {
        if let Err(error) = bpf::detach(self.link.as_fd()) {
            tracing::debug!(interface = self.site.name, %error, "a link cannot be detached; it goes when it is closed");
        }
    }

    /// What keeps the program there: it stays until every copy is closed.
    pub fn link(&self) -> Arc<OwnedFd> {
        self.link.clone()
    }
}

struct Attempt<'a> {
    site: &'a Site,
    link: &'a Link,
    links: &'a BTreeMap<u32, Link>,
    ours: &'a [u32],
}

impl Attempt<'_> {
    /// The inner error is a refusal of this way that leaves others to be tried.
    fn attach(
        &self,
        object: &Object,
        mode: XdpMode,
        frags: bool,
        why: Option<String>,
    ) -> Result<io::Result<Attachment>, AttachError> {
        let program = object.program(frags)?;
        match bpf::attach_xdp(program, self.site.interface, mode) {
            Ok(link) => Ok(Ok(Attachment {
                site: self.site.clone(),
                mode,
                frags,
                why,
                mtu: self.link.mtu,
                link: Arc::new(link),
            })),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EBUSY | Errno::EEXIST) => match self.owner() {
                    Some(error) => Err(error),
                    None => Ok(Err(error)),
                },
                Some(Errno::ENODEV) => Err(AttachError::Gone(self.link.name.clone())),
                Some(Errno::EPERM | Errno::EACCES) => Err(AttachError::Object(ObjectError::Permission {
                    doing: format!("attaching the XDP program to {}", self.link.name),
                })),
                _ => Ok(Err(error)),
            },
        }
    }

    /// Who is in the way: on this interface, or on one above it (`dev_xdp_attach`).
    fn owner(&self) -> Option<AttachError> {
        if let Some(on) = self.link.xdp {
            return Some(AttachError::Occupied(Owner::find(
                &self.link.name,
                self.link.index,
                on,
            )));
        }
        let is_above = |l: &&Link| {
            l.vlan.is_some_and(|v| v.parent == self.link.index) || self.link.master == Some(l.index)
        };
        let above = self.links.values().filter(is_above);
        let (above, on) = above.filter_map(|l| l.xdp.map(|on| (l, on))).next()?;
        Some(if self.ours.contains(&on.program) {
            AttachError::OursAbove(self.link.name.clone(), above.index)
        } else {
            AttachError::OccupiedAbove(Owner::find(&above.name, above.index, on), self.link.name.clone())
        })
    }

    fn refused(&self, error: &io::Error) -> AttachError {
        AttachError::Refused {
            interface: self.link.name.clone(),
            why: format!("the kernel refused generic mode ({}{error})", age_hint(error)),
        }
    }
}

/// What a kernel before 5.9 says to a link for XDP.
fn age_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EINVAL) => "attaching needs kernel 5.9: ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::XdpMode::{Auto, Generic, Native};
    use std::fs::File;

    fn site(generic: Option<&str>) -> Site {
        Site {
            interface: 2,
            name: "eth0".into(),
            vlan: 0,
            generic: generic.map(Into::into),
        }
    }

    fn attached(mode: XdpMode) -> Attachment {
        Attachment {
            site: site(None),
            mode,
            frags: false,
            why: None,
            mtu: 9000,
            link: Arc::new(File::open("/dev/null").unwrap().into()),
        }
    }

    #[test]
    fn it_stays_unless_something_else_would_be_made() {
        let (native, generic) = (attached(XdpMode::Native), attached(XdpMode::Generic));
        let (free, bridge) = (site(None), site(Some("a bridge")));
        let table = [
            (&native, &free, Auto, 9000, false, true),
            (&native, &free, Auto, 1500, false, true),
            (&native, &free, Generic, 9000, true, false),
            (&native, &bridge, Auto, 9000, true, false),
            (&generic, &bridge, Auto, 1500, false, true),
            (&generic, &bridge, Native, 9000, true, false),
            (&generic, &free, Auto, 9000, false, true),
            (&generic, &free, Auto, 1500, false, false),
            (&generic, &free, Auto, 1500, true, true),
            (&generic, &free, Generic, 1500, false, true),
        ];
        for (a, site, mode, mtu, held, want) in table {
            let case = format!("{:?} at {site:?}, {mode:?}, {mtu}, held {held}", a.mode);
            assert_eq!(a.suits(site, mode, Some(mtu), held), want, "{case}");
        }
    }
}
