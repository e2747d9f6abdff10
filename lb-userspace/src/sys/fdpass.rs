//! Descriptors over a Unix socket (`SCM_RIGHTS`).
#![expect(unsafe_code, reason = "what arrives is a number until somebody owns it")]

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The kernel takes no more at once (`SCM_MAX_FD`).
pub const AT_ONCE: usize = 253;

/// Sends some of `bytes`, with copies of `fds` (at most [`AT_ONCE`]) beside the first of them. Gives how many bytes
/// went.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(sent)
}

/// Receives up to `buffer.len()` bytes, and the descriptors that came beside them. 0 bytes: the other end is closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut room = nix::cmsg_space!([RawFd; AT_ONCE]);
    loop {
        let mut slices = [IoSliceMut::new(buffer)];
        let message = match recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut room),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(Errno::EINTR) => continue,
            message => message?,
        };
        let mut fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel made these for this process in this call, and nobody else has their numbers.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        return Ok((message.bytes, fds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_the_bytes_that_it_was_sent_with() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"held").unwrap();
        assert_eq!(send(a.as_fd(), b"first\n", &[file.as_fd()]).unwrap(), 6);
        assert_eq!(send(a.as_fd(), b"second\n", &[]).unwrap(), 7);
        drop((a, file));
        let mut buffer = [0; 64];
        let (n, fds) = receive(b.as_fd(), &mut buffer).unwrap();
        assert_eq!((buffer.get(..n).unwrap(), fds.len()), (&b"first\n"[..], 1));
        let mut again = File::from(fds.into_iter().next().unwrap());
        again.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "held");
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().0, 7);
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().0, 0, "closed");
    }
}
