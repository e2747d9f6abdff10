//! The control program: the side, the lease, the units of time.
use anyhow::{Result, ensure};
use lb_common::abi::control::{self, Command};
use lb_common::abi::{Reason, State, XDP_PROGRAM, flow};
use lb_tests::xdp::fixture;
use lb_tests::xdp::frame::Frame;
use lb_tests::xdp::image::Places;
use lb_tests::xdp::model::Verdict;
use lb_tests::xdp::object::{Globals, Loan, Object};
use lb_tests::xdp::scene::Scene;

fn loaded() -> Result<(Loan, Scene)> {
    let mut object = Loan::of(XDP_PROGRAM, Globals::default())?;
    let scene = fixture::scene()?;
    object.install(&scene, Places::Usual)?;
    Ok((object, scene))
}

fn command(set: u64) -> Command {
    Command {
        magic: control::MAGIC,
        set,
        ..Command::default()
    }
}

/// Verdict and destination of a frame.
fn run(object: &Object, scene: &Scene, text: &str) -> Result<(u32, [u8; 6])> {
    let mut out = [0; 2048];
    let ran = object.run(&Frame::parse(text)?.bytes(&scene.names)?, &mut out)?;
    Ok((ran.verdict, std::array::from_fn(|i| out[i])))
}

#[test]
fn the_other_side_with_its_rings_is_in_force_from_one_packet_to_the_next() -> Result<()> {
    let (mut object, scene) = loaded()?;
    let mut other = scene.clone();
    other.vips.retain(|vip| vip.name == "vip");
    let one = other.pools.iter().position(|(name, _)| name == "one");
    let pattern = other.pattern(&["b3".to_owned()])?;
    other.pools[one.unwrap()].1 = pattern;
    object.write_side(1, &other)?;
    let (v4, v6) = ("ether / ip / tcp flags=S", "ether / ip6 / tcp flags=S");
    for (active, backend, verdict6) in [
        (0, "b1", Verdict::Tx),
        (1, "b3", Verdict::Pass),
        (0, "b1", Verdict::Tx),
    ] {
        let report = object.control(Command {
            active,
            ..command(control::SET_ACTIVE)
        })?;
        ensure!(report.done == 1 && object.state()?.active == active);
        ensure!(run(&object, &scene, v4)? == (Verdict::Tx as u32, scene.names.mac(backend)?));
        ensure!(run(&object, &scene, v6)?.0 == verdict6 as u32, "side {active}");
    }
    Ok(())
}

#[test]
fn the_lease_runs_for_as_long_as_was_said() -> Result<()> {
    let (object, scene) = loaded()?;
    let text = "ether / ip / tcp flags=S";
    let lease = |jiffies| Command {
        lease_jiffies: jiffies,
        ..command(control::SET_LEASE)
    };
    let report = object.control(lease(1_000_000))?;
    ensure!(object.state()?.lease_until == report.jiffies + 1_000_000);
    ensure!(run(&object, &scene, text)?.0 == Verdict::Tx as u32);
    let ended = || -> Result<u64> { Ok(object.counters(&scene)?.reasons[Reason::LeaseEnded as usize]) };
    let before_ended = ended()?;
    object.control(lease(0))?;
    let before = object.now()?.jiffies;
    while object.now()?.jiffies < before + 2 {
        std::hint::spin_loop();
    }
    ensure!(run(&object, &scene, text)?.0 == Verdict::Pass as u32);
    ensure!(ended()? == before_ended + 1);
    object.control(lease(1_000_000))?;
    ensure!(run(&object, &scene, text)?.0 == Verdict::Tx as u32);
    Ok(())
}

#[test]
fn a_lease_far_in_the_past_has_ended_and_one_far_ahead_has_not() -> Result<()> {
    let (mut object, scene) = loaded()?;
    let now = object.now()?.jiffies;
    let state = object.state()?;
    for (lease_until, verdict) in [
        (now.wrapping_sub(1 << 62), Verdict::Pass),
        (now - 1000, Verdict::Pass),
        (now + 100_000, Verdict::Tx),
        (now + (1 << 62), Verdict::Tx),
    ] {
        object.set_state(State { lease_until, ..state })?;
        let (got, _) = run(&object, &scene, "ether / ip / tcp flags=S")?;
        ensure!(got == verdict as u32, "{lease_until} at {now}: {got}");
    }
    Ok(())
}

#[test]
fn what_is_not_asked_for_stays() -> Result<()> {
    let (object, _) = loaded()?;
    let all = Command {
        active: 1,
        lease_jiffies: 5,
        stamp_shift: 9,
        inserts: 77,
        ..command(0)
    };
    let before = object.state()?;
    ensure!(
        object.control(all)?.done == 1 && object.state()? == before,
        "nothing was asked for"
    );
    object.control(Command {
        set: control::SET_UNITS,
        ..all
    })?;
    let now = State {
        stamp_shift: 9,
        inserts: 77,
        ..before
    };
    ensure!(object.state()? == now, "{:?}", object.state()?);
    let junk = Command {
        magic: control::MAGIC ^ 1,
        set: 7,
        ..all
    };
    ensure!(
        object.control(junk)?.done == 0 && object.state()? == now,
        "somebody else's packet"
    );
    let wild = Command {
        active: 77,
        set: control::SET_ACTIVE,
        ..all
    };
    object.control(wild)?;
    ensure!(object.state()?.active <= 1, "{:?}", object.state()?);
    Ok(())
}

#[test]
fn stamps_are_jiffies_in_units_and_clocks_go_forwards() -> Result<()> {
    let (object, scene) = loaded()?;
    object.control(Command {
        stamp_shift: 3,
        inserts: u64::MAX,
        ..command(control::SET_UNITS)
    })?;
    let before = object.now()?;
    run(&object, &scene, "ether / ip / tcp")?;
    let after = object.now()?;
    let words: Vec<u64> = object.flows.all().filter(|word| *word != 0).collect();
    let [word] = words[..] else {
        anyhow::bail!("{words:x?}")
    };
    let stamps = (before.jiffies >> 3)..=(after.jiffies >> 3);
    ensure!(
        stamps
            .clone()
            .any(|stamp| stamp % flow::STAMPS == flow::stamp(word)),
        "{stamps:?}: {word:x}"
    );
    ensure!(before.jiffies <= after.jiffies && before.nanoseconds < after.nanoseconds);
    Ok(())
}
