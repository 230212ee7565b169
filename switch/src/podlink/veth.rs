//! Pods on a veth.

use std::os::fd::AsFd as _;

use shunt_api::AttachmentKey;

use super::{PodLinkError, PodLinkPlan, alias, inside, netns, sysctl};
use crate::netlink::{Link, LinkDetails, Netlink, VethEnd};
use crate::sys::Netns;

/// Makes the veth and sets it up; the host end.
pub(super) fn build(
    netlink: &mut Netlink,
    plan: &PodLinkPlan,
    alias: &str,
    netns: &Netns,
) -> Result<Link, PodLinkError> {
    // What a crash has left.
    demolish(netlink, &plan.key, &plan.host_device)?;
    create(netlink, plan, netns)?;
    let built = finish(netlink, plan, alias, netns);
    if built.is_err()
        && let Err(error) = undo(netlink, &plan.host_device)
    {
        log::error!(
            "{}: what was made of its link is left over: {error}; attaching or detaching it again \
             removes it",
            plan.key
        );
    }
    built
}

/// See [`super::demolish`].
pub(super) fn demolish(
    netlink: &mut Netlink,
    key: &AttachmentKey,
    host_device: &str,
) -> Result<bool, PodLinkError> {
    let Some(found) = netlink.link_details(host_device)? else {
        return Ok(false);
    };
    let taken = |owner: String| PodLinkError::DeviceTaken {
        device: host_device.to_owned(),
        owner,
    };
    match found
        .alias
        .as_deref()
        .map(|text| (text, alias::parse(text)))
    {
        Some((_, Some(owner))) if owner == *key => {}
        Some((_, Some(owner))) => return Err(taken(format!("is that of {owner}"))),
        Some((text, None)) => return Err(taken(format!("is another's (alias `{text}`)"))),
        None if is_half_made(&found, key) => {}
        None => return Err(taken("is another's".to_owned())),
    }
    Ok(netlink.delete_link(found.link.index)?)
}

/// True for a veth that has nothing yet but the name that nobody else would give it.
fn is_half_made(found: &LinkDetails, key: &AttachmentKey) -> bool {
    found.link.kind.as_deref() == Some("veth")
        && !found.link.up
        && found.link.name == key.short_name()
}

fn create(netlink: &mut Netlink, plan: &PodLinkPlan, netns: &Netns) -> Result<(), PodLinkError> {
    let end = |name, mac| VethEnd {
        name,
        mac,
        mtu: plan.mtu,
    };
    let (host, pod) = (
        end(&plan.host_device, plan.host_mac),
        end(&plan.key.ifname, plan.mac),
    );
    match netlink.create_veth_into(&host, &pod, netns.as_fd()) {
        Ok(()) => Ok(()),
        Err(error) if error.refusal() == Some(libc::EEXIST) => {
            Err(match netlink.link(&plan.host_device)? {
                Some(_) => PodLinkError::DeviceTaken {
                    device: plan.host_device.clone(),
                    owner: "was made by another meanwhile".to_owned(),
                },
                None => PodLinkError::InterfaceExists {
                    netns: plan.netns.clone(),
                    ifname: plan.key.ifname.clone(),
                },
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn finish(
    netlink: &mut Netlink,
    plan: &PodLinkPlan,
    alias: &str,
    netns: &Netns,
) -> Result<Link, PodLinkError> {
    let device = &plan.host_device;
    let link = netlink.link(device)?.ok_or_else(|| inside::gone(device))?;
    sysctl::host(device)?;
    netlink.set_alias_and_up(link.index, alias)?;
    netns::run(netns, &plan.netns, || inside::configure(plan))?;
    inside::wait_ready(netlink, device)
}

fn undo(netlink: &mut Netlink, device: &str) -> Result<(), PodLinkError> {
    if let Some(link) = netlink.link(device)? {
        netlink.delete_link(link.index)?;
    }
    Ok(())
}
