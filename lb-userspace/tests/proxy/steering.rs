//! How clients of the virtual IP come to the proxy although somebody else listens on that port everywhere.
use crate::support::{
    Backend, PORT, Running, VIP, assert_alive, connect_to, eventually, in_namespace, key, proxied, served,
    server, who,
};
use lb_userspace::datapath::proxy::Proxy;
use std::net::{IpAddr, TcpListener};

const VIP6: &str = "2001:db8::100";

/// An API server as most are started: on every address of its node, both families.
fn api_server() -> Backend {
    let address = "[::]:6443".parse().unwrap();
    Backend::at(address, |mut stream| {
        use std::io::Write;
        let _ = stream.write_all(&[99]);
        crate::support::echo(stream);
    })
}

fn is_steered(proxy: &Proxy) -> bool {
    if let Some(why) = proxy.steering_lacks() {
        println!("skipped: {why}");
        return false;
    }
    true
}

#[test]
fn only_the_virtual_ip_and_port_are_the_proxys_and_only_while_it_lives() {
    in_namespace(|| {
        let _api = api_server();
        // The API server has 6443 on every address, so a backend of its own port is on another one.
        let backend = Backend::at("127.0.1.1:7443".parse().unwrap(), |mut stream| {
            use std::io::Write;
            let _ = stream.write_all(&[1]);
            crate::support::echo(stream);
        });
        let mut running = Running::start(&[backend.address]);
        if !is_steered(running.proxy()) {
            return;
        }
        assert_eq!(served().1, 1);
        let at = |address: &str| who(&mut connect_to(address.parse().unwrap())).unwrap();
        assert_eq!(at("127.0.0.1:6443"), 99);
        assert_eq!(
            at("[2001:db8::100]:6443"),
            99,
            "another virtual IP's port is not ours"
        );
        let _other = TcpListener::bind((VIP, PORT + 1)).unwrap();
        assert_eq!(
            std::net::TcpStream::connect((VIP, PORT + 1))
                .unwrap()
                .peer_addr()
                .unwrap()
                .port(),
            PORT + 1
        );
        let six: IpAddr = VIP6.parse().unwrap();
        running.change_all(|all| {
            let mut second = proxied(&[]);
            second.key = key(six, PORT);
            second.servers = vec![server(backend.address)];
            all.servers.insert(second.key, second);
        });
        assert_eq!(at("[2001:db8::100]:6443"), 1);
        assert_eq!(at("[::1]:6443"), 99);
        let (mut stays, _) = served();
        assert_eq!(stays.peer_addr().unwrap().port(), PORT);
        running.change_all(|all| drop(all.servers.remove(&key(six, PORT))));
        // One that a socket took while it was being closed is reset.
        let is_theirs =
            |address: &str| who(&mut connect_to(address.parse().unwrap())).is_ok_and(|name| name == 99);
        eventually("the other virtual IP is the API server's", || {
            is_theirs("[2001:db8::100]:6443")
        });
        assert_alive(&mut stays);
        drop(running);
        eventually("the virtual IP is the API server's", || {
            is_theirs("192.0.2.100:6443")
        });
    });
}

#[test]
fn the_virtual_ip_may_come_and_go() {
    in_namespace(|| {
        let backend = Backend::named(1);
        crate::support::ip("address del 192.0.2.100/32 dev lo");
        let mut running = Running::start(&[backend.address]);
        let steered = running.proxy().steering_lacks().is_none();
        let how = running.view().servers[0].how.clone().unwrap();
        assert_eq!(how.contains("socket lookup program"), steered, "{how}");
        for _ in 0..3 {
            crate::support::ip("address add 192.0.2.100/32 dev lo");
            assert_eq!(served().1, 1);
            crate::support::ip("address del 192.0.2.100/32 dev lo");
        }
    });
}
