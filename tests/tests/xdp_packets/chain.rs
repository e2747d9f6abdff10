//! Another XDP program behind ours.
use anyhow::{Result, ensure};
use lb_common::abi::{Reason, XDP_PROGRAM};
use lb_tests::xdp::fixture;
use lb_tests::xdp::frame::Frame;
use lb_tests::xdp::image::Places;
use lb_tests::xdp::model::Verdict;
use lb_tests::xdp::object::{Globals, Loan};

const CHAIN: Globals = Globals {
    trace: false,
    chain: true,
};

/// Frames, whether the first program passes them on, and what the two say in the end. The second one, which is the same
/// program, holds another virtual IP.
const ROWS: &[(&str, bool, Verdict)] = &[
    ("ether / ip / tcp", false, Verdict::Tx),
    ("ether / ip / tcp dport=8000", false, Verdict::Drop),
    ("ether / ip len=9 / tcp", false, Verdict::Drop),
    ("ether / ip dst=node / tcp", true, Verdict::Pass),
    ("ether / ip / tcp dport=80", true, Verdict::Pass),
    ("ether / ip dst=any / tcp", true, Verdict::Tx),
    ("ether / ip6 dst=any6 / tcp", true, Verdict::Tx),
    ("ether / ip dst=any len=9 / tcp", true, Verdict::Drop),
    ("ether type=0x0806 / data 28", true, Verdict::Pass),
    ("ether / ip / tcp dport=8002", true, Verdict::Pass),
];

#[test]
fn what_is_passed_is_seen_by_the_next_program_and_nothing_else_is() -> Result<()> {
    let mut first = Loan::of(XDP_PROGRAM, CHAIN)?;
    let mut second = Loan::of(XDP_PROGRAM, Globals::default())?;
    let (mut ours, mut theirs) = (fixture::scene()?, fixture::scene()?);
    ours.vips.retain(|vip| !vip.name.starts_with("any"));
    theirs.vips.retain(|vip| vip.name.starts_with("any"));
    first.install(&ours, Places::Usual)?;
    second.install(&theirs, Places::Usual)?;
    first.chain(&second)?;
    for (text, passed, verdict) in ROWS {
        let bytes = Frame::parse(text)?.bytes(&ours.names)?;
        let before = second.counters(&theirs)?.total();
        let ran = first.run(&bytes, &mut [0; 2048])?;
        ensure!(ran.verdict == *verdict as u32, "{text}: {}", ran.verdict);
        let seen = second.counters(&theirs)?.total() - before;
        ensure!(seen == u64::from(*passed), "{text}: the next program saw {seen}");
    }
    Ok(())
}

#[test]
fn without_a_next_program_what_is_passed_is_passed() -> Result<()> {
    let mut object = Loan::of(XDP_PROGRAM, CHAIN)?;
    let scene = fixture::scene()?;
    object.unchain()?;
    object.install(&scene, Places::Usual)?;
    let passed = || -> Result<u64> { Ok(object.counters(&scene)?.reasons[Reason::NotVip as usize]) };
    let before = passed()?;
    let bytes = Frame::parse("ether / ip dst=node / tcp")?.bytes(&scene.names)?;
    let mut out = [0; 2048];
    let ran = object.run(&bytes, &mut out)?;
    ensure!(ran.verdict == Verdict::Pass as u32 && out[..ran.len] == bytes);
    ensure!(passed()? == before + 1);
    Ok(())
}
