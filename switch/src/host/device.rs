//! The veth pair between the node's stack and the switch, and all that belongs to it.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::MacAddr;

use super::masquerade::{self, Masquerade, Nft};
use super::{HostError, HostPlan, HostSettings, routes, sysctl};
use crate::netlink::{Link, LinkChange, Netlink, Peer, VethEnd};

/// What the switch's end is called: the device's name with this behind it.
pub const SWITCH_END_SUFFIX: &str = "-sw";

/// A device's name may be this long with the suffix (`IFNAMSIZ` with its NUL).
const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// The node's end of the switch.
#[derive(Debug)]
pub struct HostDevice {
    settings: HostSettings,
    switch_end: String,
    ifindex: u32,
    switch_ifindex: u32,
    /// The last plan that was asked for.
    plan: Option<HostPlan>,
    masquerade: Option<Masquerade>,
}

impl HostDevice {
    /// Makes the pair or takes over the one that an earlier run left, and gives it its addresses
    /// and neighbours; routes follow with [`Self::apply`], and until then those of an earlier run
    /// stay.
    ///
    /// # Errors
    /// [`HostError::Foreign`] when a link of one of the names is not such a pair, others when the
    /// kernel or `nft` refuses something. A pair that this call made is gone again then.
    pub fn prepare(netlink: &mut Netlink, settings: HostSettings) -> Result<Self, HostError> {
        Self::prepare_with(netlink, settings, Nft::default())
    }

    pub(super) fn prepare_with(
        netlink: &mut Netlink,
        settings: HostSettings,
        nft: Nft,
    ) -> Result<Self, HostError> {
        let switch_end = switch_end(&settings.device)?;
        let (ifindex, switch_ifindex, made) = match adopt(netlink, &settings.device, &switch_end)? {
            Some((ifindex, switch_ifindex)) => (ifindex, switch_ifindex, false),
            None => {
                let (ifindex, switch_ifindex) = create(netlink, &settings, &switch_end)?;
                (ifindex, switch_ifindex, true)
            }
        };
        let mut device = Self {
            masquerade: settings
                .masquerade
                .then(|| Masquerade::new(nft.clone(), &settings)),
            settings,
            switch_end,
            ifindex,
            switch_ifindex,
            plan: None,
        };
        match device.set_up(netlink, &nft) {
            Ok(()) => Ok(device),
            Err(error) => {
                if made && let Err(left) = netlink.delete_link(ifindex) {
                    log::warn!("the host device is left behind: {left}");
                }
                Err(error)
            }
        }
    }

    fn set_up(&mut self, netlink: &mut Netlink, nft: &Nft) -> Result<(), HostError> {
        self.configure(netlink)?;
        // The node's address may have been another in an earlier run.
        let wanted = self.addresses();
        for address in netlink.addresses(self.ifindex)? {
            let single = address.prefix_len() == address.max_prefix_len();
            if single && !wanted.contains(&address) {
                netlink.delete_address(self.ifindex, address)?;
            }
        }
        match &mut self.masquerade {
            // An earlier run's table knows the remote nodes; it stays until the first plan.
            Some(masquerade) => {
                if !masquerade.is_there()? {
                    masquerade.apply(&[], &[])?;
                }
            }
            None => match masquerade::remove(nft) {
                Ok(()) | Err(HostError::NftMissing) => {}
                Err(error) => {
                    log::warn!("a masquerading table of an earlier run may be left: {error}")
                }
            },
        }
        Ok(())
    }

    /// The end on which the switch opens its AF_XDP socket.
    pub fn switch_end(&self) -> &str {
        &self.switch_end
    }

    /// The index of the kernel's end.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The index of the switch's end.
    pub fn switch_ifindex(&self) -> u32 {
        self.switch_ifindex
    }

    /// Makes the kernel's routes, rules and masquerading those of `plan`: adds what is missing,
    /// removes what is ours and no longer wanted, leaves all else. What one failure does not
    /// concern is done, and [`Self::restore_if_lost`] tries the rest again.
    ///
    /// # Errors
    /// [`HostError::RouteTaken`] where another's route leads to a prefix, [`HostError::Lost`] when
    /// the pair is gone, others when the kernel or `nft` refuses something.
    pub fn apply(&mut self, netlink: &mut Netlink, plan: &HostPlan) -> Result<(), HostError> {
        self.plan = Some(plan.clone());
        self.restore_if_lost_with(netlink, false).map(drop)
    }

