//! Links: the list, and our dummy device that carries the virtual addresses of a node that does not hold them.
//!
//! k0s leaves `dummyvip0` down. A down device's IPv4 addresses answer all the same, its IPv6 addresses stay tentative
//! and never do (`addrconf_dad_begin`), hence ours is set up.
use super::channel::{CREATE, EXCL};
use super::{Rtnl, RtnlError};
use lb_common::model::MacAddr;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use nix::errno::Errno;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address, where it has one of six bytes.
    pub mac: Option<MacAddr>,
    /// Whether it is set up (`IFF_UP`).
    pub up: bool,
    /// Whether it can carry packets: up, with a carrier, not dormant (`IFF_RUNNING` and `IFF_LOWER_UP`).
    pub running: bool,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// Whether its frames are Ethernet's (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// The longest packet that it takes, without its link's header.
    pub mtu: u32,
    /// Its type (`dummy`, `veth`, `bond`, `vlan`...); none for a physical one.
    pub kind: Option<String>,
    /// Its alias: free text, where we leave our mark.
    pub alias: Option<String>,
    /// The bridge, bond or VRF that it belongs to.
    pub master: Option<u32>,
    /// Of a VLAN device: its identifier, and the index of the device that carries it.
    pub vlan: Option<Vlan>,
    /// The XDP program on it, whoever's.
    pub xdp: Option<XdpOn>,
}

/// What a VLAN device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The identifier in the tag, 1 to 4094.
    pub id: u16,
    /// The index of the device below.
    pub parent: u32,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpOn {
    /// Its number in the kernel; of several, the driver's.
    pub program: u32,
    /// Whether the driver runs it, or the network stack.
    pub native: bool,
}

/// What [`Rtnl::ensure_dummy`] found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dummy {
    /// The device's index.
    pub index: u32,
    /// Whether somebody else had made it: no alias of ours on it. It is left as it is except for being set up, and
    /// should not be removed at the end.
    pub adopted: bool,
}

