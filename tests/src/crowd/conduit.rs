//! One connection that never blocks, with TLS or without.
use rustls::Connection;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes in, bytes out; what cannot leave yet is kept.
pub(super) struct Conduit {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
    /// What came and was not used yet.
    pub(super) input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
}

impl Conduit {
    /// The stream must not block.
    pub(super) fn new(stream: TcpStream, tls: Option<Connection>) -> Self {
        let tls = tls.map(|mut tls| {
            // A long answer is queued whole.
            tls.set_buffer_limit(None);
            Box::new(tls)
        });
        Self {
            stream,
            tls,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Queues bytes; [`Self::pump`] sends them.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Reads all that there is and writes what there is room for. `false`: the other end has closed.
    pub(super) fn pump(&mut self) -> io::Result<bool> {
        let open = self.read()?;
        self.write()?;
        Ok(open)
    }

    /// Writes as much as there is room for.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.write()
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> Option<String> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
        self.input.drain(..=end);
        Some(line)
    }

    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = match &mut self.tls {
                None => self.stream.read(&mut buffer),
                Some(tls) => tls.read_tls(&mut self.stream),
            };
            let count = match read {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match &mut self.tls {
                None => self.input.extend_from_slice(&buffer[..count]),
                Some(tls) => {
                    let state = tls.process_new_packets().map_err(io::Error::other)?;
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    tls.reader().read_exact(&mut plain)?;
                    self.input.extend_from_slice(&plain);
                }
            }
            if count == 0 {
                return Ok(false);
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.write_plain();
        };
        if !tls.is_handshaking() && !self.output.is_empty() {
            tls.writer().write_all(&self.output)?;
            self.output.clear();
        }
        while tls.wants_write() {
            match tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_plain(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }
}

impl AsFd for Conduit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
