//! Where on an interface the program goes, decided from what the kernel says of it.
//!
//! | interface | place |
//! | --- | --- |
//! | physical, veth, bond, tap, anything else with Ethernet frames | on it, by its driver if that can |
//! | VLAN device | on the device below, matching the tags, if that leaves tags in frames; else on it, generic |
//! | bridge, macvlan, macvtap, ipvlan, team | on it, generic: they have no driver that could |
//! | loopback, tun, WireGuard, all without Ethernet frames | refused |
use crate::sys::rtnl::Link;
use lb_common::spec::XdpMode;
use std::collections::BTreeMap;

/// VLAN tags that the program looks through.
const TAGS: usize = 2;

/// Where the program for an interface is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The index of the interface that it is attached to.
    pub interface: u32,
    /// Its name.
    pub name: String,
    /// The VLAN identifiers that frames for it carry there, as [`lb_common::abi::Vip::vlan`] has them.
    pub vlan: u32,
    /// Why the driver is not even asked.
    pub generic: Option<String>,
}

/// Finds the place for `link`. `strips_tags` tells whether a device takes VLAN tags out of the frames that arrive.
///
/// # Errors
/// A sentence: why the program cannot be on this interface.
pub fn place(
    link: &Link,
    links: &BTreeMap<u32, Link>,
    mode: XdpMode,
    strips_tags: impl Fn(&Link) -> bool,
) -> Result<Site, String> {
    let name = &link.name;
    if link.loopback {
        return Err(format!(
            "the XDP program cannot be on {name}: it is the loopback interface, and no packet arrives there from a network"
        ));
    }
    if !link.ethernet || link.mac.is_none() {
        let kind = link.kind.as_deref().unwrap_or("physical");
        return Err(format!(
            "the XDP program cannot be on {name}: its packets have no Ethernet header to rewrite ({kind}); use \
             `datapath: ipvs` there"
        ));
    }
    let here = |generic: Option<String>| Site {
        interface: link.index,
        name: name.clone(),
        vlan: 0,
        generic,
    };
    if mode == XdpMode::Generic {
        return Ok(here(Some("mode: generic is in the file".to_owned())));
    }
    let why = match link.kind.as_deref() {
        Some("vlan") => match below(link, links, strips_tags) {
            Ok(site) => return Ok(site),
            Err(why) => why,
        },
        Some(kind @ ("bridge" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "team")) => {
            format!("{name} is a {kind} device, which no driver runs XDP on")
        }
        Some(_) | None => return Ok(here(None)),
    };
    match mode {
        XdpMode::Native => Err(format!(
            "the XDP program cannot be on {name} as `mode: native` asks: {why}"
        )),
        XdpMode::Auto | XdpMode::Generic => Ok(here(Some(why))),
    }
}