impl Rtnl {
    /// Every link of the namespace.
    pub async fn links(&mut self) -> Result<Vec<Link>, RtnlError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let found = self.dump("listing links", &request).await?;
        Ok(found.into_iter().filter_map(link).collect())
    }

    /// The link of that name.
    pub async fn link_named(&mut self, name: &str) -> Result<Option<Link>, RtnlError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let action = format!("looking for link {name}");
        match self.ask(&action, &RouteNetlinkMessage::GetLink(message), 0).await {
            Ok(found) => Ok(found.into_iter().find_map(link)),
            Err(e) if e.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes sure that a dummy device of that name is there and up. `alias` marks it as ours.
    ///
    /// [`RtnlError::Unsupported`] where the kernel has no dummy device: use `lo`.
    pub async fn ensure_dummy(&mut self, name: &str, alias: &str) -> Result<Dummy, RtnlError> {
        let link = match self.link_named(name).await? {
            Some(link) => link,
            None => self.create_dummy(name, alias).await?,
        };
        if link.kind.as_deref() != Some("dummy") {
            return Err(RtnlError::WrongKind {
                name: name.to_owned(),
                kind: link.kind.unwrap_or_else(|| "physical".to_owned()),
            });
        }
        if !link.up {
            self.set_addresses_by_hand(link.index, name).await;
            self.set_up(link.index, name).await?;
        }
        Ok(Dummy {
            index: link.index,
            adopted: link.alias.as_deref() != Some(alias),
        })
    }

    /// Removes a link. One that is not there is removed already.
    pub async fn delete_link(&mut self, index: u32) -> Result<(), RtnlError> {
        let action = format!("removing link {}", super::interface_name(index));
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.ask(&action, &RouteNetlinkMessage::DelLink(message), 0).await {
            Ok(_) => Ok(()),
            Err(e) if e.errno() == Some(Errno::ENODEV) => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn create_dummy(&mut self, name: &str, alias: &str) -> Result<Link, RtnlError> {
        let action = format!("creating dummy device {name}");
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]),
        ];
        match self
            .ask(&action, &RouteNetlinkMessage::NewLink(message), CREATE | EXCL)
            .await
        {
            Ok(_) => self.set_alias(name, alias).await?,
            // Somebody was faster: it is theirs, and the caller looks at what it is.
            Err(e) if e.errno() == Some(Errno::EEXIST) => {}
            Err(e) if e.errno() == Some(Errno::EOPNOTSUPP) => {
                return Err(RtnlError::Unsupported {
                    action,
                    reason: "it has no dummy device (module dummy)".to_owned(),
                });
            }
            Err(e) => return Err(e),
        }
        self.link_named(name).await?.ok_or(RtnlError::Unstable { action })
    }

    /// The alias is not taken by the creating request (`rtnl_newlink_create` ignores `IFLA_IFALIAS`).
    async fn set_alias(&mut self, name: &str, alias: &str) -> Result<(), RtnlError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::IfAlias(alias.to_owned()),
        ];
        let action = format!("setting the alias of {name}");
        self.ask(&action, &RouteNetlinkMessage::SetLink(message), 0)
            .await?;
        Ok(())
    }

    /// Before it is up: no link-local address by itself, so that the link has our addresses and nothing else. Where
    /// there is no IPv6 the kernel refuses, and there is nothing to keep away.
    async fn set_addresses_by_hand(&mut self, index: u32, name: &str) {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let by_hand = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![by_hand])];
        let action = format!("keeping {name} free of link-local addresses");
        if let Err(error) = self.ask(&action, &RouteNetlinkMessage::SetLink(message), 0).await {
            tracing::debug!(%error, "this kernel gives the link an address of its own");
        }
    }

    async fn set_up(&mut self, index: u32, name: &str) -> Result<(), RtnlError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        let action = format!("setting {name} up");
        self.ask(&action, &RouteNetlinkMessage::SetLink(message), 0)
            .await?;
        Ok(())
    }
}

fn link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let flags = message.header.flags;
    let mut out = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        mtu: 0,
        kind: None,
        alias: None,
        master: None,
        vlan: None,
        xdp: None,
    };
    let (mut parent, mut tag) = (None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => out.name = name,
            LinkAttribute::Address(bytes) => out.mac = <[u8; 6]>::try_from(bytes).ok().map(MacAddr),
            LinkAttribute::IfAlias(alias) => out.alias = Some(alias),
            LinkAttribute::Controller(master) => out.master = Some(master),
            LinkAttribute::Mtu(mtu) => out.mtu = mtu,
            LinkAttribute::Link(index) => parent = Some(index),
            LinkAttribute::Xdp(list) => out.xdp = xdp_on(&list),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => out.kind = Some(kind.to_string()),
                        LinkInfo::Data(InfoData::Vlan(list)) => {
                            tag = list.into_iter().find_map(|i| match i {
                                InfoVlan::Id(id) => Some(id),
                                _ => None,
                            });
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    out.vlan = parent.zip(tag).map(|(parent, id)| Vlan { id, parent });
    Some(out)
}

fn xdp_on(list: &[LinkXdp]) -> Option<XdpOn> {
    let id = |pick: fn(&LinkXdp) -> Option<u32>| list.iter().find_map(pick).filter(|id| *id != 0);
    let any = id(|x| match x {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    });
    let driver = id(|x| match x {
        LinkXdp::DrvProgId(id) => Some(*id),
        _ => None,
    });
    let stack = id(|x| match x {
        LinkXdp::SkbProgId(id) => Some(*id),
        _ => None,
    });
    let generic = list
        .iter()
        .any(|x| matches!(x, LinkXdp::Attached(XdpAttached::SocketBuffer)));
    Some(XdpOn {
        program: driver.or(any).or(stack)?,
        native: driver.is_some() || (!generic && stack.is_none()),
    })
}
