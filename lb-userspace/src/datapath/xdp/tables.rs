//! The maps: two sides that are written in turns, and counters.
use super::control;
use super::object::{Object, ObjectError};
use crate::sys::mapped::Words;
use crate::sys::{bpf, membarrier};
use lb_common::abi::tables::POOLS;
use lb_common::abi::{self, Reason, Ring, Side, Traffic, flow};
use lb_common::xdp::Image;
use std::sync::Arc;
use std::time::Duration;

/// Where readers cannot be waited for, none takes longer: a program runs for less than a microsecond.
const GRACE: Duration = Duration::from_millis(100);

/// What the maps hold.
pub(super) struct Tables {
    /// The side in force.
    active: usize,
    written: [Written; 2],
    /// Some packet may still be read against the side that is not in force.
    unsettled: bool,
    processors: usize,
    flows: Option<Words>,
}

#[derive(Default)]
struct Written {
    side: Option<Box<Side>>,
    rings: Vec<Option<Arc<Ring>>>,
}

impl Written {
    fn is(&self, image: &Image) -> bool {
        let ring = |(i, ring): (usize, &Arc<Ring>)| matches!(self.rings.get(i), Some(Some(there)) if Arc::ptr_eq(there, ring));
        self.side.as_ref() == Some(&image.side) && image.rings.iter().enumerate().all(ring)
    }
}

impl Tables {
    /// Of an object that was just loaded: side 0 is in force, and empty.
    pub(super) fn new(object: &Object) -> Result<Self, ObjectError> {
        let processors = aya::util::nr_cpus().map_err(|(path, error)| ObjectError::Other {
            doing: format!("reading {path}"),
            causes: error.to_string(),
        })?;
        let flows = Words::map(object.map_fd(abi::map::FLOWS)?, flow::SETS * flow::WAYS);
        let flows = flows
            .inspect_err(
                |error| tracing::debug!(%error, "the table of flows cannot be mapped: it is not counted"),
            )
            .ok();
        Ok(Self {
            active: 0,
            written: Default::default(),
            unsettled: false,
            processors,
            flows,
        })
    }

    /// Processors that there may be.
    pub(super) fn processors(&self) -> u64 {
        self.processors as u64
    }

    /// Puts an image in force, between two packets. False where it is in force already.
    pub(super) async fn put(&mut self, object: &Object, image: &Image) -> Result<bool, ObjectError> {
        let [first, second] = &mut self.written;
        let (current, next) = if self.active == 0 {
            (first, second)
        } else {
            (second, first)
        };
        if current.is(image) {
            return Ok(false);
        }
        settle(&mut self.unsettled).await;
        let side = 1 - self.active;
        let zero = vec![0; self.processors * size_of::<Traffic>()];
        for (map, numbers) in [
            (abi::map::BACKEND_STATS, &image.new_backends),
            (abi::map::SERVICE_STATS, &image.new_services),
        ] {
            for number in numbers {
                write(object, map, u32::from(*number), &zero)?;
            }
        }
        // Until it is written whole, it is nothing that could be compared with.
        next.side = None;
        next.rings.resize(POOLS, None);
        for (i, (ring, there)) in image.rings.iter().zip(&mut next.rings).enumerate() {
            if !there.as_ref().is_some_and(|t| Arc::ptr_eq(t, ring)) {
                *there = None;
                let index = u32::try_from(side * POOLS + i).unwrap_or(u32::MAX);
                write(object, abi::map::RINGS, index, bpf::ring_bytes(ring))?;
                *there = Some(ring.clone());
            }
        }
        let index = u32::try_from(side).unwrap_or_default();
        write(object, abi::map::SIDES, index, bpf::side_bytes(&image.side))?;
        next.side = Some(image.side.clone());
        control::activate(object, index)?;
        self.active = side;
        self.unsettled = true;
        Ok(true)
    }

    /// Waits until nobody reads the side that is not in force. When this is done beforehand, a change waits for nothing.
    pub(super) async fn settle(&mut self) {
        settle(&mut self.unsettled).await;
    }

    /// What went to a backend.
    pub(super) fn backend(&self, object: &Object, number: u16) -> Result<Traffic, ObjectError> {
        self.traffic(object, abi::map::BACKEND_STATS, u32::from(number))
    }

    /// What went through a virtual server.
    pub(super) fn service(&self, object: &Object, number: u16) -> Result<Traffic, ObjectError> {
        self.traffic(object, abi::map::SERVICE_STATS, u32::from(number))
    }

    /// Packets that were not forwarded for this reason.
    pub(super) fn reason(&self, object: &Object, reason: Reason) -> Result<u64, ObjectError> {
        let mut bytes = vec![0; self.processors * size_of::<u64>()];
        read(object, abi::map::REASONS, reason as u32, &mut bytes)?;
        Ok(words(&bytes).sum())
    }

    fn traffic(&self, object: &Object, map: &'static str, number: u32) -> Result<Traffic, ObjectError> {
        let mut bytes = vec![0; self.processors * size_of::<Traffic>()];
        read(object, map, number, &mut bytes)?;
        Ok(sum(&bytes))
    }

    /// Flows in the table: seen once, and seen again.
    pub(super) fn flows(&self) -> Option<(u64, u64)> {
        let (mut probation, mut established) = (0, 0);
        for word in self.flows.as_ref()?.iter().filter(|w| !flow::is_empty(*w)) {
            if flow::class(word) == flow::ESTABLISHED {
                established += 1;
            } else if flow::backend(word) != 0 {
                probation += 1;
            }
        }
        Some((probation, established))
    }
}

async fn settle(unsettled: &mut bool) {
    if *unsettled {
        if let Err(error) = membarrier::wait_for_readers() {
            tracing::debug!(%error, "readers cannot be waited for; waiting for {GRACE:?} instead");
            tokio::time::sleep(GRACE).await;
        }
        *unsettled = false;
    }
}

/// Each processor's counters added up.
fn sum(bytes: &[u8]) -> Traffic {
    let mut total = Traffic::default();
    let words: Vec<u64> = words(bytes).collect();
    for each in words.chunks_exact(size_of::<Traffic>() / 8) {
        if let [packets, bytes, new_flows, remembered] = each {
            total.packets += packets;
            total.bytes += bytes;
            total.new_flows += new_flows;
            total.remembered += remembered;
        }
    }
    total
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()))
}

fn write(object: &Object, map: &'static str, index: u32, value: &[u8]) -> Result<(), ObjectError> {
    bpf::write(object.map_fd(map)?, index, value).map_err(|e| ObjectError::Other {
        doing: format!("writing element {index} of the XDP program's map {map}"),
        causes: e.to_string(),
    })
}

fn read(object: &Object, map: &'static str, index: u32, value: &mut [u8]) -> Result<(), ObjectError> {
    bpf::read(object.map_fd(map)?, index, value).map_err(|e| ObjectError::Other {
        doing: format!("reading element {index} of the XDP program's map {map}"),
        causes: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_processors_are_added() {
        let words: [u64; 8] = [1, 2, 3, 4, 10, 20, 30, 40];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let total = Traffic {
            packets: 11,
            bytes: 22,
            new_flows: 33,
            remembered: 44,
        };
        assert_eq!(sum(&bytes), total);
    }
}
