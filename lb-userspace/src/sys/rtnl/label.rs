//! IPv6 address labels (RFC 6724 §2.1, `net/ipv6/addrlabel.c`): a VIP gets one of its own, so that it does not match
//! any destination's and is never preferred as a source address. k0s uses 10000.
use super::channel::{CREATE, REPLACE};
use super::{Rtnl, RtnlError};
use lb_common::model::IpPrefix;
use netlink_packet_route::addrlabel::{AddrLabelAttribute, AddrLabelMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use std::net::{IpAddr, Ipv6Addr};

/// A label of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressLabel {
    /// Which addresses it is for.
    pub prefix: IpPrefix,
    /// The label.
    pub label: u32,
}

impl Rtnl {
    /// The whole table.
    pub async fn address_labels(&mut self) -> Result<Vec<AddressLabel>, RtnlError> {
        let mut message = AddrLabelMessage::default();
        message.header.family = AddressFamily::Inet6;
        let request = RouteNetlinkMessage::GetAddrLabel(message);
        let found = self.dump("listing address labels", &request).await?;
        Ok(found.into_iter().filter_map(label).collect())
    }

    /// Gives the address by itself (/128) a label.
    pub async fn set_address_label(&mut self, address: Ipv6Addr, label: u32) -> Result<(), RtnlError> {
        let mut message = host(address);
        message.attributes.push(AddrLabelAttribute::Label(label));
        let action = format!("labelling {address} as {label}");
        let request = RouteNetlinkMessage::NewAddrLabel(message);
        self.ask(&action, &request, CREATE | REPLACE).await?;
        Ok(())
    }

    /// Takes the label of the address by itself away. One that is not there is removed already.
    pub async fn delete_address_label(&mut self, address: Ipv6Addr) -> Result<(), RtnlError> {
        let action = format!("removing the label of {address}");
        let mut message = host(address);
        // The kernel wants the attribute and does not look at it (`ip6addrlbl_newdel`).
        message.attributes.push(AddrLabelAttribute::Label(0));
        match self
            .ask(&action, &RouteNetlinkMessage::DelAddrLabel(message), 0)
            .await
        {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.errno(), Some(Errno::ESRCH | Errno::ENOENT)) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

fn host(address: Ipv6Addr) -> AddrLabelMessage {
    let mut message = AddrLabelMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = 128;
    message
        .attributes
        .push(AddrLabelAttribute::Address(IpAddr::V6(address)));
    message
}

fn label(message: RouteNetlinkMessage) -> Option<AddressLabel> {
    let RouteNetlinkMessage::NewAddrLabel(message) = message else {
        return None;
    };
    let (mut address, mut label) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddrLabelAttribute::Address(a) => address = Some(*a),
            AddrLabelAttribute::Label(l) => label = Some(*l),
            _ => {}
        }
    }
    Some(AddressLabel {
        prefix: IpPrefix::new(address?, message.header.prefix_len)?,
        label: label?,
    })
}
