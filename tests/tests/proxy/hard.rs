//! Clients and servers that do their worst, and a system that has nothing left to give.
use crate::cluster::LONG;
use crate::load::{Bench, file, lab, to};
use anyhow::{Context, Result};
use lb_tests::load::{Client, Kind, header};
use lb_tests::wait;
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// `proxy.maxConnections` of these tests.
const MOST: usize = 400;

fn proxy_of(bench: &Bench<'_>) -> Result<Value> {
    Ok(bench.cplb.status()?["kernel"]["proxy"].clone())
}

fn sessions(bench: &Bench<'_>) -> Result<u64> {
    proxy_of(bench)?["sessions"]
        .as_u64()
        .context("a number of sessions")
}

/// So many connections with a request whose body has no end, and nothing of that yet.
fn half_asked(bench: &Bench<'_>, count: usize) -> Result<Vec<TcpStream>> {
    bench.client.netns().run(|| {
        (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect_timeout(&to(), LONG)?;
                stream.write_all(&header(1, u64::MAX))?;
                Ok(stream)
            })
            .collect()
    })?
}

/// Asks once on so many connections of its own.
fn served(bench: &Bench<'_>, count: usize) -> Result<()> {
    bench.client.netns().run(|| -> Result<()> {
        let mut client = Client::new(to(), Kind::Ask, count, 64, 1024)?;
        client.ask_once(LONG)
    })?
}

#[test]
fn clients_that_never_finish_their_request_keep_nobody_out() -> Result<()> {
    let lab = lab()?;
    let bench = Bench::start(
        &lab,
        &file(&[8001, 8002], &format!("    maxConnections: {MOST}\n")),
    )?;
    let before = bench.cplb.usage().resident_kib;
    // Twice as many as there may be: the second half waits in the kernel until the first has had no answer for 5 s.
    let slow = half_asked(&bench, MOST * 2)?;
    wait::until("it is full", LONG, || {
        (sessions(&bench).ok()? == MOST as u64).then_some(())
    })?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        // A byte now and then keeps nobody his place.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for mut stream in &slow {
                    // Those that were cut cannot.
                    let _ = stream.write_all(&[0]);
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        let served = (0..3).try_for_each(|_| served(&bench, 20));
        done.store(true, Ordering::Relaxed);
        served
    })?;
    assert!(sessions(&bench)? <= MOST as u64);
    let server = &proxy_of(&bench)?["servers"][0];
    assert!(server["cut"].as_u64() > Some(0), "{server}");
    let log = bench.cplb.log();
    let said = log.matches("has as many connections as it may have").count();
    assert!((1..20).contains(&said), "said {said} times:\n{log}");
    let grown = bench.cplb.usage().resident_kib.saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more for {MOST} connections");
    drop(slow);
    wait::until("all of it is gone", LONG, || {
        (sessions(&bench).ok()? == 0).then_some(())
    })?;
    served(&bench, 100)
}

#[test]
fn receivers_that_never_read_hold_little_and_harm_nobody() -> Result<()> {
    let lab = lab()?;
    let bench = Bench::start(&lab, &file(&[8001, 8002], ""))?;
    let before = bench.cplb.usage().resident_kib;
    let greedy: Vec<TcpStream> = bench.client.netns().run(|| -> Result<Vec<_>> {
        (0..300)
            .map(|_| {
                let mut stream = TcpStream::connect(to())?;
                // A gigabyte, of which nobody reads a byte.
                stream.write_all(&header(1 << 30, 0))?;
                Ok(stream)
            })
            .collect()
    })??;
    wait::until("all are there", LONG, || {
        (sessions(&bench).ok()? >= 300).then_some(())
    })?;
    for _ in 0..3 {
        served(&bench, 50)?;
    }
    let grown = bench.cplb.usage().resident_kib.saturating_sub(before);
    assert!(grown < 40 * 1024, "{grown} KiB more");
    drop(greedy);
    wait::until("all of it is gone", LONG, || {
        let proxy = proxy_of(&bench).ok()?;
        (proxy["sessions"] == 0 && proxy["heldBytes"] == 0).then_some(())
    })
}

#[test]
fn without_descriptors_clients_wait_and_are_served_when_there_are_some_again() -> Result<()> {
    let lab = lab()?;
    let bench = Bench::start(&lab, &file(&[8001, 8002], ""))?;
    let pid = bench.cplb.pid();
    let mut kept = bench
        .client
        .netns()
        .run(|| Client::new(to(), Kind::Ask, 20, 64, 64))??;
    bench.client.netns().run(|| kept.ask_once(LONG))??;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let limit = |n: usize| -> Result<()> {
        let n = n.to_string();
        let text = format!("--nofile={n}:");
        bench
            .client
            .output(&["prlimit", "--pid", &pid.to_string(), &text])
            .map(drop)
    };
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits
        .lines()
        .find(|l| l.starts_with("Max open files"))
        .context("a limit")?;
    let usual: usize = line.split_whitespace().nth(3).context("a limit")?.parse()?;
    limit(open + 3)?;
    // Those that come now wait; those that are there go on, and so does the daemon's own work.
    let waiting = bench
        .client
        .netns()
        .run(|| Client::new(to(), Kind::Ask, 40, 64, 64))?;
    let mut waiting = waiting?;
    wait::until("it is said", LONG, || {
        bench.cplb.log().contains("no more descriptors").then_some(())
    })?;
    bench.client.netns().run(|| kept.ask_once(LONG))??;
    limit(usual)?;
    let late = bench.client.netns().run(|| waiting.ask_once(LONG))?;
    // Whoever was half taken in when descriptors ended was reset, as every client of a server without any is.
    if late.is_err() {
        served(&bench, 40)?;
    }
    bench.client.netns().run(|| kept.ask_once(LONG))??;
    let said = bench.cplb.log().matches("no more descriptors").count();
    assert!((1..10).contains(&said), "{said}");
    Ok(())
}

#[test]
fn servers_that_take_connections_and_never_answer_keep_nothing_else_from_working() -> Result<()> {
    let lab = lab()?;
    // 8009 is a listener that nobody accepts from: the kernel takes the connections, and nothing is ever read.
    let servers = lab.node("back")?;
    let mute = servers
        .netns()
        .run(|| std::net::TcpListener::bind("192.0.2.2:8009"))??;
    let bench = Bench::start(
        &lab,
        &file(&[8001, 8009], &format!("    maxConnections: {MOST}\n")),
    )?;
    let stuck = half_asked(&bench, 100)?;
    wait::until("all are there", LONG, || {
        (sessions(&bench).ok()? >= 100).then_some(())
    })?;
    // Half of the clients meet the mute one and have no answer; the others are served.
    bench.client.netns().run(|| -> Result<()> {
        let mut clients = Client::new(to(), Kind::Connect, 20, 64, 64)?;
        let mut answers = 0;
        wait::until("half of the clients have an answer", LONG, || {
            answers += clients.run(Duration::from_millis(100)).ok()?.answers;
            (answers >= 10).then_some(())
        })
    })??;
    bench.reload(&file(&[8001, 8002], &format!("    maxConnections: {MOST}\n")))?;
    served(&bench, 50)?;
    drop((stuck, mute));
    Ok(())
}
