//! Neighbours (ARP and NDP): `RTM_*NEIGH` of rtnetlink(7); net/core/neighbour.c.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use shunt_api::MacAddr;

use super::messages::{self, Message};
use super::{Netlink, NetlinkError};

/// Size of `struct ndmsg`: family, padding, interface index, state, flags, type.
const NDMSG: usize = 12;

/// What the kernel knows of an address on a link (`NUD_*`, include/uapi/linux/neighbour.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// Not asked for yet, or asked for and not answered.
    Incomplete,
    /// Confirmed not long ago.
    Reachable,
    /// Known, not confirmed for a while.
    Stale,
    /// Stale and in use: about to be probed.
    Delay,
    /// Being probed.
    Probe,
    /// Nobody answered.
    Failed,
    /// The link needs no resolution, such as `lo`.
    NoArp,
    /// Set by the administrator, for ever.
    Permanent,
}

impl NeighbourState {
    /// From `ndm_state`, in which one bit is set, or none for an entry just made (`NUD_NONE`).
    fn from_bits(state: u16) -> Self {
        match state {
            libc::NUD_REACHABLE => Self::Reachable,
            libc::NUD_STALE => Self::Stale,
            libc::NUD_DELAY => Self::Delay,
            libc::NUD_PROBE => Self::Probe,
            libc::NUD_FAILED => Self::Failed,
            libc::NUD_NOARP => Self::NoArp,
            libc::NUD_PERMANENT => Self::Permanent,
            _ => Self::Incomplete,
        }
    }

    /// True in the states in which the kernel itself sends to the link-layer address
    /// (`NUD_VALID`, include/net/neighbour.h).
    pub fn is_valid(self) -> bool {
        !matches!(self, Self::Incomplete | Self::Failed)
    }
}

/// An entry of the kernel's neighbour table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's index.
    pub ifindex: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address; in a state that is not valid an old one, or none.
    pub mac: Option<MacAddr>,
    /// How far the kernel trusts it.
    pub state: NeighbourState,
}

impl Neighbour {
    /// True when frames can be sent to `mac`.
    pub fn usable(&self) -> bool {
        self.state.is_valid() && self.mac.is_some()
    }

    /// Reads `RTM_NEWNEIGH` or `RTM_DELNEIGH`. None for other messages, for a bridge's or VXLAN's
    /// forwarding entries (family AF_BRIDGE) and for proxy entries.
    pub(super) fn parse(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH) {
            return None;
        }
        let family = i32::from(messages::u8_at(message.payload, 0)?);
        let flags = messages::u8_at(message.payload, 10)?;
        if !matches!(family, libc::AF_INET | libc::AF_INET6) || flags & libc::NTF_PROXY != 0 {
            return None;
        }
        let attribute = |kind| message.attribute(NDMSG, kind);
        Some(Self {
            ifindex: messages::u32_at(message.payload, 4)?,
            address: attribute(libc::NDA_DST).and_then(messages::address)?,
            mac: attribute(libc::NDA_LLADDR).and_then(messages::mac),
            state: NeighbourState::from_bits(messages::u16_at(message.payload, 8)?),
        })
    }
}

