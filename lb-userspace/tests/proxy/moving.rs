//! Bytes.
use crate::support::{Backend, Running, connect, echo, eventually, in_namespace, served};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

/// A stream that is nowhere the same.
fn pattern(from: usize, buffer: &mut [u8]) {
    for (i, byte) in buffer.iter_mut().enumerate() {
        let word = ((from + i) / 4) as u32;
        *byte = word.wrapping_mul(0x9e37_79b1).to_le_bytes()[(from + i) % 4];
    }
}

fn send(mut to: impl Write, len: usize) {
    let mut chunk = vec![0; 100_000];
    let mut at = 0;
    while at < len {
        let n = chunk.len().min(len - at);
        pattern(at, &mut chunk[..n]);
        to.write_all(&chunk[..n]).unwrap();
        at += n;
    }
}

/// Reads to the end and says how many bytes of the pattern came.
fn receive(mut from: impl Read, pause: Option<Duration>) -> usize {
    let (mut chunk, mut expected) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut at = 0;
    loop {
        let n = from.read(&mut chunk).unwrap();
        if n == 0 {
            return at;
        }
        pattern(at, &mut expected[..n]);
        assert!(
            chunk[..n] == expected[..n],
            "bytes differ within {n} from {at} on"
        );
        at += n;
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    }
}

const STREAM: usize = 64 << 20;

#[test]
fn a_stream_comes_as_it_was_sent_both_ways_at_once_and_each_end_is_passed_on() {
    in_namespace(|| {
        let backend = Backend::start(1, |stream| {
            let out = stream.try_clone().unwrap();
            let sender = thread::spawn(move || {
                send(&out, STREAM);
                out.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(receive(&stream, None), STREAM);
            sender.join().unwrap();
        });
        let running = Running::start(&[backend.address]);
        let stream = connect();
        let out = stream.try_clone().unwrap();
        let sender = thread::spawn(move || {
            send(&out, STREAM);
            out.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(receive(&stream, None), STREAM);
        sender.join().unwrap();
        eventually("the session ends with both its directions", || {
            running.view().sessions == 0
        });
        let server = running.server(backend.address);
        assert_eq!(
            (server.to_server, server.to_client),
            (STREAM as u64, STREAM as u64)
        );
        assert_eq!((server.sessions, server.active, server.failures), (1, 0, 0));
    });
}

#[test]
fn a_slow_receiver_holds_the_sender_up_and_little_waits_in_between() {
    in_namespace(|| {
        let backend = Backend::start(1, |stream| {
            send(&stream, 16 << 20);
        });
        let running = Running::start(&[backend.address]);
        let streams: Vec<_> = (0..40).map(|_| connect()).collect();
        // Nobody reads: what the sockets do not take stays with the servers.
        eventually("every server has begun", || backend.accepted() == 40);
        thread::sleep(Duration::from_millis(300));
        assert!(
            running.view().held_bytes <= 40 * 64 * 1024,
            "{:?}",
            running.view()
        );
        let mut readers = Vec::new();
        for (i, stream) in streams.into_iter().enumerate() {
            let pause = (i % 8 == 0).then_some(Duration::from_micros(200));
            readers.push(thread::spawn(move || receive(stream, pause)));
        }
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 16 << 20);
        }
        eventually("nothing is held for nobody", || running.view().held_bytes == 0);
    });
}

#[test]
fn a_client_that_has_said_its_last_word_still_gets_its_answer() {
    in_namespace(|| {
        let backend = Backend::start(1, |mut stream| {
            let mut question = String::new();
            stream.read_to_string(&mut question).unwrap();
            thread::sleep(Duration::from_millis(50));
            write!(stream, "{question} to you").unwrap();
        });
        let _running = Running::start(&[backend.address]);
        let mut stream = connect();
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hello to you");
    });
}

#[test]
fn a_server_that_breaks_off_is_passed_on_as_a_reset_and_not_as_an_end() {
    in_namespace(|| {
        let backend = Backend::start(1, |stream| {
            (&stream).write_all(b"half of").unwrap();
            thread::sleep(Duration::from_millis(50));
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        });
        let _running = Running::start(&[backend.address]);
        assert!(crate::support::is_reset(&mut connect()));
    });
}

#[test]
fn many_small_messages_on_many_connections_are_not_mixed_up() {
    in_namespace(|| {
        let backends = [1, 2, 3].map(|n| Backend::start(n, echo));
        let _running = Running::start(&backends.each_ref().map(|b| b.address));
        let clients: Vec<_> = (0..50u8)
            .map(|n| {
                thread::spawn(move || {
                    let mut stream = connect();
                    for round in 0..200u16 {
                        let message = [[n; 30].as_slice(), &round.to_be_bytes()].concat();
                        stream.write_all(&message).unwrap();
                        let mut answer = vec![0; message.len()];
                        stream.read_exact(&mut answer).unwrap();
                        assert_eq!(answer, message);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    });
}

#[test]
fn a_stream_that_pauses_and_begins_again_goes_on() {
    in_namespace(|| {
        let backend = Backend::start(1, |mut stream| {
            let mut at = 0;
            // Streams, trickles, streams.
            for (chunk, times) in [(1 << 20, 4), (100, 50), (1 << 20, 4), (1, 20)] {
                for _ in 0..times {
                    let mut bytes = vec![0; chunk];
                    pattern(at, &mut bytes);
                    stream.write_all(&bytes).unwrap();
                    at += chunk;
                    if chunk < 1000 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        });
        let _running = Running::start(&[backend.address]);
        assert_eq!(receive(connect(), None), (8 << 20) + 50 * 100 + 20);
    });
}

#[test]
fn what_is_sent_before_the_server_is_found_is_not_lost() {
    in_namespace(|| {
        let backend = Backend::named(1);
        let dead = "127.0.1.9:6443".parse().unwrap();
        let _running = Running::start(&[dead, backend.address]);
        for _ in 0..20 {
            let mut stream = connect();
            stream.write_all(b"first").unwrap();
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"\x01first");
        }
        drop(served());
    });
}
