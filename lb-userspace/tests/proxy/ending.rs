//! When a session ends that could have gone on, and when it does not.
use crate::support::{
    Backend, PORT, Running, VIP, assert_alive, connect, connect_to, eventually, in_namespace, is_reset, key,
    proxied, served, who,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

fn three() -> ([Backend; 3], Running, Vec<(TcpStream, u8)>) {
    let backends = [1, 2, 3].map(Backend::named);
    let running = Running::start(&backends.each_ref().map(|b| b.address));
    let streams = (0..30).map(|_| served()).collect();
    (backends, running, streams)
}

#[test]
fn a_dead_servers_clients_learn_of_it_and_nobody_elses_do() {
    in_namespace(|| {
        let (backends, mut running, streams) = three();
        running.change(|want| want.servers[1].up = false);
        for (mut stream, name) in streams {
            if name == 2 {
                assert!(is_reset(&mut stream));
            } else {
                assert_alive(&mut stream);
            }
        }
        assert!((0..6).all(|_| served().1 != 2));
        running.change(|want| want.servers[1].up = true);
        assert!((0..6).any(|_| served().1 == 2));
        drop(backends);
    });
}

#[test]
fn a_server_that_is_drained_or_taken_out_keeps_its_clients_and_gets_no_more() {
    in_namespace(|| {
        let (_backends, mut running, mut streams) = three();
        running.change(|want| {
            want.servers[0].weight = 0;
            want.servers.remove(1);
        });
        assert!((0..6).all(|_| served().1 == 3));
        for (stream, _) in &mut streams {
            assert_alive(stream);
        }
        running.change(|want| want.servers.clear());
        assert!(is_reset(&mut connect()));
        for (stream, _) in &mut streams {
            assert_alive(stream);
        }
    });
}

#[test]
fn who_loses_the_virtual_ip_cuts_its_sessions_and_not_those_to_other_addresses() {
    in_namespace(|| {
        let backend = Backend::named(1);
        let mut want = proxied(&[backend.address]);
        want.listen = vec!["0.0.0.0:6444".parse().unwrap()];
        let mut running = Running::with(want, |_| {});
        let (mut to_vip, _) = served();
        let mut to_node = connect_to("127.0.0.1:6444".parse().unwrap());
        who(&mut to_node).unwrap();
        running.change(|want| want.held = false);
        assert!(is_reset(&mut to_vip));
        assert_alive(&mut to_node);
        running.change(|want| want.held = true);
        assert_alive(&mut served().0);
        assert_alive(&mut to_node);
    });
}

#[test]
fn a_virtual_server_that_is_taken_out_takes_nobody_in_and_ends_nobody() {
    in_namespace(|| {
        let (_backends, mut running, mut streams) = three();
        let other = key(VIP, PORT + 1);
        running.change_all(|all| {
            let mut moved = all.servers.remove(&key(VIP, PORT)).unwrap();
            moved.key = other;
            all.servers.insert(other, moved);
        });
        eventually("nobody listens there", || {
            TcpStream::connect((VIP, PORT)).is_err()
        });
        for (stream, _) in &mut streams {
            assert_alive(stream);
        }
        who(&mut connect_to((VIP, PORT + 1).into())).unwrap();
    });
}

#[test]
fn what_is_idle_is_cut_only_where_that_is_asked_for() {
    in_namespace(|| {
        let backend = Backend::named(1);
        let mut running = Running::with(proxied(&[backend.address]), |s| {
            s.idle_timeout = Some(Duration::from_secs(3));
        });
        let (mut quiet, _) = served();
        let (mut busy, _) = served();
        let cut = thread::spawn(move || is_reset(&mut quiet));
        while !cut.is_finished() {
            assert_alive(&mut busy);
            thread::sleep(Duration::from_millis(20));
        }
        assert!(cut.join().unwrap());
        assert_eq!(running.view().servers[0].cut, 1);
        running.change_all(|all| all.settings.idle_timeout = None);
        let (mut quiet, _) = served();
        thread::sleep(Duration::from_secs(4));
        assert_alive(&mut quiet);
    });
}

#[test]
fn half_of_a_connection_is_not_kept_for_ever() {
    in_namespace(|| {
        // A server that never ends its half, whatever the client does.
        let backend = Backend::start(1, |mut stream| {
            let mut byte = [0];
            while let Ok(1) = stream.read(&mut byte) {
                let _ = stream.write_all(&byte);
            }
            thread::sleep(Duration::from_secs(60));
        });
        let running = Running::with(proxied(&[backend.address]), |s| {
            s.half_close_timeout = Duration::from_millis(300);
        });
        let mut stream = connect();
        assert_alive(&mut stream);
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(is_reset(&mut stream));
        eventually("the session is gone", || running.view().sessions == 0);
    });
}

#[test]
fn a_limit_holds_and_silent_clients_give_way() {
    in_namespace(|| {
        // Says something only when asked, so that whoever does not ask gets no word.
        let backend = Backend::start(1, crate::support::echo);
        let running = Running::with(proxied(&[backend.address]), |s| s.max_connections = Some(10));
        let mut asking: Vec<TcpStream> = (0..4).map(|_| connect()).collect();
        asking.iter_mut().for_each(assert_alive);
        let silent: Vec<TcpStream> = (0..6).map(|_| connect()).collect();
        eventually("it is full", || running.view().sessions == 10);
        // Waits in the kernel until the first of the silent ones has been silent for long enough.
        let mut late = connect();
        assert_alive(&mut late);
        // Each of the two threads may have made room for it at the same moment.
        let view = running.view();
        let cut = view.servers[0].cut;
        assert!(
            (1..=2).contains(&cut) && view.sessions as u64 + cut == 11,
            "{view:?}"
        );
        asking.iter_mut().for_each(assert_alive);
        drop(silent);
        eventually("there is room", || running.view().sessions == 5);
        assert_alive(&mut connect());
    });
}