/// The device that carries a VLAN device, if a program there sees its tags; else why not.
fn below(
    link: &Link,
    links: &BTreeMap<u32, Link>,
    strips_tags: impl Fn(&Link) -> bool,
) -> Result<Site, String> {
    let (mut device, mut tags) = (link, Vec::new());
    while let Some(vlan) = device.vlan {
        tags.push(vlan.id);
        let parent = links
            .get(&vlan.parent)
            .ok_or_else(|| format!("the device below {} is in another network namespace", device.name))?;
        device = parent;
    }
    // The outermost tag is that of the device that was reached last.
    let vlan = match tags.as_slice() {
        [one] => u32::from(*one),
        [inner, outer] => u32::from(*outer) << 16 | u32::from(*inner),
        _ => return Err(format!("{} has more than {TAGS} VLAN tags", link.name)),
    };
    if matches!(
        device.kind.as_deref(),
        Some("bridge" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "team")
    ) {
        return Err(format!(
            "{} is on {}, which no driver runs XDP on",
            link.name, device.name
        ));
    }
    if strips_tags(device) {
        return Err(format!(
            "{} takes the VLAN tags out of frames before a program sees them (`ethtool -K {} rxvlan off` lets it be native)",
            device.name, device.name
        ));
    }
    Ok(Site {
        interface: device.index,
        name: device.name.clone(),
        vlan,
        generic: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::rtnl::Vlan;
    use lb_common::model::MacAddr;

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index,
            name: name.into(),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            up: true,
            running: true,
            loopback: false,
            ethernet: true,
            mtu: 1500,
            kind: kind.map(Into::into),
            alias: None,
            master: None,
            vlan: None,
            xdp: None,
        }
    }

    fn vlan(index: u32, name: &str, id: u16, parent: u32) -> Link {
        Link {
            vlan: Some(Vlan { id, parent }),
            ..link(index, name, Some("vlan"))
        }
    }

    fn host() -> BTreeMap<u32, Link> {
        let loopback = Link {
            loopback: true,
            ethernet: false,
            ..link(1, "lo", None)
        };
        let wireguard = Link {
            ethernet: false,
            mac: None,
            ..link(9, "wg0", Some("wireguard"))
        };
        [
            loopback,
            link(2, "eth0", None),
            link(3, "veth0", Some("veth")),
            link(4, "bond0", Some("bond")),
            link(5, "br0", Some("bridge")),
            link(6, "mv0", Some("macvlan")),
            link(7, "team0", Some("team")),
            link(8, "tap0", Some("tun")),
            wireguard,
            vlan(10, "eth0.100", 100, 2),
            vlan(11, "eth0.100.200", 200, 10),
            vlan(12, "eth0.100.200.300", 300, 11),
            vlan(13, "br0.5", 5, 5),
            vlan(14, "far", 5, 99),
            vlan(15, "veth0.7", 7, 3),
        ]
        .into_iter()
        .map(|l| (l.index, l))
        .collect()
    }

    /// Where the interface of that index goes, as a line: `eth0 native vlan 0x64`, `br0 generic: why`, `refused: why`.
    fn shown(index: u32, mode: XdpMode) -> String {
        let links = host();
        let strips = |l: &Link| l.name == "veth0";
        match place(&links[&index], &links, mode, strips) {
            Ok(Site {
                name,
                vlan,
                generic: None,
                ..
            }) => format!("{name} native vlan {vlan:#x}"),
            Ok(Site {
                name,
                vlan,
                generic: Some(why),
                ..
            }) => {
                assert_eq!(vlan, 0);
                format!("{name} generic: {why}")
            }
            Err(why) => format!("refused: {why}"),
        }
    }

    #[test]
    fn every_kind_of_link_has_its_place_or_a_reason() {
        let table = [
            (1, "refused: the XDP program cannot be on lo: it is the loopback"),
            (2, "eth0 native vlan 0x0"),
            (3, "veth0 native vlan 0x0"),
            (4, "bond0 native vlan 0x0"),
            (5, "br0 generic: br0 is a bridge device"),
            (6, "mv0 generic: mv0 is a macvlan device"),
            (7, "team0 generic: team0 is a team device"),
            (8, "tap0 native vlan 0x0"),
            (
                9,
                "refused: the XDP program cannot be on wg0: its packets have no Ethernet header to rewrite (wireguard)",
            ),
            (10, "eth0 native vlan 0x64"),
            (11, "eth0 native vlan 0x6400c8"),
            (
                12,
                "eth0.100.200.300 generic: eth0.100.200.300 has more than 2 VLAN tags",
            ),
            (13, "br0.5 generic: br0.5 is on br0"),
            (
                14,
                "far generic: the device below far is in another network namespace",
            ),
            (15, "veth0.7 generic: veth0 takes the VLAN tags out"),
        ];
        for (index, want) in table {
            let found = shown(index, XdpMode::Auto);
            assert!(found.starts_with(want), "{index}: {found}\nwanted: {want}");
        }
    }

    #[test]
    fn what_the_file_says_of_the_mode_is_done_or_refused() {
        assert_eq!(
            shown(2, XdpMode::Generic),
            "eth0 generic: mode: generic is in the file"
        );
        assert_eq!(shown(10, XdpMode::Native), "eth0 native vlan 0x64");
        for index in [5, 6, 7, 12, 13, 14, 15] {
            let found = shown(index, XdpMode::Native);
            assert!(found.contains("as `mode: native` asks: "), "{found}");
        }
        assert!(shown(9, XdpMode::Generic).starts_with("refused"));
    }
}
