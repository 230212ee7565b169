//! The ports there are, and opening and closing them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use shunt_afxdp::{Device, DeviceConfig, ModeChoice, Pinhole, Pool, ProgramKind, Umem, XdpMode};
use shunt_api::{ApiError, ErrorCode, MacAddr, PortKind, PortSpec};

use shunt_encap::ethernet::HEADER_LEN;

use super::error::{refuse, system};
use crate::config;
use crate::netlink::Link;
use crate::port::{Port, TapPort};
use crate::tables::{DomainId, Guard, PortEntry, PortId, Role};

/// Frames set aside for a port on their way out, beside those kept for reception. Few, because in
/// copy mode the kernel copies a frame in the system call that transmits it (`xsk_build_skb` in
/// `net/xdp/xsk.c`) and gives it back when the receiver's stack has taken the copy, most often
/// before the call returns. What waits for a slow receiver is of the workers' reserve.
pub(crate) const TX_RESERVE: u32 = 8;

/// The name of the uplink's port.
pub(crate) const UPLINK: &str = "uplink";
/// The name of the port to the node's stack.
pub(crate) const HOST: &str = "host";

/// A port and what it was attached with.
pub(crate) struct Record {
    pub(crate) spec: PortSpec,
    pub(crate) role: Role,
    pub(crate) worker: usize,
    pub(crate) ifindex: u32,
    /// The device's own MAC address (uplink: the source of what we send; TAP: the pod's).
    pub(crate) device_mac: Option<MacAddr>,
    /// Whether the device is set up.
    pub(crate) up: bool,
    pub(crate) mtu: u16,
    /// The largest MTU that it can serve as it was opened.
    pub(crate) max_mtu: u16,
    pub(crate) xdp: String,
    pub(crate) partial_checksums: bool,
    /// What may come from it.
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) fdb_full: Arc<AtomicBool>,
    /// Stations learned behind it.
    pub(crate) stations: usize,
    /// Frames of the pool that are set aside for it.
    pub(crate) frames: u32,
    /// Its slot while it is open; without one, why not.
    pub(crate) slot: Result<PortId, String>,
}

impl Record {
    /// Its slot while it is open.
    pub(crate) fn id(&self) -> Option<PortId> {
        self.slot.as_ref().ok().copied()
    }

    /// `up`, or why not.
    pub(crate) fn state(&self) -> String {
        match &self.slot {
            Ok(_) if self.up => "up".to_owned(),
            Ok(_) => format!("down: ip link set {} up", self.spec.device),
            Err(why) => why.clone(),
        }
    }

    pub(crate) fn entry(&self) -> PortEntry {
        PortEntry {
            role: self.role,
            worker: self.worker,
            domain: DomainId(0),
            mtu: self.mtu,
            mac: self.device_mac.filter(|_| self.role == Role::Uplink),
            partial_checksums: self.partial_checksums,
            fdb_full: Arc::clone(&self.fdb_full),
            guard: self.guard.clone(),
        }
    }
}

/// All ports, in the order of their attachment.
#[derive(Default)]
pub(crate) struct Ports {
    records: Vec<Record>,
    slots: u16,
    /// Slots to reuse, oldest first, so that a late frame seldom meets a new port.
    free: std::collections::VecDeque<PortId>,
}