    /// Puts back what of ours someone else has changed or deleted: the links' settings, addresses,
    /// neighbours, routes, rules, the nftables table. True when there was anything. It reads tables
    /// and runs `nft` once, a matter of some milliseconds: call it after changes of addresses or
    /// routes, and from time to time for nftables, which has no notices here.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn restore_if_lost(&mut self, netlink: &mut Netlink) -> Result<bool, HostError> {
        self.restore_if_lost_with(netlink, true)
    }

    fn restore_if_lost_with(
        &mut self,
        netlink: &mut Netlink,
        look_at_nft: bool,
    ) -> Result<bool, HostError> {
        let mut changed = self.configure(netlink)?;
        let mut errors = Vec::new();
        let mut note = |result: Result<bool, HostError>| match result {
            Ok(done) => changed |= done,
            Err(error) => errors.push(error),
        };
        if let Some(plan) = &self.plan {
            note(routes::reconcile(
                netlink,
                &self.settings.device,
                self.ifindex,
                &routes::wanted(&self.settings, self.ifindex, plan),
                &routes::wanted_rules(&self.settings, plan),
            ));
        }
        if let Some(masquerade) = &mut self.masquerade {
            if look_at_nft {
                match masquerade.is_there() {
                    Ok(true) => {}
                    Ok(false) => masquerade.forget(),
                    Err(error) => note(Err(error)),
                }
            }
            let nodes = self.plan.as_ref().map_or(&[][..], |plan| &plan.nodes);
            let prefixes = self.plan.iter().flat_map(|plan| &plan.prefixes);
            let prefixes: Vec<_> = prefixes.map(|route| route.prefix).collect();
            if self.plan.is_some() || look_at_nft {
                note(masquerade.apply(nodes, &prefixes));
            }
        }
        HostError::from_many(errors)?;
        Ok(changed)
    }

    /// Removes routes, rules, addresses, the nftables table and the pair, in this order, or nothing
    /// if the settings say `keep`. All is tried even if one fails. Sysctls stay as they are.
    ///
    /// # Errors
    /// What failed. What is gone already is no error.
    pub fn remove(self, netlink: &mut Netlink) -> Result<(), HostError> {
        if self.settings.keep {
            return Ok(());
        }
        let mut errors = Vec::new();
        let mut note = |result: Result<(), HostError>| errors.extend(result.err());
        let device = &self.settings.device;
        let gone = routes::reconcile(netlink, device, self.ifindex, &[], &[]).map(drop);
        note(gone);
        // Another link may have taken the index of one that is gone.
        let there = matches!(
            netlink.link(device),
            Ok(Some(link)) if link.index == self.ifindex
        );
        if there {
            for address in self.addresses() {
                let gone = netlink.delete_address(self.ifindex, address);
                note(gone.map(drop).map_err(HostError::from));
            }
        }
        if let Some(masquerade) = &self.masquerade {
            note(masquerade.remove());
        }
        if there {
            let gone = netlink.delete_link(self.ifindex);
            note(gone.map(drop).map_err(HostError::from));
        }
        HostError::from_many(errors)
    }

    /// Sets whatever of both ends is not as it should be. True when that was anything.
    fn configure(&self, netlink: &mut Netlink) -> Result<bool, HostError> {
        let settings = &self.settings;
        let mac = switch_end_mac(settings);
        let ends = [
            (&settings.device, self.ifindex, settings.mac),
            (&self.switch_end, self.switch_ifindex, mac),
        ];
        let (ipv4, ipv6) = (self.uses(false), self.uses(true));
        let mut changed = false;
        let mut links = Vec::new();
        for (name, ifindex, mac) in ends {
            match netlink.link(name)? {
                Some(link) if link.index == ifindex => links.push((link, mac)),
                _ => {
                    return Err(HostError::Lost {
                        device: name.clone(),
                    });
                }
            }
        }
        sysctl::forwarding(ipv4, ipv6)?;
        changed |= sysctl::links(&settings.device, &self.switch_end, ipv6)?;
        for (link, mac) in links {
            let change = LinkChange {
                up: (!link.up).then_some(true),
                mtu: (link.mtu != settings.mtu).then_some(settings.mtu),
                mac: (link.mac != Some(mac)).then_some(mac),
                transmit_queue: None,
            };
            if change != LinkChange::default() {
                netlink.set_link(link.index, &change)?;
                changed = true;
            }
        }
        let there = netlink.addresses(self.ifindex)?;
        for address in self.addresses() {
            if !there.contains(&address) {
                changed |= netlink.add_address(self.ifindex, address)?;
            }
        }
        for (gateway, used) in [
            (IpAddr::V4(settings.gateway), ipv4),
            (IpAddr::V6(settings.gateway6), ipv6),
        ] {
            if used {
                changed |= netlink.set_neighbour(self.ifindex, gateway, settings.gateway_mac)?;
            }
        }
        Ok(changed)
    }

    /// Whether an address family is in use: by the node, the settings or the plan.
    fn uses(&self, ipv6: bool) -> bool {
        let settings = &self.settings;
        let prefixes = settings.pod_cidrs.iter().chain(&settings.cluster_cidrs);
        let planned = self.plan.iter().flat_map(|plan| &plan.prefixes);
        let nodes = self.plan.iter().flat_map(|plan| &plan.nodes);
        let own = if ipv6 {
            settings.address6.is_some()
        } else {
            settings.address.is_some()
        };
        own || prefixes
            .chain(planned.map(|route| &route.prefix))
            .map(IpNet::addr)
            .chain(nodes.copied())
            .any(|address| address.is_ipv6() == ipv6)
    }

    /// The node's addresses, as the device has them: alone, for their networks are elsewhere.
    fn addresses(&self) -> Vec<IpNet> {
        let ipv4 = self.settings.address.map(IpAddr::V4);
        let ipv6 = self.settings.address6.map(IpAddr::V6);
        ipv4.into_iter().chain(ipv6).map(IpNet::from).collect()
    }
}

