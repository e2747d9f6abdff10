//! Which server, and what happens when it does not take the connection.
use crate::support::{
    Backend, PORT, Running, VIP, assert_alive, connect, connect_to, eventually, in_namespace, is_reset,
    proxied, served, who,
};
use lb_common::proxy::Balance;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Nobody listens there: connections are refused.
const REFUSES: &str = "127.0.1.9:6443";

#[test]
fn clients_are_spread_in_turns() {
    in_namespace(|| {
        let backends = [1, 2, 3].map(Backend::named);
        let running = Running::start(&backends.each_ref().map(|b| b.address));
        let names: Vec<u8> = (0..9).map(|_| served().1).collect();
        for n in 1..=3 {
            assert_eq!(names.iter().filter(|name| **name == n).count(), 3, "{names:?}");
        }
        assert_eq!(running.view().servers[0].accepted, 9);
    });
}

#[test]
fn the_next_server_is_tried_when_one_refuses_and_no_client_notices() {
    in_namespace(|| {
        let backend = Backend::named(1);
        let dead = REFUSES.parse().unwrap();
        let running = Running::start(&[dead, backend.address]);
        for _ in 0..20 {
            assert_eq!(served().1, 1);
        }
        let view = running.server(dead);
        assert!(
            view.failures >= 1 && view.failures < 20,
            "tried last for a while: {view:?}"
        );
        assert_eq!((view.sessions, running.view().servers[0].unserved), (0, 0));
    });
}

#[test]
fn a_server_that_never_answers_costs_one_client_its_timeout_and_not_every_one() {
    in_namespace(|| {
        // A listener whose queue is full drops SYNs: nothing is ever answered.
        let hole = TcpListener::bind("127.0.1.8:6443").unwrap();
        let hole_address = hole.local_addr().unwrap();
        nix::sys::socket::listen(&hole, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let fillers: Vec<_> = (0..3)
            .map(|_| {
                let filler = socket();
                filler.set_nonblocking(true).unwrap();
                let _ = filler.connect(&hole_address.into());
                filler
            })
            .collect();
        let backend = Backend::named(1);
        let running = Running::start(&[hole_address, backend.address]);
        for _ in 0..20 {
            assert_eq!(served().1, 1);
        }
        let failures = running.server(hole_address).failures;
        assert!((1..10).contains(&failures), "{failures}");
        drop(fillers);
    });
}

#[test]
fn a_client_whom_nobody_takes_is_reset_as_if_nobody_listened() {
    in_namespace(|| {
        let running = Running::start(&[REFUSES.parse().unwrap()]);
        assert!(is_reset(&mut connect()));
        eventually("it is counted", || running.view().servers[0].unserved == 1);
        assert_eq!(running.view().sessions, 0);
    });
}

#[test]
fn a_client_stays_at_its_server() {
    in_namespace(|| {
        let backends = [1, 2, 3].map(Backend::named);
        let mut want = proxied(&backends.each_ref().map(|b| b.address));
        want.balance = Balance::Source;
        let mut running = Running::with(want, |_| {});
        let name_of = |last: u8| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let from: SocketAddr = format!("127.0.7.{last}:0").parse().unwrap();
            socket.bind(&from.into()).unwrap();
            socket.connect(&SocketAddr::new(VIP, PORT).into()).unwrap();
            who(&mut socket.into()).unwrap()
        };
        let names: Vec<u8> = (1..=30).map(name_of).collect();
        assert!((1..=3).all(|n| names.contains(&n)), "{names:?}");
        assert_eq!((1..=30).map(name_of).collect::<Vec<_>>(), names);
        running.change(|want| want.servers[1].up = false);
        let after: Vec<u8> = (1..=30).map(name_of).collect();
        for (before, after) in names.iter().zip(&after) {
            assert!(*after != 2 && (*before == 2 || before == after));
        }
        running.change(|want| want.servers[1].up = true);
        assert_eq!((1..=30).map(name_of).collect::<Vec<_>>(), names);
    });
}

#[test]
fn the_fewest_connections_get_the_next_one() {
    in_namespace(|| {
        let backends = [1, 2].map(Backend::named);
        let mut want = proxied(&backends.each_ref().map(|b| b.address));
        want.balance = Balance::LeastConnections;
        let running = Running::with(want, |_| {});
        let mut streams: Vec<_> = (0..6).map(|_| served()).collect();
        streams.retain(|(_, name)| *name == 2);
        let [one, two] = backends.each_ref().map(|b| b.address);
        eventually("the first server's are gone", || running.server(one).active == 0);
        assert_eq!(running.server(two).active, 3);
        for _ in 0..3 {
            streams.push(served());
        }
        assert_eq!((running.server(one).active, running.server(two).active), (3, 3));
    });
}

#[test]
fn who_finds_all_servers_full_waits_until_one_is_not() {
    in_namespace(|| {
        let backends = [1, 2].map(Backend::named);
        let mut want = proxied(&backends.each_ref().map(|b| b.address));
        for server in &mut want.servers {
            (server.most, server.resume) = (2, 2);
        }
        let running = Running::with(want, |s| s.queue_timeout = Duration::from_secs(3));
        let mut streams: Vec<_> = (0..4).map(|_| served().0).collect();
        let mut waiting = connect();
        waiting.write_all(b"!").unwrap();
        assert_eq!(
            running.view().servers[0]
                .servers
                .iter()
                .map(|s| s.active)
                .sum::<u32>(),
            4
        );
        drop(streams.pop());
        who(&mut waiting).unwrap();
        let mut in_vain = connect();
        assert!(is_reset(&mut in_vain), "the queue has an end");
        streams.iter_mut().for_each(assert_alive);
        assert_eq!(running.view().servers[0].cut, 1);
    });
}

#[test]
fn the_port_of_every_address_serves_the_same() {
    in_namespace(|| {
        let backends = [1, 2].map(Backend::named);
        let mut want = proxied(&backends.each_ref().map(|b| b.address));
        want.listen = vec!["0.0.0.0:6444".parse().unwrap(), "[::]:6444".parse().unwrap()];
        let mut running = Running::with(want, |_| {});
        for address in [
            "192.0.2.100:6444",
            "127.0.0.1:6444",
            "[2001:db8::100]:6444",
            "[::1]:6444",
        ] {
            let mut stream = connect_to(address.parse().unwrap());
            who(&mut stream).unwrap();
            assert_alive(&mut stream);
        }
        let mut stays = connect_to("127.0.0.1:6444".parse().unwrap());
        who(&mut stays).unwrap();
        running.change(|want| want.listen.clear());
        eventually("nobody listens there any more", || {
            std::net::TcpStream::connect("127.0.0.1:6444").is_err()
        });
        assert_alive(&mut stays);
    });
}

#[test]
fn a_port_that_is_taken_is_said_and_the_rest_is_served() {
    in_namespace(|| {
        let _taken = TcpListener::bind("0.0.0.0:6444").unwrap();
        let backend = Backend::named(1);
        let mut running = Running::start(&[backend.address]);
        let mut want = running.proxy().serving();
        want.servers
            .values_mut()
            .for_each(|s| s.listen = vec!["0.0.0.0:6444".parse().unwrap()]);
        let problems = running.proxy().set(&want);
        assert!(
            matches!(&problems[..], [one] if one.contains("0.0.0.0:6444") && one.contains("bindPort")),
            "{problems:?}"
        );
        assert_ne!(running.proxy().serving(), want);
        assert_eq!(served().1, 1);
    });
}