impl Ports {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.spec.name == name)
    }

    pub(crate) fn by_name_mut(&mut self, name: &str) -> Option<&mut Record> {
        self.records
            .iter_mut()
            .find(|record| record.spec.name == name)
    }

    pub(crate) fn by_id(&self, id: PortId) -> Option<&Record> {
        self.records.iter().find(|record| record.slot == Ok(id))
    }

    pub(crate) fn by_id_mut(&mut self, id: PortId) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.slot == Ok(id))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.records.iter_mut()
    }

    /// The open port on a kernel interface.
    pub(crate) fn by_ifindex_mut(&mut self, ifindex: u32) -> Option<&mut Record> {
        self.records
            .iter_mut()
            .find(|record| record.ifindex == ifindex && record.slot.is_ok())
    }

    pub(crate) fn uplink(&self) -> Option<&Record> {
        self.by_role(Role::Uplink)
    }

    /// The port to the node's stack.
    pub(crate) fn host(&self) -> Option<&Record> {
        self.by_role(Role::Host)
    }

    fn by_role(&self, role: Role) -> Option<&Record> {
        self.records.iter().find(|record| record.role == role)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many slots were ever used: the length of tables indexed by slot.
    pub(crate) fn slots(&self) -> usize {
        usize::from(self.slots)
    }

    pub(crate) fn take_slot(&mut self) -> Option<PortId> {
        // A slot rests until sixteen more have been given back.
        if self.free.len() > 16 || self.slots == u16::MAX {
            return self.free.pop_front();
        }
        let id = PortId(self.slots);
        self.slots += 1;
        Some(id)
    }

    pub(crate) fn give_slot(&mut self, id: PortId) {
        self.free.push_back(id);
    }

    pub(crate) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.records.retain(|record| record.spec.name != name);
    }

    /// The worker with the fewest ports.
    pub(crate) fn least_loaded(&self, workers: usize) -> usize {
        (0..workers)
            .min_by_key(|worker| self.records.iter().filter(|r| r.worker == *worker).count())
            .unwrap_or(0)
    }
}

/// How a port is opened.
pub(crate) struct Opening<'a> {
    pub(crate) umem: &'a Arc<Umem>,
    pub(crate) pool: &'a mut Pool,
    pub(crate) xdp: config::XdpMode,
    pub(crate) ring: u32,
    pub(crate) rx_frames: u32,
    /// Whether it may borrow more of them while it is busy.
    pub(crate) adaptive: bool,
    /// The uplink's pinhole; `None` for other ports.
    pub(crate) pinhole: Option<Pinhole>,
}

/// A port that was opened, on its way into the tables.
pub(crate) struct Opened {
    pub(crate) port: Port,
    pub(crate) link: Link,
    /// The XDP mode in words.
    pub(crate) xdp: String,
    /// Frames of the pool to set aside.
    pub(crate) frames: u32,
    pub(crate) max_mtu: u16,
}

/// Opens an AF_XDP port on `link`.
pub(crate) fn open_afxdp(link: Link, opening: Opening<'_>) -> Result<Opened, ApiError> {
    let room = opening.umem.chunk_size() - opening.umem.headroom() - HEADER_LEN;
    let device = Device::open(
        opening.umem,
        DeviceConfig {
            name: link.name.clone(),
            rx_size: opening.ring,
            tx_size: opening.ring,
            fill_size: opening.ring,
            completion_size: opening.ring,
            rx_frames: opening.rx_frames,
            adaptive: opening.adaptive,
            program: match opening.pinhole {
                Some(pinhole) => ProgramKind::Uplink(pinhole),
                None => ProgramKind::Pod,
            },
            mode: match opening.xdp {
                config::XdpMode::Auto => ModeChoice::Auto,
                config::XdpMode::Native => ModeChoice::Native,
                config::XdpMode::Skb => ModeChoice::Skb,
            },
        },
        opening.pool,
    )
    .map_err(system)?;
    if let Some(reason) = device.fallback_reason() {
        log::warn!("{}: XDP in SKB mode, which is slower: {reason}", link.name);
    }
    if device.mode() == XdpMode::Skb && link.kind.as_deref() == Some("veth") {
        log::warn!(
            "{}: in SKB mode the pod's large TCP segments are not split: turn them off in the pod \
             (ethtool -K eth0 tso off gso off)",
            link.name
        );
    }
    let xdp = match device.mode() {
        XdpMode::Native => "native",
        XdpMode::Skb => "skb",
    };
    let multi_buffer = device.multi_buffer();
    // The kernel gives each queue of the device its own rings.
    let queues = u32::try_from(device.queues()).unwrap_or(u32::MAX);
    Ok(Opened {
        port: Port::Afxdp(Box::new(device)),
        link,
        xdp: xdp.to_owned(),
        frames: opening
            .rx_frames
            .saturating_mul(queues)
            .saturating_add(TX_RESERVE),
        max_mtu: if multi_buffer {
            u16::MAX
        } else {
            u16::try_from(room).unwrap_or(u16::MAX)
        },
    })
}

