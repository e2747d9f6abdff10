//! keepalived 2.2.7 as the other router, in both roles: every way of speaking × every way in which the address moves.
//!
//! Each test is one way of speaking and one question of who begins; its rows are the ways to move, side by side. Two
//! tests after these have a group of three as k0s makes it, and a peer whose checksum is the RFC's.
mod bout;
mod k0s;
mod moves;
mod shared_vrid;
mod wire;

use anyhow::Result;
use bout::Side;
use lb_tests::adverts::Advert;
use lb_tests::cases::side_by_side;
use lb_tests::cplb::Cplb;
use lb_tests::inject::VrrpSender;
use lb_tests::native::{self, Instance};
use lb_tests::topology::Lab;
use lb_tests::{standing, wait};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use wire::Wire;

/// So many labs at once keep two processors busy and no longer.
const WIDTH: usize = 6;

fn every_move(wire: Wire, first: Side) -> Result<()> {
    let name = |m: &moves::Move| format!("{wire:?}, {first:?} first, {}", m.name);
    side_by_side(WIDTH, &moves::ALL, name, |m| (m.run)(wire, first))
}

/// One test for each way of speaking and each beginner.
macro_rules! matrix {
    ($($name:ident: $wire:ident, $first:ident;)+) => {$(
        #[test]
        fn $name() -> Result<()> {
            every_move(Wire::$wire, Side::$first)
        }
    )+};
}

matrix! {
    version_2_moves_from_ours_to_keepalived_and_back: V2, Ours;
    version_2_moves_from_keepalived_to_ours_and_back: V2, Theirs;
    version_2_with_a_password_moves_from_ours: V2Pass, Ours;
    version_2_with_a_password_moves_from_keepalived: V2Pass, Theirs;
    version_2_with_a_password_in_unicast_moves_from_ours: V2PassUnicast, Ours;
    version_2_with_a_password_in_unicast_moves_from_keepalived: V2PassUnicast, Theirs;
    version_3_moves_from_ours: V3, Ours;
    version_3_moves_from_keepalived: V3, Theirs;
    version_3_in_unicast_moves_from_ours: V3Unicast, Ours;
    version_3_in_unicast_moves_from_keepalived: V3Unicast, Theirs;
    version_3_over_ipv6_moves_from_ours: V3Ipv6, Ours;
    version_3_over_ipv6_moves_from_keepalived: V3Ipv6, Theirs;
    version_3_over_ipv6_in_unicast_moves_from_ours: V3Ipv6Unicast, Ours;
    version_3_over_ipv6_in_unicast_moves_from_keepalived: V3Ipv6Unicast, Theirs;
}

/// RFC 9568's checksum over IPv4 has no pseudo-header; keepalived sends and wants one, others do not.
#[test]
fn a_peer_that_sums_the_message_only_is_followed() -> Result<()> {
    let lab = Lab::k0s()?;
    let vip = IpAddr::from([192, 168, 122, 200]);
    let (ours, theirs) = (lab.node("c1")?, lab.node("c2")?);
    let source = theirs.ipv4()?;
    let mut advert = Advert::v3(51, 10, &[vip]);
    advert.message_only = true;
    let bytes = advert.bytes(source)?;
    advert.message_only = false;
    assert_ne!(bytes, advert.bytes(source)?, "the two forms differ");
    let sender = VrrpSender::new(theirs, source, 255)?;
    let (stop, quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if !quiet.load(Ordering::Relaxed) {
                    let _ = sender.send(&bytes);
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        let result = (|| {
            let file = native::configuration(&[Instance::new(51, &["192.168.122.200/24"])], "");
            let cplb = Cplb::start(ours, &file, &[])?;
            let follows = |s: &standing::Standing| {
                s.roles()
                    .iter()
                    .any(|r| r.state() == "Backup" && r.active() == Some((source, 250)))
            };
            standing::wait(&cplb, "the peer is followed", wire::PATIENCE, follows)?;
            wait::steady("the peer stays the holder", Duration::from_secs(1), || {
                !ours.holds(vip)
            })?;
            quiet.store(true, Ordering::Relaxed);
            lab.holder(vip, wire::PATIENCE)?;
            quiet.store(false, Ordering::Relaxed);
            let end = standing::wait(&cplb, "it gives way again", wire::PATIENCE, follows)?;
            let rejected = &end.roles()[0].0["counters"]["rejected"];
            assert_eq!(rejected, &serde_json::json!({}), "nothing was refused");
            wait::until("the address is gone", wire::PATIENCE, || {
                (!ours.holds(vip)).then_some(())
            })
        })();
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    Ok(())
}
