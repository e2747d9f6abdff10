//! Guest instructions a packet, beside IPVS with direct routing on the same packets, cable and counter.
//!
//! QEMU's `-icount shift=0` makes one instruction one nanosecond of the guest's time, so the clock counts instructions,
//! the same at each run. What the generator and the cable cost is measured by a program that drops where the others
//! forward, and taken off. IPVS gets `sk_buff`s by way of the veth's GRO, as it would from a card's driver; what making
//! one and dropping it costs is a row of its own.
use crate::cases::{MANY, port};
use crate::frames::{ACK, Frame, NODE4, VIP4};
use crate::objects::{self, Tools};
use crate::ours::Ours;
use crate::report::{Row, Section, progress};
use crate::spread::Spread;
use crate::wire::Wire;
use anyhow::{Context, Result, ensure};
use lb_common::abi::bench::program;
use lb_tests::netns::Netns;
use lb_tests::veth;
use std::collections::BTreeMap;
use std::fs;

/// Of IPVS's instructions, what ours may take.
const REACH: f64 = 0.2;
/// Packets of a cell.
const PACKETS: u32 = 65_536;
const ROUNDS: u32 = 2;
/// The client's end, where the real servers seem to be.
const SERVERS_MAC: &str = "02:00:00:00:00:be";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Drop,
    Bare,
    Ours,
    SkbDropped,
    Ipvs,
}

impl Who {
    const ALL: [Self; 5] = [Self::Drop, Self::Bare, Self::Ours, Self::SkbDropped, Self::Ipvs];

    const fn name(self) -> &'static str {
        match self {
            Self::Drop => "generator, cable, dropped by XDP",
            Self::Bare => "bare XDP_TX with a MAC rewrite",
            Self::Ours => "cplb, flow hit",
            Self::SkbDropped => "sk_buff made, dropped as somebody else's",
            Self::Ipvs => "IPVS, direct routing, known connection",
        }
    }
}

struct Bench {
    wire: Wire,
    tools: Tools,
    ours: Ours,
}

/// Measures all of it.
pub(crate) fn measure() -> Result<Section> {
    let mut tools = Tools::load()?;
    let wire = Wire::new(&mut tools)?;
    let object = objects::read("CPLB_EBPF", "lb.o")?;
    ipvs(&wire.director)?;
    let mut bench = Bench {
        ours: Ours::load(&object, false, wire.ifindex)?,
        wire,
        tools,
    };
    let mut figures: BTreeMap<(Who, u32), Vec<f64>> = BTreeMap::new();
    for round in 0..ROUNDS {
        progress(format!("guest: round {} of {ROUNDS}", round + 1));
        for flows in [0, MANY] {
            for who in Who::ALL {
                let figure = bench.one(who, flows).with_context(|| who.name())?;
                figures.entry((who, flows)).or_default().push(figure);
            }
        }
    }
    Ok(section(&figures))
}

impl Bench {
    fn one(&mut self, who: Who, flows: u32) -> Result<f64> {
        let frame = match who {
            Who::SkbDropped => Frame::tcp(VIP4, port::DIRECT, ACK).sent_to([2, 0, 0, 0, 0, 0x99]),
            _ => Frame::tcp(VIP4, port::DIRECT, ACK),
        };
        let _link = match who {
            Who::Drop => Some(self.wire.direct(self.tools.program_mut(program::DROP)?)?),
            Who::Bare => Some(self.wire.direct(self.tools.program_mut(program::BARE)?)?),
            Who::Ours => {
                self.ours.forget()?;
                Some(self.wire.direct(self.ours.program_mut()?)?)
            }
            Who::SkbDropped | Who::Ipvs => None,
        };
        self.wire.send(&mut self.tools, &frame, flows, 4 * (flows + 1))?;
        let run = self.wire.send(&mut self.tools, &frame, flows, PACKETS)?;
        match who {
            Who::Drop | Who::SkbDropped => {
                ensure!(
                    run.seen == 0,
                    "{} packets came back instead of being dropped",
                    run.seen
                );
            }
            Who::Bare | Who::Ours | Who::Ipvs => run.all_came()?,
        }
        Ok(run.nanoseconds())
    }
}

/// A virtual server with three real servers, all at the client's end of the cable.
fn ipvs(director: &Netns) -> Result<()> {
    veth::receive_offload(director, "d0", true)?;
    director.ip(&format!(
        "addr add {VIP4}/32 dev lo\naddr add {NODE4}/24 dev d0\nroute add default dev d0\n"
    ))?;
    for key in ["ipv4.conf.all.rp_filter", "ipv4.conf.d0.rp_filter"] {
        director.sysctl(key, "0")?;
    }
    // An ACK of a connection that it has not seen begin is taken, as after a change of holder.
    let port = port::DIRECT;
    director.output(&["ipvsadm", "-A", "-t", &format!("{VIP4}:{port}"), "-s", "rr"])?;
    director.sysctl("ipv4.vs.sloppy_tcp", "1")?;
    for server in 11..14 {
        director.ip(&format!(
            "neigh add 10.0.0.{server} lladdr {SERVERS_MAC} nud permanent dev d0\n"
        ))?;
        let server = format!("10.0.0.{server}:{port}");
        director.output(&[
            "ipvsadm",
            "-a",
            "-t",
            &format!("{VIP4}:{port}"),
            "-r",
            &server,
            "-g",
        ])?;
    }
    Ok(())
}

fn section(figures: &BTreeMap<(Who, u32), Vec<f64>>) -> Section {
    let spread = |who, flows| figures.get(&(who, flows)).and_then(|f| Spread::of(f));
    let beyond = |who, flows| Some(spread(who, flows)?.median - spread(Who::Drop, flows)?.median);
    let mut rows = Vec::new();
    for who in Who::ALL {
        let mut row = Row::new(who.name());
        let mut met = true;
        for (flows, all, own, ratio) in [
            (0, "1 flow", "its own", "of IPVS"),
            (
                MANY,
                "65,536 flows",
                "its own, 65,536 flows",
                "of IPVS, 65,536 flows",
            ),
        ] {
            let (Some(total), Some(cost), Some(ipvs)) =
                (spread(who, flows), beyond(who, flows), beyond(Who::Ipvs, flows))
            else {
                continue;
            };
            row.cell(all, total, 0);
            if who != Who::Drop {
                row.text(own, &format!("{cost:.0}"));
                row.ratio(ratio, cost / ipvs);
                met &= cost / ipvs <= REACH;
            }
        }
        if who == Who::Ours {
            row.reach(&format!("{REACH:.2} of IPVS"), met);
        }
        rows.push(row);
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Section::new(
        "guest",
        &format!(
            "Guest instructions a packet, Linux {}, from the generator to the counter; its own: beyond the first row",
            kernel.trim()
        ),
        rows,
    )
}
