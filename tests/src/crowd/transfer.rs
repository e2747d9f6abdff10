//! One connection that blocks, for few lines or for many bytes.
use super::Word;
use crate::topology::Node;
use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// A plain connection to a server of a [`crate::crowd`].
#[derive(Debug)]
pub struct Line {
    reader: BufReader<TcpStream>,
    /// The client's end.
    pub local: SocketAddr,
}

/// Connects from the node, from one of its addresses and port 0 for any; each step may take `limit`.
pub fn line(node: &Node, source: Option<SocketAddr>, to: SocketAddr, limit: Duration) -> Result<Line> {
    let connect = || -> Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(source) = source {
            socket.bind(&source.into())?;
        }
        socket.connect_timeout(&to.into(), limit)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let stream = node
        .netns()
        .run(connect)?
        .with_context(|| format!("connecting to {to}"))?;
    Ok(Line {
        local: stream.local_addr()?,
        reader: BufReader::new(stream),
    })
}

impl Line {
    /// One line and its answer.
    pub fn ask(&mut self) -> Result<Word> {
        self.reader.get_mut().write_all(b"ask\n")?;
        self.word()
    }

    /// Sends so many bytes; the answer comes when the server has them all.
    pub fn put(&mut self, bytes: usize) -> Result<Word> {
        let stream = self.reader.get_mut();
        writeln!(stream, "put {bytes}")?;
        stream.write_all(&vec![b'.'; bytes])?;
        self.word()
    }

    /// Asks for so many bytes and takes them.
    pub fn get(&mut self, bytes: usize) -> Result<Word> {
        writeln!(self.reader.get_mut(), "get {bytes}")?;
        let word = self.word()?;
        let mut taken = vec![0; bytes];
        self.reader
            .read_exact(&mut taken)
            .context("the bytes that were asked for")?;
        ensure!(
            taken.iter().all(|byte| *byte == b'.'),
            "bytes that no server sends"
        );
        Ok(word)
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Ends it with a reset, so that its ports can be used again at once.
    pub fn abort(self) -> Result<()> {
        let stream = self.reader.into_inner();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    fn word(&mut self) -> Result<Word> {
        let mut text = String::new();
        self.reader.read_line(&mut text).context("the answer")?;
        Word::parse(text.trim_end())
    }
}

/// Which server answers a datagram from that end, if any does within `limit`.
pub fn datagram(node: &Node, source: SocketAddr, to: SocketAddr, limit: Duration) -> Result<Option<Word>> {
    let ask = || -> Result<Option<Word>> {
        let socket = std::net::UdpSocket::bind(source)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(limit))?;
        let mut buffer = [0; 256];
        socket.send(b"ask\n")?;
        match socket.recv(&mut buffer) {
            Ok(count) => Word::parse(String::from_utf8_lossy(&buffer[..count]).trim_end()).map(Some),
            Err(_) => Ok(None),
        }
    };
    node.netns().run(ask)?
}

/// The clients' addresses of one family, in one network: `first` and those after it.
pub fn addresses(first: IpAddr, count: u8) -> Vec<IpAddr> {
    let after = |n: u8| match first {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + u32::from(n)).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + u128::from(n)).into()),
    };
    (0..count).map(after).collect()
}
