//! The ports there are, and opening and closing them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use shunt_afxdp::{Device, DeviceConfig, ModeChoice, Pinhole, Pool, ProgramKind, Umem, XdpMode};
use shunt_api::{ApiError, ErrorCode, MacAddr, PortKind, PortSpec};

use super::error::{refuse, system};
use crate::config;
use crate::netlink::Link;
use crate::port::{Port, TapPort};
use crate::tables::{DomainId, PortEntry, PortId, Role};

/// Frames that a port may hold on their way out, beside those kept for reception.
const TX_RESERVE: u32 = 128;

/// A port and what it was attached with.
pub(crate) struct Record {
    pub(crate) spec: PortSpec,
    pub(crate) role: Role,
    pub(crate) worker: usize,
    pub(crate) ifindex: u32,
    /// The device's own MAC address (uplink: the source of what we send).
    pub(crate) device_mac: MacAddr,
    pub(crate) mtu: u16,
    pub(crate) xdp: String,
    pub(crate) partial_checksums: bool,
    pub(crate) fdb_full: Arc<AtomicBool>,
    /// Stations learned behind it.
    pub(crate) stations: usize,
    /// Its slot while it is open; without one, why not.
    pub(crate) slot: Result<PortId, String>,
}

impl Record {
    pub(crate) fn entry(&self) -> PortEntry {
        PortEntry {
            role: self.role,
            worker: self.worker,
            domain: DomainId(0),
            mtu: self.mtu,
            partial_checksums: self.partial_checksums,
            fdb_full: Arc::clone(&self.fdb_full),
        }
    }

    /// Frames of the pool that are set aside for it.
    pub(crate) fn reserved(&self, default: u32) -> u32 {
        if self.slot.is_err() || self.spec.kind == PortKind::Memory {
            return 0;
        }
        self.spec.rx_frames.unwrap_or(default) + TX_RESERVE
    }
}

/// All ports, by slot order of attachment.
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

    pub(crate) fn by_id(&self, id: PortId) -> Option<&Record> {
        self.records.iter().find(|record| record.slot == Ok(id))
    }

    pub(crate) fn by_id_mut(&mut self, id: PortId) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.slot == Ok(id))
    }

    /// The open port on a kernel interface.
    pub(crate) fn by_ifindex(&self, ifindex: u32) -> Option<&Record> {
        self.records
            .iter()
            .find(|record| record.ifindex == ifindex && record.slot.is_ok())
    }

    pub(crate) fn uplink(&self) -> Option<&Record> {
        self.records
            .iter()
            .find(|record| record.role == Role::Uplink)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many slots were ever used: the length of tables indexed by slot.
    pub(crate) fn slots(&self) -> usize {
        usize::from(self.slots)
    }

    pub(crate) fn take_slot(&mut self) -> Option<PortId> {
        // Half of the slots in use at most pass before one is reused.
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
    /// The uplink's pinhole; `None` for a pod's port.
    pub(crate) pinhole: Option<Pinhole>,
}

/// Opens an AF_XDP port on `link`. Returns it with the mode in words.
pub(crate) fn open_afxdp(link: &Link, opening: Opening<'_>) -> Result<(Port, String), ApiError> {
    let room = opening.umem.chunk_size() - opening.umem.headroom();
    let device = Device::open(
        opening.umem,
        DeviceConfig {
            name: link.name.clone(),
            rx_size: opening.ring,
            tx_size: opening.ring,
            fill_size: opening.ring,
            completion_size: opening.ring,
            rx_frames: opening.rx_frames,
            multi_buffer: link.mtu as usize + shunt_encap::ethernet::HEADER_LEN > room,
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
    let mode = match device.mode() {
        XdpMode::Native => "native".to_owned(),
        XdpMode::Skb => match device.fallback_reason() {
            Some(reason) => {
                log::warn!("{}: XDP in SKB mode, which is slower: {reason}", link.name);
                "skb".to_owned()
            }
            None => "skb".to_owned(),
        },
    };
    Ok((Port::Afxdp(Box::new(device)), mode))
}

/// Creates a TAP port.
pub(crate) fn open_tap(spec: &PortSpec) -> Result<TapPort, ApiError> {
    TapPort::open(&spec.device, spec.netns.as_deref(), None).map_err(system)
}

/// Refuses a port that is wrong by itself or does not fit in with those there are.
pub(crate) fn check(
    ports: &Ports,
    spec: &PortSpec,
    config: &config::Config,
) -> Result<(), ApiError> {
    let name = &spec.name;
    faults(&format!("port `{name}`"), &config.check_port(spec))?;
    if ports.by_name(name).is_some() {
        return Err(refuse(
            ErrorCode::Exists,
            format!("port `{name}` exists already: remove it first (shunt port del {name})"),
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

/// The IPv4 addresses of a port; [`check`] lets no others through.
pub(crate) fn addresses(spec: &PortSpec) -> Vec<Ipv4Addr> {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    };
    spec.addresses.iter().filter_map(v4).collect()
}
