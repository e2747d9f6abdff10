//! Files that are refused. keepalived 2.2.7 ends at the first of them, without a goodbye, and leaves its address behind.
use super::{PATIENCE, VIP, file, hang_up, instance, reload};
use anyhow::{Context, Result, ensure};
use lb_tests::cplb::Cplb;
use lb_tests::pair;
use lb_tests::prober::Prober;
use lb_tests::standing::{self, Standing};
use nix::sys::signal::Signal;
use std::fs;
use std::thread;
use std::time::Duration;

/// A file, and what must be said of it. The line and column are where a reader would look.
fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = file(&[instance(200)]);
    let with = |from: &str, to: &str| good.replace(from, to).into_bytes();
    vec![
        (
            "a number that is none",
            with("virtualRouterID: 51", "virtualRouterID: 999"),
            ":10:24",
        ),
        (
            "a field that is none",
            with("preempt: true", "preemt: true"),
            ":13:7",
        ),
        (
            "a file cut off",
            good[..good.len() - 60]
                .replace("preempt: t", "preempt: [")
                .into_bytes(),
            ":1",
        ),
        ("no YAML", b"spec: [}\n".to_vec(), ":1:8"),
        ("nothing", Vec::new(), "empty"),
        ("no text", vec![0xff, 0xfe, 0x00, 0x80], "UTF-8"),
        (
            "a list of addresses of both families",
            with(
                "[\"192.168.122.200/24\"]",
                "[\"192.168.122.200/24\", \"fd00::1/64\"]",
            ),
            ":8:",
        ),
    ]
}

fn history(now: &Standing) -> Vec<String> {
    now.roles().iter().flat_map(|r| r.transitions()).collect()
}

#[test]
fn a_bad_file_changes_nothing_and_is_said_with_its_place() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let before = [
        history(&standing::of(holder.node())?),
        history(&standing::of(backup.node())?),
    ];
    let prober = Prober::start(lab.node("client")?, VIP, Duration::from_millis(5))?;
    for (what, bytes, place) in bad_files() {
        for cplb in [&holder, &backup] {
            fs::write(cplb.config(), &bytes)?;
            let now = hang_up(cplb)?;
            let error = now
                .reload_error()
                .with_context(|| format!("{what} was accepted"))?;
            ensure!(error.contains(place), "{what}: {place} is not in: {error}");
        }
    }
    // A file that is gone is one that cannot be read.
    fs::remove_file(holder.config())?;
    ensure!(
        hang_up(&holder)?.reload_error().is_some(),
        "a file that is gone was accepted"
    );
    let log = holder.log();
    let refused = |line: &&str| line.contains("REFUSED") && line.contains(":10:24");
    ensure!(
        log.lines().any(|line| refused(&line)),
        "the log does not name the place: {log}"
    );
    let report = prober.finish()?;
    ensure!(report.lost() == 0, "{:?}", report.gaps());
    let after = [
        history(&standing::of(holder.node())?),
        history(&standing::of(backup.node())?),
    ];
    ensure!(after == before, "somebody moved: {after:?}");
    pair::settles_on(&lab, VIP, "c1", Duration::from_millis(500))?;

    let now = reload(&holder, &file(&[instance(200)]))?;
    ensure!(
        now.reload_error().is_none(),
        "a good file puts an end to it: {now}"
    );
    Ok(())
}

/// A file that cannot be used at the start is exit code 2, and nothing is touched.
#[test]
fn a_bad_file_at_the_start_is_refused() -> Result<()> {
    let lab = pair::lab()?;
    let node = lab.node("c1")?;
    let before = node.addresses();
    for (what, bytes, place) in bad_files() {
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let mut cplb = Cplb::start(node, &text, &[])?;
        let status = cplb.wait(PATIENCE)?;
        ensure!(status.code() == Some(2), "{what}: {status}");
        ensure!(
            cplb.log().contains(place),
            "{what}: {place} is not in: {}",
            cplb.log()
        );
    }
    ensure!(node.addresses() == before, "addresses were changed");
    Ok(())
}

#[test]
fn two_quick_signals_are_as_good_as_one() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let before = [
        history(&standing::of(holder.node())?),
        history(&standing::of(backup.node())?),
    ];
    let good = file(&[instance(200)]);
    for round in 0..5 {
        let text = if round % 2 == 0 {
            good.clone()
        } else {
            good.replace("preempt: true", "preempt: false")
        };
        fs::write(holder.config(), text)?;
        for _ in 0..2 {
            holder.signal(Signal::SIGHUP)?;
            backup.signal(Signal::SIGHUP)?;
        }
        thread::sleep(Duration::from_millis(50));
    }
    pair::settles_on(&lab, VIP, "c1", Duration::from_secs(1))?;
    let after = [
        history(&standing::of(holder.node())?),
        history(&standing::of(backup.node())?),
    ];
    ensure!(after == before, "somebody moved: {after:?}");
    Ok(())
}
