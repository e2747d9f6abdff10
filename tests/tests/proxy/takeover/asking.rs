//! A new daemon that dies while it takes over, at a step of one's choice: it speaks as much of the protocol
//! (`lb-userspace/src/handover`) as it takes to get there.
use anyhow::{Context, Result, bail};
use lb_tests::topology::Node;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::{Value, json};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

const SOCKET: &str = "/run/cplb/takeover.sock";

/// After what it dies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// It has only connected and said half of a word.
    Hello,
    /// It was told to make ready.
    Prepared,
    /// It has said that it is ready.
    Ready,
    /// It has all sessions.
    Sessions,
    /// It was let act.
    Go,
}

pub(super) struct Asking(OwnedFd);

impl Asking {
    /// Asks the daemon on `node`, and is gone after `step`.
    pub(super) fn until(node: &Node, step: Step) -> Result<()> {
        node.netns().run(|| Self::go(step))?
    }

    fn go(step: Step) -> Result<()> {
        let fd = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        connect(fd.as_raw_fd(), &UnixAddr::new(SOCKET)?).context(SOCKET)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(20))?;
        let asking = Self(fd);
        if step == Step::Hello {
            return asking.packet(&[1, 2, 3]);
        }
        let network = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
        let instance = json!({"name": "k0s-vip-0", "vrid": 51, "family": "ipv4"});
        asking.say(&json!({"format": 1, "version": "test", "network": network, "instances": [instance]}))?;
        asking.hear("prepare")?;
        if step == Step::Prepared {
            return Ok(());
        }
        asking.say(&json!("ready"))?;
        if step == Step::Ready {
            return Ok(());
        }
        asking.hear("sessions")?;
        if step == Step::Sessions {
            return Ok(());
        }
        asking.say(&json!("have"))?;
        asking.hear("go")
    }

    fn say(&self, value: &Value) -> Result<()> {
        let text = serde_json::to_vec(value)?;
        let head = [text.len() as u64, 0].map(u64::to_ne_bytes).concat();
        self.packet(&head)?;
        self.packet(&text)
    }

    fn packet(&self, bytes: &[u8]) -> Result<()> {
        send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }

    /// The next answer, whose descriptors are left to the kernel to close.
    fn hear(&self, wanted: &str) -> Result<()> {
        let mut head = [0; 16];
        let n = recv(self.0.as_raw_fd(), &mut head, MsgFlags::empty())?;
        let number = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let length = number(0).filter(|_| n == 16);
        let mut text = vec![0; 64 * 1024];
        let mut whole = Vec::new();
        while (whole.len() as u64) < length.context("no head")? {
            let n = recv(self.0.as_raw_fd(), &mut text, MsgFlags::empty())?;
            whole.extend(text.get(..n).unwrap_or_default());
        }
        // Two hundred descriptors ride on one packet.
        for _ in 0..number(8).unwrap_or(0).div_ceil(200) {
            recv(self.0.as_raw_fd(), &mut [0], MsgFlags::empty())?;
        }
        let said: Value = serde_json::from_slice(&whole)?;
        if said.get(wanted).is_none() && said != *wanted {
            bail!("{said} instead of {wanted}");
        }
        Ok(())
    }
}
