//! The operator's programs: tracked ones decide who holds, notify hooks are told of it.
use anyhow::{Context, Result};
use lb_tests::cplb::Cplb;
use lb_tests::topology::Lab;
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn vip() -> IpAddr {
    IpAddr::from([192, 168, 122, 200])
}

fn file(priority: u8, rest: &str) -> String {
    format!(
        "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nmetadata: {{name: lab}}\nspec:\n  \
         vrrpInstances:\n    - name: api\n      interface: eth0\n      virtualIPs: [\"{}/24\"]\n      version: 3\n      \
         advertInterval: 200ms\n      priority: {priority}\n{rest}",
        vip()
    )
}

/// A script that whoever runs it may read.
fn script(path: &Path, text: &str) -> Result<()> {
    let shell = ["/bin/sh", "/usr/bin/sh"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    fs::write(path, format!("#!{}\n{text}\n", shell.context("a shell")?))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[test]
fn a_tracked_script_decides_and_hooks_are_told_in_keepaliveds_words() -> Result<()> {
    let lab = Lab::builder()
        .node("c1", &["192.168.122.37/24"])
        .node("c2", &["192.168.122.185/24"])
        .build()?;
    let (first, second) = (lab.node("c1")?, lab.node("c2")?);
    // Programs run as nobody, who must be able to reach them.
    let dir = tempfile::Builder::new().prefix("cplb-hooks-").tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (flag, log, socket) = (at("well"), at("log"), at("events.sock"));
    fs::write(&flag, "")?;
    script(
        Path::new(&at("check")),
        &format!("test \"$(id -u)\" = 65534 && test -e {flag}"),
    )?;
    script(
        Path::new(&at("told")),
        &format!("echo \"$* as $(id -u)\" >> {log}"),
    )?;
    let events = UnixListener::bind(&socket)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
    let rest = format!(
        "      track:\n        - {{exec: {{command: [{}], interval: 200ms, timeout: 5s, rise: 2, fall: 2}}, weight: -150}}\n      \
         notify:\n        - {{exec: {{command: [{}]}}}}\n        - {{socket: {socket}, on: [active], timeout: 5s}}\n",
        at("check"),
        at("told")
    );
    let mut one = Cplb::start(first, &file(200, &rest), &[])?;
    let two = Cplb::start(second, &file(100, ""), &[])?;
    let held_by = |name: &str| -> Result<()> {
        let held = wait::until(&format!("held by {name} alone"), LONG, || {
            matches!(lab.holders(vip())[..], [n] if n.name() == name).then_some(())
        });
        held.with_context(|| format!("{}\n{}", one.log(), two.log()))
    };
    held_by("c1")?;
    fs::remove_file(&flag)?;
    held_by("c2")?;
    let status = one.status()?;
    let tracked = &status["track"]["instances"]["api"][0];
    assert_eq!(tracked["well"], false, "{status:#}");
    fs::write(&flag, "")?;
    held_by("c1")?;
    one.signal(Signal::SIGTERM)?;
    one.wait_all(LONG)?;
    wait::until("c2 holds", LONG, || second.holds(vip()).then_some(()))?;
    let told = fs::read_to_string(&log)?;
    let words: Vec<&str> = told.lines().collect();
    let expected = [
        "INSTANCE api BACKUP 200 as 65534",
        "INSTANCE api MASTER 200 as 65534",
        "INSTANCE api BACKUP 50 as 65534",
        "INSTANCE api MASTER 200 as 65534",
        "INSTANCE api STOP 200 as 65534",
    ];
    assert_eq!(words, expected);
    for _ in 0..2 {
        let (stream, _) = events.accept()?;
        let line = BufReader::new(stream).lines().next().context("a line")??;
        let event: serde_json::Value = serde_json::from_str(&line)?;
        assert_eq!(
            (&event["state"], &event["name"]),
            (&"MASTER".into(), &"api".into()),
            "{event}"
        );
    }
    Ok(())
}

/// Neither a check that hangs nor a hook that hangs holds up an advert: the others would take over.
#[test]
fn programs_that_hang_do_not_hold_up_the_election() -> Result<()> {
    let lab = Lab::builder()
        .node("c1", &["192.168.122.37/24"])
        .node("c2", &["192.168.122.185/24"])
        .build()?;
    let (first, second) = (lab.node("c1")?, lab.node("c2")?);
    let dir = tempfile::Builder::new().prefix("cplb-hooks-").tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
    let hang = dir.path().join("hang");
    script(&hang, "sleep 600 & sleep 600")?;
    let hang = hang.display();
    let rest = format!(
        "      track:\n        - {{exec: {{command: [{hang}], interval: 300ms, timeout: 200ms, fall: 255}}, weight: 10}}\n      \
         notify:\n        - {{exec: {{command: [{hang}]}}, timeout: 1s}}\n"
    );
    let mut one = Cplb::start(first, &file(200, &rest), &[])?;
    let _two = Cplb::start(second, &file(100, ""), &[])?;
    wait::until("c1 holds", LONG, || first.holds(vip()).then_some(())).with_context(|| one.log())?;
    wait::until("the hook is given up", LONG, || {
        one.log().contains("and was killed").then_some(())
    })?;
    wait::steady("c1 holds and c2 does not", Duration::from_secs(5), || {
        first.holds(vip()) && !second.holds(vip())
    })
    .with_context(|| one.log())?;
    one.signal(Signal::SIGTERM)?;
    one.wait_all(LONG)
        .context("what hangs is killed with its group")?;
    Ok(())
}
