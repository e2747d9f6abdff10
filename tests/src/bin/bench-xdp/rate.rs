//! The rows of the wire: packets a second of ours and of Katran beside a bare XDP_TX.
use crate::cases::{MANY, port};
use crate::frames::{ACK, Frame, VIP4};
use crate::katran::Katran;
use crate::objects::{self, Tools};
use crate::ours::Ours;
use crate::report::{Row, Section};
use crate::spread::Spread;
use crate::testrun::{SLICES, Setting};
use crate::wire::Wire;
use anyhow::{Context, Result};
use lb_common::abi::bench::program;
use std::collections::BTreeMap;

/// Of the bare program's packets, what ours should reach.
const REACH: f64 = 0.95;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Bare,
    Ours,
    OursTunnel,
    Katran,
}

impl Who {
    const ALL: [Self; 4] = [Self::Bare, Self::Ours, Self::OursTunnel, Self::Katran];

    const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare XDP_TX with a MAC rewrite",
            Self::Ours => "cplb, flow hit",
            Self::OursTunnel => "cplb, flow hit, tunnel",
            Self::Katran => "Katran, flow hit, tunnel",
        }
    }

    fn frame(self) -> Frame {
        let port = match self {
            Self::Bare | Self::Ours => port::DIRECT,
            Self::OursTunnel | Self::Katran => port::TUNNEL,
        };
        Frame::tcp(VIP4, port, ACK)
    }
}

struct Bench {
    wire: Wire,
    tools: Tools,
    ours: Ours,
    katran: Option<Katran>,
    count: u32,
}

/// Measures all of it.
pub(crate) fn measure(setting: &Setting<'_>) -> Result<Section> {
    let mut tools = Tools::load()?;
    let wire = Wire::new(&mut tools)?;
    let object = objects::read("CPLB_EBPF", "lb.o")?;
    let mut bench = Bench {
        ours: Ours::load(&object, false, wire.ifindex)?,
        katran: setting.katran.map(Katran::load).transpose()?,
        count: setting.repeat / SLICES,
        wire,
        tools,
    };
    let mut figures: BTreeMap<(Who, u32), Vec<f64>> = BTreeMap::new();
    let said = setting.rounds("wire", || {
        for flows in [0, MANY] {
            for who in Who::ALL {
                if who == Who::Katran && bench.katran.is_none() {
                    continue;
                }
                let rate = bench.one(who, flows).with_context(|| who.name())?;
                figures.entry((who, flows)).or_default().push(rate);
            }
        }
        Ok(())
    })?;
    Ok(section(&figures, &said))
}

impl Bench {
    fn one(&mut self, who: Who, flows: u32) -> Result<f64> {
        let program = match who {
            Who::Bare => None,
            Who::Ours | Who::OursTunnel => {
                self.ours.forget()?;
                Some(self.ours.program_mut()?)
            }
            Who::Katran => Some(
                self.katran
                    .as_mut()
                    .context("Katran is not loaded")?
                    .program_mut()?,
            ),
        };
        let _link = match program {
            Some(program) => self.wire.direct(program)?,
            None => self.wire.direct(self.tools.program_mut(program::BARE)?)?,
        };
        let frame = who.frame();
        // So many of each flow that it is established.
        self.wire.send(&mut self.tools, &frame, flows, 4 * (flows + 1))?;
        let mut best = 0.0_f64;
        for _ in 0..SLICES {
            best = best.max(
                self.wire
                    .send(&mut self.tools, &frame, flows, self.count)?
                    .rate()?,
            );
        }
        Ok(best)
    }
}

fn section(figures: &BTreeMap<(Who, u32), Vec<f64>>, said: &str) -> Section {
    let spread = |who, flows| figures.get(&(who, flows)).and_then(|f| Spread::of(f));
    let mut rows = Vec::new();
    for who in Who::ALL {
        let mut row = Row::new(who.name());
        let mut met = true;
        for (flows, rate, share) in [
            (0, "1 flow", "of bare"),
            (MANY, "65,536 flows", "of bare, 65,536 flows"),
        ] {
            let (Some(own), Some(bare)) = (spread(who, flows), spread(Who::Bare, flows)) else {
                continue;
            };
            row.cell(rate, own, 2);
            if who != Who::Bare {
                row.ratio(share, own.ratio(&bare));
                met &= own.ratio(&bare) >= REACH;
            }
        }
        if who == Who::Ours {
            row.reach(&format!("{REACH:.2} of bare"), met);
        }
        if spread(who, 0).is_some() {
            rows.push(row);
        }
    }
    Section::new(
        "wire",
        &format!(
            "Across a veth and back, millions of packets a second with the generator and the counter on one processor, {said}"
        ),
        rows,
    )
}
