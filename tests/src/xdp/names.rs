//! What frames and scenes call addresses by.
use anyhow::{Context, Result, anyhow};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A MAC address.
pub type Mac = [u8; 6];

/// Names of IP and MAC addresses. Where a name is wanted, the address itself does as well.
#[derive(Clone, Debug, Default)]
pub struct Names {
    addresses: BTreeMap<String, IpAddr>,
    macs: BTreeMap<String, Mac>,
}

impl Names {
    /// Gives an IP address or a MAC address a name; a name can have one of each.
    pub fn add(&mut self, name: &str, address: &str) -> Result<()> {
        match address.parse() {
            Ok(ip) => {
                self.addresses.insert(name.to_owned(), ip);
            }
            Err(_) => {
                self.macs.insert(name.to_owned(), mac(address)?);
            }
        }
        Ok(())
    }

    /// The IP address that is meant.
    pub fn ip(&self, text: &str) -> Result<IpAddr> {
        let named = self.addresses.get(text).copied();
        named
            .or_else(|| text.parse().ok())
            .with_context(|| format!("{text} is no IP address and no name of one"))
    }

    /// The MAC address that is meant.
    pub fn mac(&self, text: &str) -> Result<Mac> {
        self.macs.get(text).copied().map_or_else(|| mac(text), Ok)
    }
}

fn mac(text: &str) -> Result<Mac> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| anyhow!("{text} is no MAC address and no name of one"))
}
