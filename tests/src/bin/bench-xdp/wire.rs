//! Packets a second across a veth pair, from end to end: a generator at one end, the program at the other one, and a
//! counter where it sends them back to.
//!
//! ```text
//! client                                   director
//! generate4 --redirect--> c0 ~~~~~~~~~~~~> d0: bare_tx | cplb | balancer
//!                         c0 <~~XDP_TX~~~~ d0
//!                         seen: counts, drops
//! ```
//! The generator is `BPF_PROG_TEST_RUN` with live frames, as xdp-trafficgen does it; all of it runs on one processor, so
//! that what is counted in a second is the time that all three took.
use crate::frames::{Frame, NODE_MAC};
use crate::objects::Tools;
use anyhow::{Context, Result, ensure};
use aya::programs::xdp::XdpLink;
use aya::programs::{TestRun, TestRunOptions, Xdp, XdpMode};
use lb_common::abi::bench::program;
use lb_tests::netns::Netns;
use nix::net::if_::if_nametoindex;
use std::time::{Duration, Instant};

/// Frames that the kernel hands on at once; xdp-trafficgen's number.
const BATCH: u32 = 64;

/// Two namespaces and the cable between them.
pub(crate) struct Wire {
    client: Netns,
    /// Where `d0` is.
    pub(crate) director: Netns,
    /// Of `d0`.
    pub(crate) ifindex: u32,
    /// Of `c0`.
    out: u32,
    /// The counter at the client's end.
    _seen: XdpLink,
}

/// What one run of the generator came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) sent: u32,
    pub(crate) seen: u64,
    pub(crate) took: Duration,
}

impl Run {
    /// Millions of packets that came back, a second. Where some did not, all of it is of something else.
    pub(crate) fn rate(&self) -> Result<f64> {
        self.all_came()?;
        Ok(f64::from(self.sent) / self.took.as_secs_f64() / 1e6)
    }

    /// Nanoseconds a packet, of those that were sent.
    pub(crate) fn nanoseconds(&self) -> f64 {
        self.took.as_nanos() as f64 / f64::from(self.sent)
    }

    /// An error if less than 99 in a hundred came back.
    pub(crate) fn all_came(&self) -> Result<()> {
        let lost = u64::from(self.sent).saturating_sub(self.seen);
        ensure!(
            lost * 100 <= u64::from(self.sent),
            "{lost} of {} packets did not come back",
            self.sent
        );
        Ok(())
    }
}

impl Wire {
    /// Makes it; frames to [`NODE_MAC`] are for the director.
    pub(crate) fn new(tools: &mut Tools) -> Result<Self> {
        let client = Netns::new("client")?;
        let director = Netns::new("director")?;
        let [a, b, c, d, e, f] = NODE_MAC;
        director.ip(&format!(
            "link add d0 address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} numrxqueues 1 numtxqueues 1 type veth \
             peer name c0 numrxqueues 1 numtxqueues 1 netns {}\nlink set d0 up\n",
            client.name()
        ))?;
        client.ip("link set c0 up\n")?;
        for (netns, end) in [(&client, "c0"), (&director, "d0")] {
            // Or the ends would say who they are, and be counted.
            netns.sysctl(&format!("ipv6.conf.{end}.disable_ipv6"), "1")?;
        }
        let out = client.run(|| if_nametoindex("c0"))??;
        let ifindex = director.run(|| if_nametoindex("d0"))??;
        let seen = tools.program_mut(program::SEEN)?;
        let seen = attach(&client, seen, out)?;
        Ok(Self {
            client,
            director,
            ifindex,
            out,
            _seen: seen,
        })
    }

    /// Runs the program natively on `d0` until the link is dropped.
    pub(crate) fn direct(&self, program: &mut Xdp) -> Result<XdpLink> {
        attach(&self.director, program, self.ifindex)
    }

    /// Sends so many of this frame, its flow varied.
    pub(crate) fn send(&self, tools: &mut Tools, frame: &Frame, flows: u32, count: u32) -> Result<Run> {
        tools.drive(frame.drive(flows, 0, self.out))?;
        let before = tools.seen()?;
        let generator = tools.program(program::GENERATE4)?;
        let mut options = TestRunOptions {
            data_in: Some(frame.bytes()),
            repeat: count,
            ..TestRunOptions::default()
        };
        options.attrs = options.attrs.xdp_live_frames(BATCH);
        let took = self.client.run(|| -> Result<Duration> {
            let started = Instant::now();
            generator.test_run(options).context("live frames")?;
            Ok(started.elapsed())
        })??;
        Ok(Run {
            sent: count,
            seen: tools.seen()? - before,
            took,
        })
    }
}

fn attach(netns: &Netns, program: &mut Xdp, ifindex: u32) -> Result<XdpLink> {
    let attached = netns.run(|| -> Result<XdpLink> {
        let id = program.attach_to_if_index(ifindex, XdpMode::Driver)?;
        Ok(program.take_link(id)?)
    })?;
    attached.context("attaching natively to the veth")
}
