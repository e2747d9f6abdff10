//! Where the program would be, for `cplb plan`: nothing is attached.
use super::owner::Owner;
use super::place::{Site, place};
use crate::sys::ethtool;
use crate::sys::rtnl::{Link, Rtnl, RtnlError};
use lb_common::abi::{XDP_PROGRAM, XDP_PROGRAM_FRAGS};
use lb_common::plan::Forwarding;
use std::collections::BTreeMap;

/// A sentence for each interface of `forwarding`.
pub async fn foresee(forwarding: &Forwarding, rtnl: &mut Rtnl) -> Result<Vec<String>, RtnlError> {
    let links: BTreeMap<u32, Link> = rtnl.links().await?.into_iter().map(|l| (l.index, l)).collect();
    let strips = |l: &Link| ethtool::strips_vlan_tags(&l.name).unwrap_or(true);
    let interfaces = forwarding.interfaces.iter().filter_map(|i| links.get(i));
    let mut said = Vec::new();
    for link in interfaces {
        match (
            place(link, &links, forwarding.attach.mode, strips),
            &forwarding.attach.root_array,
        ) {
            (Err(why), _) => said.push(why),
            (Ok(_), Some(array)) => {
                said.push(format!(
                    "the XDP program would be called for {} by whoever uses entry {} of {}",
                    link.name, array.index, array.path
                ));
            }
            (Ok(site), None) => {
                said.push(where_it_goes(link, &site));
                let there = links.get(&site.interface).and_then(|l| l.xdp);
                said.extend(there.and_then(|on| {
                    let owner = Owner::find(&site.name, site.interface, on);
                    (!is_ours(&owner)).then(|| owner.to_string())
                }));
            }
        }
    }
    Ok(said)
}

fn where_it_goes(link: &Link, site: &Site) -> String {
    let below = if site.interface == link.index {
        String::new()
    } else {
        format!(", for VLAN {:#x} of it, which is {}", site.vlan, link.name)
    };
    match &site.generic {
        Some(why) => format!("the XDP program would be on {}{below}, generic: {why}", site.name),
        None => format!(
            "the XDP program would be on {}{below}, native if its driver can",
            site.name
        ),
    }
}

/// A daemon that runs already.
fn is_ours(owner: &Owner) -> bool {
    let name = owner.program.as_ref().map(|p| p.name.as_str());
    name == Some(XDP_PROGRAM) || name == Some(XDP_PROGRAM_FRAGS)
}
