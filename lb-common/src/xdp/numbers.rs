//! Numbers that stay.
use crate::model::{Protocol, ServiceKey};
use crate::plan::Method;
use core::net::IpAddr;

/// What a backend's number stands for. One machine has a number for each port, since one of its ports may be dead while
/// another one lives, and flows remember the number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendKey {
    /// Its own address.
    pub address: IpAddr,
    /// How packets get there.
    pub method: Method,
    /// The transport.
    pub protocol: Protocol,
    /// The port; 0 is every port.
    pub port: u16,
}

/// What is kept from one image to the next.
#[derive(Clone, Debug, Default)]
pub struct Numbers {}

impl Numbers {
    /// Backends that have a number now.
    pub fn backends(&self) -> impl Iterator<Item = (u16, &BackendKey)> {
        core::iter::empty()
    }

    /// Virtual servers that have a place in `SERVICE_STATS` now.
    pub fn services(&self) -> impl Iterator<Item = (u16, &ServiceKey)> {
        core::iter::empty()
    }
}
