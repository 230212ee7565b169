//! Veths that are ours by their alias.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::MacAddr;

use super::{FoundLink, PodLinkError, alias};
use crate::netlink::{Netlink, NetlinkError, OtherEnd};

/// See [`super::found()`].
pub(super) fn found(netlink: &mut Netlink) -> Result<Vec<FoundLink>, PodLinkError> {
    let mut found = Vec::new();
    for veth in netlink.veths()? {
        let Some(key) = veth.alias.as_deref().and_then(alias::parse) else {
            continue;
        };
        let read = match veth.other_end {
            Some(end) => inside(netlink, end),
            None => Ok((None, Vec::new())),
        };
        // The others are not to suffer for it.
        let unread = read.is_err();
        let (mac, addresses) = read.unwrap_or_else(|error| {
            log::warn!(
                "pod {key}: its end of {} is not read: {error}",
                veth.link.name
            );
            (None, Vec::new())
        });
        found.push(FoundLink {
            key,
            link: veth.link,
            mac,
            addresses,
            unread,
        });
    }
    Ok(found)
}

/// What the pod's end has.
fn inside(
    netlink: &mut Netlink,
    end: OtherEnd,
) -> Result<(Option<MacAddr>, Vec<IpNet>), NetlinkError> {
    let mac = netlink.mac_elsewhere(end)?;
    let mut addresses = netlink.addresses_elsewhere(end)?;
    addresses.retain(|net| !is_link_local(net.addr()));
    Ok((mac, addresses))
}

/// RFC 3927 and RFC 4291, 2.5.6.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
