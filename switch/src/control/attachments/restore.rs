//! Attachments at a start.

use std::collections::BTreeSet;

use shunt_api::{ApiError, PodSpec};

use super::attach::gone;
use super::reconcile::{Step, decide};
use super::store::{Loaded, Stored};
use super::{Phase, Removing, Standing};
use crate::control::daemon::Daemon;
use crate::control::error::system;
use crate::netlink::Link;
use crate::podlink::{self, FoundLink, PodLink};

impl Daemon {
    /// Brings disk and kernel together. What cannot be read is told and left: the daemon serves
    /// what it can.
    pub(in crate::control) fn restore_attachments(&mut self) {
        let loaded = self.attachments.store.load().unwrap_or_else(|error| {
            log::error!("{error}");
            Loaded::default()
        });
        for (file, why) in &loaded.damaged {
            log::error!(
                "an attachment's record is damaged: {why}; it is now {}; what it was about is read \
                 from the kernel",
                file.display()
            );
        }
        let found = podlink::found(&mut self.netlink)
            .inspect_err(|error| log::error!("the pods' interfaces cannot be read: {error}"))
            .ok();
        let waiting = self.attachments.queue.waiting().unwrap_or_default();
        let queued: BTreeSet<_> = waiting.into_iter().filter_map(|q| q.key).collect();
        let (mut adopted, mut failed) = (0_usize, 0_usize);
        for step in decide(loaded, found, &queued, gone) {
            match step {
                Step::Remove(key) => {
                    log::info!("pod {key}: what is left of it is removed");
                    // It is told of and remembered there.
                    let _ = self.attachments.remove_record(&key, true);
                    let removing = Removing {
                        place: None,
                        veth: None,
                        then: None,
                    };
                    self.attachments.remove(key, removing);
                }
                Step::Release(stored, why) => {
                    log::warn!("pod {} is gone: {why}", stored.key());
                    self.begin_release(stored, why);
                }
                Step::Wait(stored) => {
                    let key = stored.key().clone();
                    let trouble = Some("its interface could not be read at the start".to_owned());
                    let standing = Standing { stored, trouble };
                    let phases = &mut self.attachments.phases;
                    phases.insert(key, Phase::Standing(standing));
                    failed += 1;
                }
                Step::Forget(name) => {
                    // Without owner it matters to nobody, and the next start tries again.
                    if let Err(error) = self.attachments.store.forget(&name) {
                        log::warn!("{error}");
                    }
                }
                Step::Adopt(stored, link) => match self.stand(stored, link) {
                    true => adopted += 1,
                    false => failed += 1,
                },
                Step::Believe(found) => match self.believe(found) {
                    true => adopted += 1,
                    false => failed += 1,
                },
            }
        }
        if adopted + failed > 0 {
            log::info!("{adopted} pods adopted, {failed} to be tried again");
        }
        self.drain_queue();
    }

    /// Has an attachment stand, with a port if that is possible now.
    fn stand(&mut self, stored: Box<Stored>, link: Option<Link>) -> bool {
        let key = stored.key().clone();
        let trouble = self.adopt(&stored, link).err().map(|error| error.message);
        if let Some(why) = &trouble {
            log::error!("pod {key} has no port: {why}");
        }
        let stands = trouble.is_none();
        let standing = Standing { stored, trouble };
        let phases = &mut self.attachments.phases;
        phases.insert(key, Phase::Standing(standing));
        stands
    }

    /// Opens the port of an attachment that stands, on its veth; its TAP went with the daemon that
    /// had made it, and is made anew.
    pub(super) fn adopt(&mut self, stored: &Stored, link: Option<Link>) -> Result<(), ApiError> {
        // A port whose device was lost in between.
        if self.ports.by_name(&stored.host_device).is_some() {
            self.remove_port(&stored.host_device)?;
        }
        // Before a TAP is made, that would have to be removed again.
        self.check_new(&super::plan::port_spec(stored))?;
        let link = match link {
            Some(link) => PodLink { link, tap: None },
            None => {
                let plan = stored.plan(self.config.gateway.mac);
                podlink::build(&mut self.netlink, &plan)?
            }
        };
        self.open_pod(stored, link)
    }

    /// Adopts a veth of ours that there is no record of.
    fn believe(&mut self, found: FoundLink) -> bool {
        let Some(mac) = found.mac else {
            return false;
        };
        log::warn!(
            "pod {} has an interface and no record: its addresses are read from the kernel; its \
             limits, what else it may send from, and how to release it are lost until it is \
             attached anew",
            found.key
        );
        let spec = PodSpec {
            addresses: found.addresses.clone(),
            default_route: false,
            mac: Some(mac),
            ..PodSpec::new(found.key, "")
        };
        let mut stored = Stored::new(spec, mac, found.link.mtu);
        stored.addresses = found.addresses;
        let addresses: Vec<_> = stored.addresses.iter().map(ipnet::IpNet::addr).collect();
        let mtu = u16::try_from(stored.mtu).unwrap_or(u16::MAX);
        stored.gateways = self.attachment(&addresses, mtu).gateways;
        if let Err(error) = self.attachments.store.save(&stored) {
            log::error!("{}", system(error));
        }
        self.stand(Box::new(stored), Some(found.link))
    }
}
