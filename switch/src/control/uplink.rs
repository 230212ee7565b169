//! The uplink comes, and comes back.

use shunt_api::{ApiError, ErrorCode, PortKind, PortSpec};

use super::daemon::Daemon;
use super::error::{refuse, system};
use super::path_mtu::FLOOR_V6;
use super::ports::{self, Opening, Record};
use super::underlay::Mirror;
use crate::config::UplinkConfig;
use crate::tables::Role;

impl Daemon {
    /// Attaches the uplink.
    pub(super) fn attach_uplink(&mut self, uplink: &UplinkConfig) -> Result<(), ApiError> {
        let link = self.link(&uplink.device)?;
        let ifindex = link.index;
        let addresses = self.netlink.addresses(ifindex).map_err(system)?;
        for own in self.own_addresses() {
            if addresses.iter().any(|net| net.addr() == own) {
                continue;
            }
            let key = if own == self.config.node.address {
                "node.address"
            } else {
                "node.address6"
            };
            return Err(refuse(
                ErrorCode::Invalid,
                format!(
                    "{} does not have {key} {own}: give it this address (ip addr add), or set \
                     {key} or uplink.device",
                    uplink.device
                ),
            ));
        }
        if let Some(kind @ ("bond" | "team")) = link.kind.as_deref() {
            return Err(refuse(
                ErrorCode::Invalid,
                format!(
                    "{}: the kernel hands AF_XDP no frames on a {kind} device: name one of its \
                     members as uplink.device",
                    uplink.device
                ),
            ));
        }
        let pinhole = self.pinhole();
        let opening = Opening {
            umem: &self.umem,
            pool: &mut self.pool,
            xdp: self.config.ports.xdp,
            ring: uplink.ring,
            rx_frames: uplink.rx_frames,
            adaptive: false,
            pinhole: Some(pinhole.clone()),
        };
        let opened = ports::open_afxdp(link, opening)?;
        let spec = PortSpec {
            name: ports::UPLINK.into(),
            kind: PortKind::Afxdp,
            device: uplink.device.clone(),
            rx_frames: Some(uplink.rx_frames),
            ..PortSpec::default()
        };
        let worker = self.ports.least_loaded(self.workers.len());
        self.ports.remove(ports::UPLINK);
        self.hand_over(spec, Role::Uplink, worker, opened)?;
        self.open_pinhole = Some(pinhole);
        self.mirror = Some(Mirror::new(ifindex, &mut self.netlink));
        self.commit()?;
        log::info!("uplink {} attached", uplink.device);
        self.warn_of_small_mtu();
        Ok(())
    }

    /// IPv6 between nodes needs what a small uplink cannot give.
    pub(super) fn warn_of_small_mtu(&self) {
        let pods = &self.config.node.pod_cidrs;
        if let Some(mtu) = self.remote_mtu()
            && mtu < u32::from(FLOOR_V6)
            && pods.iter().any(|cidr| cidr.addr().is_ipv6())
        {
            log::warn!(
                "the uplink leaves {mtu} bytes to packets between nodes, and IPv6 needs \
                 {FLOOR_V6}: raise its MTU"
            );
        }
    }

    /// Attaches the uplink again when its device, once lost, is back.
    pub(super) fn recover_uplink(&mut self) {
        let open = |record: &Record| record.slot.is_ok();
        if self.ports.uplink().is_some_and(open) || !self.may_recover() {
            return;
        }
        let Some(uplink) = self.config.uplink.clone() else {
            return;
        };
        match self.attach_uplink(&uplink) {
            Ok(()) => self.update_host(),
            Err(error) => log::warn!("uplink {}: {error}", uplink.device),
        }
    }
}
