//! A pod is attached.

use ipnet::IpNet;
use shunt_api::{ApiError, AttachmentKey, ErrorCode, PodInfo, PodSpec, Reply, Request};

use super::admission::{Room, admit};
use super::plan;
use super::store::Stored;
use super::threads::{BuildJob, ReapJob};
use super::{Making, Phase, Place, Removing, Standing};
use crate::control::attach::for_ports;
use crate::control::daemon::Daemon;
use crate::control::error::{refuse, system};
use crate::control::ports;
use crate::control::server::Asker;
use crate::podlink::{self, NetnsId, PodLink};

impl Daemon {
    /// Answers [`Request::PodAttach`]; `None` when the answer comes later.
    pub(in crate::control) fn pod_attach(
        &mut self,
        asker: Asker,
        spec: Box<PodSpec>,
    ) -> Result<Option<Reply>, ApiError> {
        plan::check(&spec)?;
        self.drain_queue();
        let netns = namespace(&spec)?;
        if let Some(on) = self.still_busy(&spec.key, Some(&(netns, spec.key.ifname.clone())))? {
            let request = Request::PodAttach(spec);
            self.attachments.put_off(on, asker, request);
            return Ok(None);
        }
        let frames = ports::frames_needed(spec.kind, self.config.ports.rx_frames);
        admit(&spec.key.to_string(), self.room(), frames)?;
        let stored = self.planned(*spec, netns);
        self.check_new_pod(&stored)?;
        let job = BuildJob::Build {
            stored: Box::new(stored.clone()),
            gateway_mac: self.config.gateway.mac,
        };
        self.attachments.threads.build(job)?;
        let making = Making {
            asker,
            frames,
            cancelled: false,
            stored: Box::new(stored),
        };
        let key = making.stored.key().clone();
        self.attachments.phases.insert(key, Phase::Making(making));
        Ok(None)
    }

    /// See [`Attachments::busy`](super::Attachments::busy); one that vanished is collected first.
    pub(super) fn still_busy(
        &mut self,
        key: &AttachmentKey,
        place: Option<&Place>,
    ) -> Result<Option<AttachmentKey>, ApiError> {
        if let Some(Phase::Standing(standing)) = self.attachments.phases.get(key)
            && let Some(why) = gone(&standing.stored)
        {
            self.collect(key, why);
        }
        let busy = self.attachments.busy(key, place)?.cloned();
        if busy.as_ref() == Some(key) {
            self.release_now(key);
        }
        Ok(busy)
    }

    /// What there is to give, with those under way taken off.
    fn room(&self) -> Room {
        let making: Vec<u32> = self.attachments.making().map(|m| m.frames).collect();
        let taken = self.set_aside();
        Room {
            ports: self.ports.len(),
            under_way: making.len(),
            max_ports: self.config.ports.max,
            reserved: making.iter().fold(taken, |sum, n| sum.saturating_add(*n)),
            frames: for_ports(&self.umem),
        }
    }

    fn planned(&self, spec: PodSpec, netns: NetnsId) -> Stored {
        // All AF_XDP ports share the packet memory, which says what they take.
        let open = self.ports.iter().filter(|record| record.slot.is_ok());
        let largest = open.map(|record| record.max_mtu).max();
        let uplink = self.ports.uplink().map(|record| record.mtu);
        let mtu = plan::mtu(spec.mtu, uplink, largest.unwrap_or(u16::MAX));
        let mac = spec.mac.unwrap_or_else(|| {
            plan::random_mac(|mac| {
                let making = self.attachments.making();
                mac == self.config.gateway.mac
                    || self.ports.iter().any(|record| record.spec.mac == Some(mac))
                    || making.map(|m| m.stored.mac).any(|other| other == mac)
            })
        });
        let addresses: Vec<_> = spec.addresses.iter().map(IpNet::addr).collect();
        let told = self.attachment(&addresses, u16::try_from(mtu).unwrap_or(u16::MAX));
        let cidrs = &self.config.node.pod_cidrs;
        plan::stored(spec, netns, self.config.mode, mac, &told, cidrs)
    }

    /// Refuses a pod whose port, addresses or MAC another has, or is about to have.
    fn check_new_pod(&self, stored: &Stored) -> Result<(), ApiError> {
        let key = stored.key();
        let port = plan::port_spec(stored);
        self.check_new(&port)
            .map_err(|error| refuse(error.code, format!("pod {key}: {}", error.message)))?;
        for other in self.attachments.making() {
            let theirs = &other.stored;
            let mut addresses = theirs.addresses.iter().map(IpNet::addr);
            let shared = addresses.find(|address| port.addresses.contains(address));
            let what = match shared {
                Some(address) => address.to_string(),
                None if theirs.mac == stored.mac => stored.mac.to_string(),
                None => continue,
            };
            return Err(refuse(
                ErrorCode::Exists,
                format!("pod {key}: {what} is being given to pod {}", theirs.key()),
            ));
        }
        Ok(())
    }