/// Creates a TAP port.
pub(crate) fn open_tap(spec: &PortSpec) -> Result<Opened, ApiError> {
    let tap = TapPort::open(&spec.device, spec.netns.as_deref(), None).map_err(system)?;
    Ok(opened_tap(tap, &spec.device))
}

/// A TAP as a port.
pub(crate) fn opened_tap(tap: TapPort, device: &str) -> Opened {
    let link = Link {
        // Its device may be in another namespace: the number would mean nothing here.
        index: 0,
        name: device.to_owned(),
        mac: tap.mac(),
        mtu: tap.mtu(),
        up: true,
        running: true,
        kind: Some("tun".into()),
    };
    Opened {
        port: Port::Tap(tap),
        link,
        xdp: "-".to_owned(),
        frames: TX_RESERVE,
        max_mtu: u16::MAX,
    }
}

/// Frames of the pool that a pod's port is to have: of one queue, as the veths that the switch
/// makes.
pub(crate) fn frames_needed(kind: PortKind, rx_frames: u32) -> u32 {
    match kind {
        PortKind::Tap => TX_RESERVE,
        _ => rx_frames.saturating_add(TX_RESERVE),
    }
}

/// The MTU to serve a link with, in bytes.
pub(crate) fn mtu(link: &Link, max: u16) -> u16 {
    let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
    if mtu > max {
        log::warn!(
            "{}: MTU {mtu}, but the port was opened for {max} at most: larger packets are dropped \
             until it is removed and added again",
            link.name
        );
    }
    mtu.min(max)
}

/// Refuses a port that is wrong by itself or does not fit in with those there are.
pub(crate) fn check(
    ports: &Ports,
    spec: &PortSpec,
    config: &config::Config,
) -> Result<(), ApiError> {
    let name = &spec.name;
    faults(&format!("port `{name}`"), &config.check_port(spec))?;
    if ports.by_name(name).is_some() || (name == HOST && config.host.is_some()) {
        return Err(refuse(
            ErrorCode::Exists,
            format!("port `{name}` exists already: remove it first (shunt port del {name})"),
        ));
    }
    if let Some(mac) = spec.mac
        && let Some(other) = ports
            .iter()
            .find(|r| r.slot.is_ok() && r.spec.mac == Some(mac))
    {
        return Err(refuse(
            ErrorCode::Exists,
            format!(
                "port `{name}`: {mac} is the MAC of port `{}` already",
                other.spec.name
            ),
        ));
    }
    let device = &spec.device;
    let same =
        |r: &&Record| r.slot.is_ok() && r.spec.device == *device && r.spec.netns == spec.netns;
    if let Some(other) = ports.iter().find(same) {
        return Err(refuse(
            ErrorCode::Exists,
            format!("device {device} is port `{}` already", other.spec.name),
        ));
    }
    if ports.len() >= config.ports.max {
        return Err(refuse(
            ErrorCode::Exhausted,
            format!("all {} ports are in use: raise ports.max", config.ports.max),
        ));
    }
    Ok(())
}

/// Refuses `what` when anything is wrong with it, naming all of it.
pub(crate) fn faults(what: &str, faults: &[config::Fault]) -> Result<(), ApiError> {
    if faults.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = faults.iter().map(ToString::to_string).collect();
    Err(refuse(
        ErrorCode::Invalid,
        format!("{what}: {}", list.join("; ")),
    ))
}
