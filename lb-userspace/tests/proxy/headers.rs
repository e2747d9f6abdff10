//! The PROXY protocol, out and in.
use crate::support::{Backend, Running, VIP, connect, in_namespace, is_reset, proxied};
use lb_common::wire::proxy::{Addresses, Decoded, Version, decode, encode};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// What a header said, and what came behind it.
type Told = (Option<Addresses>, Vec<u8>);

/// A server that tells what header it was sent and what came behind it.
fn telling() -> (Backend, Receiver<Told>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let backend = Backend::start(1, move |mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let Ok(Decoded::Header { length, addresses }) = decode(&bytes) else {
            panic!("no header: {}", bytes.escape_ascii());
        };
        tell.lock()
            .unwrap()
            .send((addresses, bytes.split_off(length)))
            .unwrap();
    });
    (backend, told)
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
}

#[test]
fn servers_learn_who_the_client_is() {
    in_namespace(|| {
        let (backend, told) = telling();
        let mut want = proxied(&[backend.address]);
        want.send_header = Some(Version::V1);
        let _running = Running::with(want, |_| {});
        let mut stream = connect();
        let expected = Addresses::new(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        say(&mut stream, b"hello");
        let (addresses, rest) = told.recv_timeout(crate::support::PATIENCE).unwrap();
        assert_eq!((addresses, &rest[..]), (Some(expected), &b"hello"[..]));
    });
}

#[test]
fn version_2_is_sent_as_well() {
    in_namespace(|| {
        let (backend, told) = telling();
        let mut want = proxied(&[backend.address]);
        want.send_header = Some(Version::V2);
        let _running = Running::with(want, |_| {});
        let mut stream = connect();
        let expected = Addresses::new(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        say(&mut stream, b"");
        assert_eq!(
            told.recv_timeout(crate::support::PATIENCE).unwrap().0,
            Some(expected)
        );
    });
}

#[test]
fn whom_another_proxy_speaks_for_is_passed_on_however_its_header_comes() {
    in_namespace(|| {
        let (backend, told) = telling();
        let mut want = proxied(&[backend.address]);
        want.send_header = Some(Version::V2);
        want.accept_header = vec!["192.0.2.100/32".parse().unwrap()];
        let _running = Running::with(want, |_| {});
        let client = Addresses::new(
            "203.0.113.7:1234".parse().unwrap(),
            "198.51.100.1:443".parse().unwrap(),
        );
        for (version, piece) in [
            (Version::V1, 1000),
            (Version::V2, 1000),
            (Version::V1, 7),
            (Version::V2, 1),
        ] {
            let bytes = [encode(version, &client), b"hello".to_vec()].concat();
            let mut stream = connect();
            stream.set_nodelay(true).unwrap();
            for piece in bytes.chunks(piece) {
                stream.write_all(piece).unwrap();
                if piece.len() < 10 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let (addresses, rest) = told.recv_timeout(crate::support::PATIENCE).unwrap();
            assert_eq!((addresses, &rest[..]), (Some(client), &b"hello"[..]));
        }
    });
}

#[test]
fn a_proxy_without_a_header_is_refused_and_a_client_that_is_none_needs_no_header() {
    in_namespace(|| {
        let backend = Backend::named(1);
        let mut want = proxied(&[backend.address]);
        want.accept_header = vec!["127.0.0.0/8".parse().unwrap()];
        let running = Running::with(want, |s| s.queue_timeout = Duration::from_millis(300));
        // From the virtual IP itself, which is what the kernel takes towards it.
        crate::support::who(&mut connect()).unwrap();
        let from_proxy = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket
                .bind(&std::net::SocketAddr::from(([127, 0, 0, 5], 0)).into())
                .unwrap();
            socket
                .connect(&std::net::SocketAddr::new(VIP, 6443).into())
                .unwrap();
            let stream: TcpStream = socket.into();
            stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
            stream
        };
        for bytes in [&b"\x16\x03\x01"[..], b"PROXY TCP4 1.2.3.4\r\n", b""] {
            let mut stream = from_proxy();
            stream.write_all(bytes).unwrap();
            assert!(is_reset(&mut stream), "{}", bytes.escape_ascii());
        }
        let seen = running.view();
        assert_eq!(
            (seen.servers[0].headless, seen.servers[0].cut, backend.accepted()),
            (2, 1, 1)
        );
    });
}
