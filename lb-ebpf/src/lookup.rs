//! Is it for a virtual IP that this node directs, and for which of its services?
#![expect(
    unsafe_code,
    reason = "places are within their tables by a mask; a check would cost the verifier and the packet"
)]
use crate::receive::Address;
use lb_common::abi::tables::{PROBES, SERVICES, VIP_ANY_PORT, VIPS, service_key, service_place, vip_place};
use lb_common::abi::{Service, Side, Vip};

/// The virtual IP with this address.
#[inline(always)]
pub(crate) fn vip<A: Address>(side: &'static Side, address: A) -> Option<&'static Vip> {
    let (hi, lo) = address.key()?;
    let first = vip_place(hi, lo, side.vip_multiplier) as usize;
    for probe in 0..PROBES {
        // SAFETY: the mask keeps it within the table.
        let vip = unsafe { &*side.vips.as_ptr().add((first + probe) & (VIPS - 1)) };
        if vip.lo == lo && vip.hi == hi {
            return Some(vip);
        }
        if side.vip_probes as usize <= probe + 1 {
            break;
        }
    }
    None
}

/// The service of this virtual IP that takes the port, or every port.
#[inline(always)]
pub(crate) fn service(side: &'static Side, vip: &Vip, proto: u8, port: u16) -> Option<&'static Service> {
    let exact = by_key(side, service_key(vip.index, proto, port));
    if exact.is_none() && vip.flags & VIP_ANY_PORT != 0 {
        return by_key(side, service_key(vip.index, proto, 0));
    }
    exact
}

#[inline(always)]
fn by_key(side: &'static Side, key: u64) -> Option<&'static Service> {
    let first = service_place(key, side.service_multiplier) as usize;
    for probe in 0..PROBES {
        // SAFETY: the mask keeps it within the table.
        let service = unsafe { &*side.services.as_ptr().add((first + probe) & (SERVICES - 1)) };
        if service.key == key {
            return Some(service);
        }
        if side.service_probes as usize <= probe + 1 {
            break;
        }
    }
    None
}
