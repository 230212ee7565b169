//! What a worker tells the control thread: bounded, never blocking.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use mio::Waker;
use shunt_api::MacAddr;

use crate::tables::PortId;

/// What was said about a multicast group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// I am a member.
    Join,
    /// I am no longer.
    Leave,
    /// Who is a member? Said by routers, which want all multicast.
    Query,
}

/// Something only the control thread can deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A station was seen behind a port where the MAC table does not have it.
    Station {
        /// The station.
        mac: MacAddr,
        /// Where it was seen.
        port: PortId,
    },
    /// A pod said in ARP or NDP which address is its.
    Binding {
        /// Its address.
        address: IpAddr,
        /// Its MAC address.
        mac: MacAddr,
        /// Where it was heard.
        port: PortId,
    },
    /// A packet waits for the link-layer address of a host.
    Miss {
        /// The host.
        address: IpAddr,
    },
    /// A pod asks for, or claims, an address that another one has.
    Conflict {
        /// The address.
        address: IpAddr,
        /// The MAC address of the claimant.
        mac: MacAddr,
        /// Where it was heard.
        port: PortId,
    },
    /// A pod has joined or left a multicast group, or a multicast router has asked (L2 mode).
    Membership {
        /// The group; for a query, the querier.
        group: IpAddr,
        /// Where it was heard.
        port: PortId,
        /// What was said.
        said: Said,
    },
    /// The device behind a port is gone.
    PortDead(PortId),
}

/// A worker's end of the event queue. What does not fit is lost: the next frame of the kind says it
/// again.
pub struct Events {
    queue: Arc<ArrayQueue<Event>>,
    waker: Option<Arc<Waker>>,
    last: Option<Event>,
    unsaid: bool,
}

impl Events {
    /// Reports into `queue`; `waker`, if any, wakes the thread that reads it.
    pub fn new(queue: Arc<ArrayQueue<Event>>, waker: Option<Arc<Waker>>) -> Self {
        Self {
            queue,
            waker,
            last: None,
            unsaid: false,
        }
    }

    /// Whether this was the last that was reported in this batch.
    #[inline]
    pub(super) fn is_last(&self, event: Event) -> bool {
        self.last == Some(event)
    }

    /// Reports one; the same event twice in a row in one batch is one. False when there is no
    /// room.
    #[inline]
    pub fn report(&mut self, event: Event) -> bool {
        if self.last == Some(event) {
            return true;
        }
        let said = self.queue.push(event).is_ok();
        if said {
            self.last = Some(event);
            self.unsaid = true;
        }
        said
    }

    /// After a batch: wakes the reader if there is news.
    #[inline]
    pub fn flush(&mut self) {
        self.last = None;
        if std::mem::take(&mut self.unsaid)
            && let Some(waker) = &self.waker
            && let Err(error) = waker.wake()
        {
            log::error!("cannot wake the control thread: {error}");
        }
    }
}