impl Netlink {
    /// The neighbours on the link with that index, IPv4 and IPv6, in any state.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn neighbours(&mut self, index: u32) -> Result<Vec<Neighbour>, NetlinkError> {
        let mut request = NeighbourMessage::default();
        request.attributes.push(NeighbourAttribute::IfIndex(index));
        let request = RouteNetlinkMessage::GetNeighbour(request);
        self.dump(
            &format!("RTM_GETNEIGH of link {index}"),
            &request,
            |message| Neighbour::parse(message).filter(|neighbour| neighbour.ifindex == index),
        )
    }

    /// The neighbour `address` on the link with that index; None when the kernel has no entry.
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENODEV without such a link.
    pub fn neighbour(
        &mut self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<Option<Neighbour>, NetlinkError> {
        let operation = format!("RTM_GETNEIGH {address} on link {ifindex}");
        let request = RouteNetlinkMessage::GetNeighbour(entry(ifindex, address));
        let mut found = None;
        match self.request(&operation, request, 0, |message| {
            found = found.take().or_else(|| Neighbour::parse(message));
        }) {
            Ok(()) => Ok(found),
            Err(error) if error.refusal() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the kernel find out or confirm the link-layer address of `address`, as if it had a
    /// packet to send there (`NTF_USE`). A missing or failed entry is asked for by broadcast. A
    /// stale one is probed at its old link-layer address, and fails if nobody answers there:
    /// call again then. One being asked for, fresh or permanent is left alone. Returns at once;
    /// the outcome arrives at a [`Monitor`](super::Monitor).
    ///
    /// # Errors
    /// See [`NetlinkError`]: ENODEV without such a link, EPERM without `CAP_NET_ADMIN`.
    pub fn resolve(&mut self, ifindex: u32, address: IpAddr) -> Result<(), NetlinkError> {
        // NTF_USE takes the permanence from an entry (`__neigh_update`, NEIGH_UPDATE_F_USE).
        let known = self.neighbour(ifindex, address)?;
        if known
            .is_some_and(|n| matches!(n.state, NeighbourState::Permanent | NeighbourState::NoArp))
        {
            return Ok(());
        }
        let mut request = entry(ifindex, address);
        request.header.flags = NeighbourFlags::Use;
        self.request(
            &format!("RTM_NEWNEIGH {address} on link {ifindex}"),
            RouteNetlinkMessage::NewNeighbour(request),
            // Without NLM_F_REPLACE: what is known of the neighbour stays.
            NLM_F_CREATE,
            |_| {},
        )
    }
}

fn entry(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = ifindex;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address.into()));
    message
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::testing::TestNetns;

    fn entry(netlink: &mut Netlink, index: u32, address: &str) -> Option<Neighbour> {
        let address: IpAddr = address.parse().unwrap();
        let found = netlink
            .neighbours(index)
            .unwrap()
            .into_iter()
            .find(|n| n.address == address);
        assert_eq!(
            netlink.neighbour(index, address).unwrap().is_some(),
            found.is_some()
        );
        found
    }

    fn wait_for(netlink: &mut Netlink, index: u32, address: &str, state: NeighbourState) {
        let deadline = Instant::now() + Duration::from_secs(8);
        loop {
            let found = entry(netlink, index, address);
            if found.as_ref().is_some_and(|n| n.state == state) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{address} is {found:?}, not {state:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_dump_reads_states_and_addresses() {
        let netns = TestNetns::new();
        for link in ["d0", "d1"] {
            netns.link(link, "");
            netns.ip(&format!("link set {link} up"));
        }
        netns.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev d0 nud permanent");
        netns.ip("neigh add 10.0.0.3 lladdr 02:00:00:00:00:03 dev d0 nud stale");
        netns.ip("neigh add 10.0.0.4 dev d0 nud failed");
        netns.ip("neigh add 10.0.0.5 lladdr 02:00:00:00:00:05 dev d1 nud permanent");
        netns.ip("neigh add proxy 10.0.0.6 dev d0");
        let mut netlink = netns.run(Netlink::open).unwrap();
        let index = netlink.link("d0").unwrap().unwrap().index;
        assert_eq!(netlink.neighbours(index).unwrap().len(), 3);

        let permanent = entry(&mut netlink, index, "10.0.0.2").unwrap();
        assert_eq!(permanent.state, NeighbourState::Permanent);
        assert_eq!(permanent.mac, Some(MacAddr([2, 0, 0, 0, 0, 2])));
        assert!(permanent.usable());
        let stale = entry(&mut netlink, index, "10.0.0.3").unwrap();
        assert_eq!((stale.state, stale.usable()), (NeighbourState::Stale, true));
        let failed = entry(&mut netlink, index, "10.0.0.4").unwrap();
        assert_eq!(
            (failed.state, failed.usable()),
            (NeighbourState::Failed, false)
        );
    }

    #[test]
    fn resolve_makes_the_kernel_ask_and_learn() {
        let (a, _b) = TestNetns::veth_pair();
        let mut netlink = a.run(Netlink::open).unwrap();
        let index = netlink.link("v0").unwrap().unwrap().index;
        assert_eq!(entry(&mut netlink, index, "10.9.0.2"), None);
        netlink.resolve(index, "10.9.0.2".parse().unwrap()).unwrap();
        wait_for(&mut netlink, index, "10.9.0.2", NeighbourState::Reachable);
        let found = entry(&mut netlink, index, "10.9.0.2").unwrap();
        assert_eq!(found.mac, Some(MacAddr([2, 0, 0, 0, 0, 2])));
        assert!(found.usable());
    }

    #[test]
    fn resolve_confirms_a_stale_entry_and_corrects_a_wrong_one() {
        let (a, _b) = TestNetns::veth_pair();
        a.command(
            "sysctl",
            &["-qw", "net.ipv4.neigh.v0.delay_first_probe_time=0"],
        );
        a.ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev v0 nud stale");
        let mut netlink = a.run(Netlink::open).unwrap();
        let index = netlink.link("v0").unwrap().unwrap().index;
        netlink.resolve(index, "10.9.0.2".parse().unwrap()).unwrap();
        wait_for(&mut netlink, index, "10.9.0.2", NeighbourState::Reachable);

        a.ip("neigh replace 10.9.0.2 lladdr 02:00:00:00:00:99 dev v0 nud stale");
        netlink.resolve(index, "10.9.0.2".parse().unwrap()).unwrap();
        wait_for(&mut netlink, index, "10.9.0.2", NeighbourState::Failed);
        netlink.resolve(index, "10.9.0.2".parse().unwrap()).unwrap();
        wait_for(&mut netlink, index, "10.9.0.2", NeighbourState::Reachable);
        let found = entry(&mut netlink, index, "10.9.0.2").unwrap();
        assert_eq!(found.mac, Some(MacAddr([2, 0, 0, 0, 0, 2])));
    }

    #[test]
    fn resolve_leaves_a_permanent_entry_alone() {
        let (a, _b) = TestNetns::veth_pair();
        a.ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:99 dev v0 nud permanent");
        let mut netlink = a.run(Netlink::open).unwrap();
        let index = netlink.link("v0").unwrap().unwrap().index;
        let before = entry(&mut netlink, index, "10.9.0.2").unwrap();
        netlink.resolve(index, "10.9.0.2".parse().unwrap()).unwrap();
        assert_eq!(entry(&mut netlink, index, "10.9.0.2").unwrap(), before);
    }

    #[test]
    fn resolve_of_an_absent_neighbour_fails_and_can_be_tried_again() {
        let (a, b) = TestNetns::veth_pair();
        a.command("sysctl", &["-qw", "net.ipv4.neigh.v0.retrans_time_ms=50"]);
        let mut netlink = a.run(Netlink::open).unwrap();
        let index = netlink.link("v0").unwrap().unwrap().index;
        let address = "10.9.0.3".parse().unwrap();
        netlink.resolve(index, address).unwrap();
        let asked = entry(&mut netlink, index, "10.9.0.3").unwrap();
        assert_eq!(
            (asked.state, asked.usable()),
            (NeighbourState::Incomplete, false)
        );
        wait_for(&mut netlink, index, "10.9.0.3", NeighbourState::Failed);
        b.ip("addr add 10.9.0.3/24 dev v1");
        netlink.resolve(index, address).unwrap();
        wait_for(&mut netlink, index, "10.9.0.3", NeighbourState::Reachable);
    }

    #[test]
    fn resolve_on_no_link_is_refused_with_a_reason() {
        let netns = TestNetns::new();
        let mut netlink = netns.run(Netlink::open).unwrap();
        let error = netlink
            .resolve(4711, "10.0.0.1".parse().unwrap())
            .unwrap_err();
        assert_eq!(error.refusal(), Some(libc::ENODEV), "{error}");
        assert!(
            error.to_string().contains("10.0.0.1 on link 4711"),
            "{error}"
        );
    }
}