/// The name of the switch's end. Only letters that nft(8) and /proc/sys/net take as they are.
fn switch_end(device: &str) -> Result<String, HostError> {
    let name = format!("{device}{SWITCH_END_SUFFIX}");
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let good = !device.is_empty()
        && !matches!(device, "." | ".." | "all" | "default")
        && name.len() <= NAME_MAX
        && device.bytes().all(usual);
    good.then_some(name).ok_or_else(|| HostError::Name {
        device: device.to_owned(),
    })
}

/// The Ethernet address of the switch's end: not the gateway's. What comes there while the switch
/// is away is then another host's in the kernel's eyes (`PACKET_OTHERHOST`) and ends there.
fn switch_end_mac(settings: &HostSettings) -> MacAddr {
    let mut mac = settings.mac;
    let [.., last] = &mut mac.0;
    *last ^= 1;
    if mac == settings.gateway_mac {
        let [.., last] = &mut mac.0;
        *last ^= 2;
    }
    mac
}

/// The indexes of the pair when there is one, None when neither name is taken.
fn adopt(
    netlink: &mut Netlink,
    device: &str,
    switch_end: &str,
) -> Result<Option<(u32, u32)>, HostError> {
    let foreign = |name: &str, what: String| HostError::Foreign {
        device: name.to_owned(),
        what,
    };
    let link = netlink.link(device)?;
    let Some(link) = link else {
        return match netlink.link(switch_end)? {
            None => Ok(None),
            Some(other) => Err(foreign(
                switch_end,
                format!("{}, and there is no `{device}`", kind(&other)),
            )),
        };
    };
    if link.kind.as_deref() != Some("veth") {
        return Err(foreign(device, kind(&link)));
    }
    let other = netlink.link(switch_end)?.map(|other| other.index);
    match netlink.peer(link.index)? {
        Peer::Here(peer) if Some(peer) == other => Ok(Some((link.index, peer))),
        Peer::Elsewhere => Err(foreign(
            device,
            "its other end is in another network namespace".to_owned(),
        )),
        Peer::Here(_) | Peer::None => Err(foreign(
            device,
            format!("its other end is not called `{switch_end}`"),
        )),
    }
}

fn kind(link: &Link) -> String {
    match &link.kind {
        Some(kind) => format!("it is of the kind {kind}"),
        None => "it is a physical device".to_owned(),
    }
}

fn create(
    netlink: &mut Netlink,
    settings: &HostSettings,
    switch_end: &str,
) -> Result<(u32, u32), HostError> {
    let end = |name, mac| VethEnd {
        name,
        mac,
        mtu: settings.mtu,
    };
    netlink.create_veth(
        &end(&settings.device, settings.mac),
        &end(switch_end, switch_end_mac(settings)),
    )?;
    let mut index = |name: &str| -> Result<u32, HostError> {
        let link = netlink.link(name)?;
        link.map(|link| link.index).ok_or_else(|| HostError::Lost {
            device: name.to_owned(),
        })
    };
    Ok((index(&settings.device)?, index(switch_end)?))
}

#[cfg(test)]
mod tests;
