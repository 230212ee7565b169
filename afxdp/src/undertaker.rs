//! Closing devices in the background: the kernel waits for grace periods when a program is detached
//! and when a socket is released, 10 to 20 ms together.
//!
//! A device is closed here as anywhere, by [`Device::close`]: its chunks come back, to the depot,
//! when its sockets are released, not before. Until then they are counted as retiring.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use crate::device::Device;
use crate::pool::Pool;

/// Threads at most. Those that wait at the same time share the kernel's grace periods.
const THREADS: usize = 4;

/// Has what a UMEM's devices leave behind; its threads end with it.
pub(crate) struct Undertaker {
    queue: Sender<Device>,
    orders: Receiver<Device>,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Default)]
struct State {
    /// The index and the chunks of each device that is not closed yet.
    retiring: Vec<(u32, usize)>,
    threads: usize,
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `over` or, at most, `patience`; true when it is over.
    fn wait(&self, patience: Duration, over: impl Fn(&State) -> bool) -> bool {
        let state = self.lock();
        let (state, _) = self
            .closed
            .wait_timeout_while(state, patience, |state| !over(state))
            .unwrap_or_else(PoisonError::into_inner);
        over(&state)
    }

    fn close(&self, device: Device, entry: (u32, usize)) {
        let umem = Arc::clone(device.umem());
        // A pool of its own: dropping it puts the chunks into the depot before they are struck off.
        let _ = device.close(&mut Pool::new(&umem));
        let mut state = self.lock();
        if let Some(at) = state.retiring.iter().position(|other| *other == entry) {
            state.retiring.swap_remove(at);
        }
        drop(state);
        self.closed.notify_all();
    }
}

fn entry(device: &Device) -> (u32, usize) {
    (device.ifindex(), device.held())
}

impl Undertaker {
    pub(crate) fn new() -> Self {
        let (queue, orders) = unbounded();
        Self {
            queue,
            orders,
            books: Arc::default(),
        }
    }

    /// Closes a device on another thread; on this one when there is none to be had.
    pub(crate) fn take(&self, device: Device) {
        let mut state = self.books.lock();
        state.retiring.push(entry(&device));
        if state.threads < THREADS.min(state.retiring.len()) && self.start() {
            state.threads += 1;
        }
        let alone = state.threads == 0;
        drop(state);
        if alone {
            let entry = entry(&device);
            self.books.close(device, entry);
        } else {
            // Received as long as `self` lives.
            let _ = self.queue.send(device);
        }
    }

    fn start(&self) -> bool {
        let (orders, books) = (self.orders.clone(), Arc::clone(&self.books));
        thread::Builder::new()
            .name("shunt-undertaker".to_owned())
            .spawn(move || {
                for device in orders {
                    let entry = entry(&device);
                    books.close(device, entry);
                }
            })
            .is_ok()
    }

    /// Waits until no device of this index is being closed.
    pub(crate) fn wait_for(&self, ifindex: u32, patience: Duration) -> bool {
        self.books.wait(patience, |state| {
            state.retiring.iter().all(|(other, _)| *other != ifindex)
        })
    }

    /// Waits until no device is being closed.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        self.books.wait(patience, |state| state.retiring.is_empty())
    }

    /// The chunks that the kernel may still write to, of devices being closed.
    pub(crate) fn chunks(&self) -> usize {
        let state = self.books.lock();
        state.retiring.iter().map(|(_, chunks)| chunks).sum()
    }
}