    /// The builder is done with a pod's interface.
    pub(super) fn pod_built(&mut self, key: &AttachmentKey, outcome: Result<PodLink, ApiError>) {
        let Some(Phase::Making(making)) = self.attachments.phases.remove(key) else {
            log::error!("pod {key}: built, and nobody asked");
            return;
        };
        let Making {
            asker,
            stored,
            cancelled,
            ..
        } = making;
        let link = match outcome {
            Ok(link) => link,
            Err(error) => {
                log::warn!("pod {key}: {error}");
                self.attachments.reply(asker, Reply::Error(error));
                self.phase_over(key);
                return;
            }
        };
        let joined = match cancelled {
            true => Err(self.abandon(key, link)),
            false => self.join_pod(&stored, link),
        };
        match joined {
            Ok(info) => {
                log::info!("pod {key} attached by port {}", stored.host_device);
                let name = stored.host_device.clone();
                self.attachments.threads.reap(ReapJob::Sync(name));
                // What an earlier one had left is replaced.
                self.attachments.unremoved.remove(key);
                let standing = Standing {
                    stored,
                    trouble: None,
                };
                let phases = &mut self.attachments.phases;
                phases.insert(key.clone(), Phase::Standing(standing));
                self.attachments.reply(asker, Reply::Pod(Box::new(info)));
            }
            Err(error) => {
                log::warn!("pod {key}: {error}");
                let removing = Removing {
                    place: place(&stored),
                    veth: None,
                    then: Some((asker, error)),
                };
                self.attachments.remove(key.clone(), removing);
            }
        }
    }

    /// What was made for a pod that nobody wants any more.
    fn abandon(&mut self, key: &AttachmentKey, link: PodLink) -> ApiError {
        if let Some(tap) = link.tap {
            let port = crate::port::Port::Tap(tap);
            self.attachments.threads.reap(ReapJob::Close(port));
        }
        system(format!(
            "pod {key} was detached while it was being attached"
        ))
    }

    /// Opens the port of a pod's interface and has its record stand.
    fn join_pod(&mut self, stored: &Stored, link: PodLink) -> Result<PodInfo, ApiError> {
        self.open_pod(stored, link)?;
        let name = &stored.host_device;
        let committed = match self.ports.by_name(name).map(|record| record.max_mtu) {
            Some(max) if stored.mtu > u32::from(max) => Err(refuse(
                ErrorCode::Invalid,
                format!(
                    "pod {}: mtu: {} bytes are more than the {max} that its port takes: write \
                     less, or raise memory.frame_size",
                    stored.key(),
                    stored.mtu
                ),
            )),
            _ => self.attachments.store.commit(name),
        };
        if let Err(error) = committed {
            if let Err(also) = self.remove_port(name) {
                log::error!("port {name} cannot be removed again: {also}");
            }
            return Err(error);
        }
        Ok(self.pod_info(stored, self.pod_state(stored)))
    }

    /// Opens a port on a pod's interface. On an error nothing has changed, but a TAP is gone.
    pub(super) fn open_pod(&mut self, stored: &Stored, link: PodLink) -> Result<(), ApiError> {
        let spec = plan::port_spec(stored);
        self.check_new(&spec)?;
        let opened = match link.tap {
            Some(tap) => ports::opened_tap(tap, &spec.device),
            None => self.open_on(&spec, link.link)?,
        };
        self.attach(spec, opened).map(drop)
    }
}

/// Which namespace the pod is in.
fn namespace(spec: &PodSpec) -> Result<NetnsId, ApiError> {
    let path = spec.netns.display();
    match podlink::netns_id(&spec.netns) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(refuse(
            ErrorCode::NotFound,
            format!("pod {}: there is no network namespace {path}", spec.key),
        )),
        Err(error) => Err(system(format!("pod {}: {path}: {error}", spec.key))),
    }
}

/// Where its interface is.
pub(super) fn place(stored: &Stored) -> Option<Place> {
    Some((stored.netns_id?, stored.key().ifname.clone()))
}

/// Why a pod's namespace is no longer the one it was attached in; `None` while it is, or when that
/// cannot be told.
pub(super) fn gone(stored: &Stored) -> Option<&'static str> {
    let then = stored.netns_id?;
    match podlink::netns_id(&stored.spec.netns) {
        Ok(Some(now)) if now == then => None,
        Ok(_) => Some("its network namespace is gone"),
        Err(error) => {
            log::debug!("{}: {error}", stored.spec.netns.display());
            None
        }
    }
}
