//! Texts and descriptors over a Unix socket, in packets.
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

/// Of a text, in one packet.
const PIECE: usize = 64 * 1024;
/// Descriptors in one packet (`SCM_MAX_FD` is 253).
const DESCRIPTORS: usize = 200;
/// No text is longer than this: all sessions there can be, each with what it holds.
const LONGEST: usize = 1 << 30;

/// One conversation.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// A socket that waits for one at `path`; a file left by an earlier run goes. Root alone may use it.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let socket = unix(SocketFlags::CLOEXEC)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    listen(&socket, 4)?;
    Ok(socket)
}

fn unix(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

impl Channel {
    /// With whoever waits at `path`.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = unix(SocketFlags::CLOEXEC)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// With the next one that comes to `listener`.
    pub(super) fn accept(listener: impl AsFd) -> io::Result<Self> {
        Ok(Self(accept_with(listener, SocketFlags::CLOEXEC)?))
    }

    /// From now on, how long the other end may take for one packet.
    pub(super) fn patience(&self, limit: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(limit))?;
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(limit))?)
    }

    /// The process at the other end; `None`: its number means nothing here (it is in another container).
    pub(super) fn peer(&self) -> Option<u32> {
        let credentials = getsockopt(&self.0, PeerCredentials).ok()?;
        u32::try_from(credentials.pid()).ok().filter(|pid| *pid > 0)
    }

    /// A value, and descriptors with it.
    pub(super) fn send(&self, value: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(value)?;
        let sizes = [text.len() as u64, descriptors.len() as u64];
        let head: Vec<u8> = sizes.iter().flat_map(|n| n.to_ne_bytes()).collect();
        self.packet(&head, &[])?;
        for piece in text.chunks(PIECE) {
            self.packet(piece, &[])?;
        }
        for some in descriptors.chunks(DESCRIPTORS) {
            self.packet(b"d", some)?;
        }
        Ok(())
    }

    fn packet(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(n) if n == bytes.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next value with its descriptors.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        let (head, _) = self.take(16)?;
        let number = |at: usize| -> io::Result<usize> {
            let bytes = head.get(at..at + 8).and_then(|b| b.try_into().ok());
            let number = bytes
                .map(u64::from_ne_bytes)
                .and_then(|n| usize::try_from(n).ok());
            number
                .filter(|n| *n <= LONGEST)
                .ok_or_else(|| io::ErrorKind::InvalidData.into())
        };
        let (length, count) = (number(0)?, number(8)?);
        let mut text = Vec::new();
        while text.len() < length {
            text.extend(self.take(PIECE)?.0);
        }
        let mut descriptors = Vec::new();
        while descriptors.len() < count {
            let (_, some) = self.take(1)?;
            if some.is_empty() {
                return Err(io::Error::other(
                    "descriptors were lost on the way: this process may open too few",
                ));
            }
            descriptors.extend(some);
        }
        Ok((serde_json::from_slice(&text)?, descriptors))
    }

    /// One packet.
    fn take(&self, most: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut bytes = vec![0; most];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the other process does not answer",
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        };
        if received.bytes == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the other process is gone",
            ));
        }
        bytes.truncate(received.bytes);
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        Ok((bytes, descriptors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_long_text_and_many_descriptors_come_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = open(&path).unwrap();
        let files: Vec<File> = (0..500)
            .map(|n| File::create(dir.path().join(n.to_string())).unwrap())
            .collect();
        let inodes: Vec<u64> = files.iter().map(|f| f.metadata().unwrap().ino()).collect();
        let text = "x".repeat(300_000);
        let said = text.clone();
        let asking = std::thread::spawn(move || {
            let channel = Channel::connect(&path).unwrap();
            let first: (String, Vec<OwnedFd>) = channel.receive().unwrap();
            let second: (u8, Vec<OwnedFd>) = channel.receive().unwrap();
            (first, second.0)
        });
        let channel = Channel::accept(&listener).unwrap();
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        channel.send(&said, &fds).unwrap();
        channel.send(&7u8, &[]).unwrap();
        assert_eq!(channel.peer(), Some(std::process::id()));
        let ((got, fds), seven) = asking.join().unwrap();
        assert_eq!((got, seven), (text, 7));
        let came: Vec<u64> = fds
            .into_iter()
            .map(|fd| File::from(fd).metadata().unwrap().ino())
            .collect();
        assert_eq!(came, inodes);
    }

    #[test]
    fn one_that_is_gone_and_one_that_is_silent_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = open(&path).unwrap();
        let asking = Channel::connect(&path).unwrap();
        let asked = Channel::accept(&listener).unwrap();
        asked.patience(Duration::from_millis(1)).unwrap();
        let silent = asked.receive::<u8>().unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        asking.packet(&[0; 3], &[]).unwrap();
        assert!(asked.receive::<u8>().is_err(), "no head");
        asking.packet(&[0xff; 16], &[]).unwrap();
        assert!(asked.receive::<u8>().is_err(), "longer than anything");
        drop(asking);
        let gone = asked.receive::<u8>().unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }
}
