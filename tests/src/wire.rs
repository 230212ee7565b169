//! The underlay: veth cables from every node to one bridge, which plays the physical switch.
//!
//! The bridge has a namespace of its own for the sake of captures: an AF_XDP socket sends past
//! the taps of its own device (`__dev_direct_xmit`, net/core/dev.c) and an XDP program takes
//! frames before the taps, so tcpdump on a node's own `eth0` sees nothing. At the other end of
//! the cable it sees all.

use anyhow::Result;

use crate::netns::Netns;

/// The namespace with the underlay's bridge `br0` and a port `pN` per node N.
#[derive(Debug)]
pub struct Wire {
    /// Where the bridge lives.
    pub netns: Netns,
    mtu: u32,
}

impl Wire {
    /// Makes the bridge; `mtu` in bytes is the largest IP packet of the underlay.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(netns: Netns, mtu: u32) -> Result<Self> {
        netns.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        netns.ip(&format!("link set br0 mtu {mtu} up"))?;
        // A physical switch looks at no IP header. The key is there when br_netfilter is.
        if std::path::Path::new("/proc/sys/net/bridge").exists() {
            netns.sysctl("net.bridge.bridge-nf-call-iptables", "0")?;
        }
        Ok(Self { netns, mtu })
    }

    /// The largest IP packet of the underlay in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Runs a cable from bridge port `p{index}` to a new `eth0` in `node`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cable(&self, node: &Netns, index: u8) -> Result<()> {
        let port = format!("p{index}");
        veth((&self.netns, &port), (node, "eth0"), self.mtu)?;
        self.netns.ip(&format!("link set {port} master br0"))?;
        Ok(())
    }
}

/// Makes a veth pair, each end in its namespace, both up; `mtu` in bytes. It goes with either
/// namespace.
///
/// # Errors
/// When a name is taken or the kernel refuses.
pub fn veth(a: (&Netns, &str), b: (&Netns, &str), mtu: u32) -> Result<()> {
    a.0.ip(&format!(
        "link add {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
        a.1,
        b.1,
        b.0.name()
    ))?;
    a.0.ip(&format!("link set {} up", a.1))?;
    b.0.ip(&format!("link set {} up", b.1))?;
    Ok(())
}
