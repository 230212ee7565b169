//! Pods on a TAP.

use super::{PodLink, PodLinkError, PodLinkPlan, inside, netns};
use crate::netlink::Link;
use crate::port::TapPort;
use crate::sys::{Netns, TapError};

/// Makes the TAP in the pod and sets it up. It goes with the port, also when something fails.
pub(super) fn build(plan: &PodLinkPlan, netns: &Netns) -> Result<PodLink, PodLinkError> {
    netns::run(netns, &plan.netns, || {
        let port = TapPort::open_with_mac(&plan.key.ifname, None, Some(plan.mtu), Some(plan.mac));
        let port = port.map_err(|error| match error {
            TapError::Exists { device } => PodLinkError::InterfaceExists {
                netns: plan.netns.clone(),
                ifname: device,
            },
            TapError::Mtu { .. } => PodLinkError::Invalid(error.to_string()),
            source => PodLinkError::Tap {
                netns: plan.netns.clone(),
                source,
            },
        })?;
        let link = inside::configure(plan)?;
        Ok(PodLink {
            // Its index would mean another link here.
            link: Link { index: 0, ..link },
            tap: Some(port),
        })
    })
}
