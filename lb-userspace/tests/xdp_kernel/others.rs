//! Other programs on the same interface.
use super::support::{Bench, Net, VIP, cannot, forwarding};
use anyhow::Result;
use lb_common::plan::Forwarding;
use lb_common::spec::{RootArray, XdpAttach};
use lb_tests::veth::{self, PASS};
use lb_tests::{skip, wait};
use lb_userspace::datapath::xdp::chain;
use lb_userspace::sys::bpf;
use lb_userspace::sys::bpffs::Pins;
use std::os::fd::AsFd;
use std::time::Duration;

const NOTHING: Vec<String> = Vec::new();

fn attached(wanted: &Forwarding, attach: XdpAttach) -> Forwarding {
    Forwarding {
        attach,
        ..wanted.clone()
    }
}

#[test]
fn somebody_elses_program_is_left_alone_and_named() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let a = net.lab.node("a")?.netns();
    let theirs = veth::attach(a, "eth0", PASS)?;
    net.direct(async |mut bench: Bench| {
        let there = bench.link("eth0").await.xdp.unwrap();
        let eth0 = bench.index("eth0").await;
        let said = bench.set(&forwarding(&[eth0])).await;
        assert_eq!(said.len(), 1, "{said:?}");
        let who = format!(
            "eth0 has an XDP program of somebody else's already: native mode, program {} (cplb_lab), loaded by user 0",
            there.program
        );
        assert!(said[0].starts_with(&who), "{said:?}\n{who}");
        assert!(said[0].contains(", held by link "), "{said:?}");
        assert!(said[0].contains("`xdp.next`"), "{said:?}");
        assert_eq!(bench.link("eth0").await.xdp, Some(there), "it is still theirs");
        drop(theirs);
        // The kernel takes a link off a moment after its last descriptor is closed.
        assert_eq!(bench.settle().await, NOTHING, "when they are gone");
        assert_ne!(bench.link("eth0").await.xdp.unwrap().program, there.program);
    })
}

#[test]
fn a_program_in_the_other_mode_is_named_too() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    net.direct(async |mut bench: Bench| {
        let eth0 = bench.index("eth0").await;
        bench.set(&forwarding(&[eth0])).await;
        // Somebody who attached in generic mode what happens to be our own program.
        let program = bpf::program_by_id(bench.link("eth0").await.xdp.unwrap().program).unwrap();
        bench.xdp.clear();
        let _theirs = bpf::attach_xdp(program.as_fd(), eth0, bpf::XdpMode::Generic).unwrap();
        let said = bench.set(&forwarding(&[eth0])).await;
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("somebody else's already: generic mode, program"),
            "{said:?}"
        );
    })
}

#[test]
fn what_ours_passes_goes_on_to_the_program_that_is_named_next() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _server = net.serve("b", VIP)?;
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        let wanted = bench.holding(VIP, &["10.0.0.2"]).await;
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, NOTHING);
        let pins = Pins::new().unwrap();
        let path = pins.path("next").to_str().unwrap().to_owned();
        let attach = XdpAttach {
            next: Some(path.clone()),
            ..XdpAttach::default()
        };
        let said = bench.set(&attached(&wanted, attach.clone())).await;
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(&format!("`xdp.next` names {path}, which cannot be used")),
            "{said:?}"
        );
        assert_eq!(net.ask(VIP).unwrap(), "b", "forwarding goes on meanwhile");
        // A program that drops whatever it is given.
        let drop_all = [veth::insn(0xb7, 0, 0, 0, 1), veth::insn(0x95, 0, 0, 0, 0)];
        let a = net.lab.node("a").unwrap().netns();
        a.ip("link add v0 type veth peer name v1\n").unwrap();
        let theirs = veth::attach(a, "v0", &drop_all).unwrap();
        let id = bench.link("v0").await.xdp.unwrap().program;
        bpf::pin(bpf::program_by_id(id).unwrap().as_fd(), &path).unwrap();
        drop(theirs);
        assert_eq!(bench.turn().await, NOTHING);
        assert_eq!(bench.xdp.view().unwrap().next, Some(path));
        assert_eq!(net.ask(VIP).unwrap(), "b", "what is forwarded is not passed");
        let ping = ["ping", "-c", "1", "-W", "1", "10.0.0.1"];
        assert!(
            net.lab.node("client").unwrap().output(&ping).is_err(),
            "what is passed is theirs"
        );
        assert_eq!(bench.set(&wanted).await, NOTHING);
        // What asked for the address meanwhile got no answer, and asks again after a while.
        let client = net.lab.node("client").unwrap();
        wait::until("an answer", Duration::from_secs(20), || client.output(&ping).ok()).unwrap();
        assert_eq!(bench.xdp.view().unwrap().next, None);
    })
}

#[test]
fn a_program_array_of_somebody_elses_is_entered_where_nobody_is_and_left() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    net.direct(async |mut bench: Bench| {
        let eth0 = bench.index("eth0").await;
        let pins = Pins::new().unwrap();
        let path = pins.path("root").to_str().unwrap().to_owned();
        let array = RootArray { path, index: 1 };
        assert!(chain::is_free(&array).unwrap_err().contains("cannot be opened"));
        let map = bpf::program_array(4).unwrap();
        bpf::pin(map.as_fd(), &array.path).unwrap();
        chain::is_free(&array).unwrap();
        let attach = XdpAttach {
            root_array: Some(array.clone()),
            ..XdpAttach::default()
        };
        let wanted = attached(&forwarding(&[eth0]), attach);
        bench.xdp.claim(&array);
        assert_eq!(bench.set(&wanted).await, NOTHING);
        assert_eq!(bench.link("eth0").await.xdp, None, "not attached, but called");
        let ours = bpf::program_in(map.as_fd(), 1).unwrap().unwrap();
        assert!(
            chain::is_free(&array)
                .unwrap_err()
                .contains(&format!("has program {ours} already"))
        );
        assert!(bench.xdp.view().unwrap().root_array.is_some());
        bench.xdp.replace(bench.xdp.globals()).unwrap();
        assert_ne!(bpf::program_in(map.as_fd(), 1).unwrap(), Some(ours));
        assert!(bench.xdp.observed().is_some());
        bpf::unset_program(map.as_fd(), 1).unwrap();
        assert_eq!(bench.xdp.observed(), None, "somebody took it out");
        assert_eq!(bench.turn().await, NOTHING);
        assert!(bench.xdp.observed().is_some());
        bench.xdp.clear();
        assert_eq!(bpf::program_in(map.as_fd(), 1).unwrap(), None);
        assert!(!chain::take_out(&array).unwrap());
    })
}
