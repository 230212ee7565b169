//! The one program of the pods' devices, and where each device's sockets are in its XSKMAP.
//!
//! A program that is new to the kernel's XDP dispatcher, and one that leaves it, costs an RCU grace
//! period, some ten milliseconds (`bpf_dispatcher_change_prog` in `kernel/bpf/dispatcher.c`). A
//! program that is in there already, for another device, costs nothing.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::program::{Maps, ProgramKind};
use crate::socket::Socket;
use crate::sys::bpf;

/// Slots for sockets, and so devices at most, of one bank: as many as a device has queues at most.
/// The maps take about 100 kB of kernel memory. What finds no room goes to a further bank, which
/// costs one more program.
const SLOTS: u32 = 1024;

/// Programs with their maps, made when needed and kept for as long as the UMEM. More than one only
/// for many devices, or for devices of the same index: in different network namespaces, or where
/// one that is gone has not been closed yet.
#[derive(Default)]
pub(crate) struct Banks(Mutex<Vec<Arc<Bank>>>);

struct Bank {
    program: OwnedFd,
    sockets: OwnedFd,
    places: OwnedFd,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// First slot to number of slots.
    slots: BTreeMap<u32, u32>,
    /// By index.
    devices: HashSet<u32>,
}

impl Taken {
    /// The first gap of `queues` slots, for a device that is not there yet.
    fn take(&mut self, ifindex: u32, queues: u32) -> Option<u32> {
        if self.devices.contains(&ifindex) {
            return None;
        }
        let mut base = 0;
        for (&start, &count) in &self.slots {
            if start - base >= queues {
                break;
            }
            base = start + count;
        }
        if base + queues > SLOTS {
            return None;
        }
        self.slots.insert(base, queues);
        self.devices.insert(ifindex);
        Some(base)
    }
}

impl Banks {
    /// Finds slots for a device's sockets. Its frames pass until [`Place::fill`].
    ///
    /// # Errors
    /// The kernel's refusal of the program or its maps.
    pub(crate) fn place(
        &self,
        device: &str,
        ifindex: u32,
        queues: u32,
        frags: bool,
    ) -> Result<Place, Error> {
        let queues = queues.clamp(1, SLOTS);
        let mut banks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |bank: &Arc<Bank>| {
            let base = bank.lock().take(ifindex, queues)?;
            Some(Place {
                bank: Arc::clone(bank),
                ifindex,
                base,
                queues,
            })
        };
        if let Some(place) = banks.iter().find_map(place) {
            return Ok(place);
        }
        let bank = Arc::new(Bank::new(device, frags)?);
        let place = place(&bank).ok_or_else(|| Error::Config("an empty bank is full".into()))?;
        banks.push(bank);
        Ok(place)
    }
}

impl Bank {
    fn new(device: &str, frags: bool) -> Result<Self, Error> {
        let fail = |error| {
            let needs = "CAP_BPF and CAP_NET_ADMIN";
            Error::from_kernel("making the maps of the XDP program", device, needs, error)
        };
        let sockets = bpf::create_xskmap(SLOTS).map_err(fail)?;
        let places = bpf::create_places(SLOTS).map_err(fail)?;
        let maps = Maps {
            sockets: sockets.as_raw_fd(),
            places: Some(places.as_raw_fd()),
        };
        let kind = ProgramKind::Pod;
        let program = bpf::load_xdp(kind.name(), &kind.assemble(maps)?, frags)?;
        Ok(Self {
            program,
            sockets,
            places,
            taken: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device's slots. Dropping it lets the device's frames pass to the kernel, before slots and index
/// are free for another device.
pub(crate) struct Place {
    bank: Arc<Bank>,
    ifindex: u32,
    base: u32,
    queues: u32,
}

impl Place {
    /// The program to attach to the device.
    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.bank.program.as_fd()
    }

    /// From here on the program hands the device's frames to these sockets, one for each queue from 0.
    pub(crate) fn fill(&self, sockets: &[Socket]) -> std::io::Result<()> {
        for (slot, socket) in (self.base..self.base + self.queues).zip(sockets) {
            bpf::set_xsk(self.bank.sockets.as_fd(), slot, socket.fd())?;
        }
        let place = [self.base, self.queues];
        bpf::set_place(self.bank.places.as_fd(), self.ifindex, place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gone = |map: &OwnedFd, key| match bpf::clear(map.as_fd(), key) {
            // It was never filled.
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
            Ok(()) => true,
        };
        let mut all = gone(&self.bank.places, self.ifindex);
        for slot in self.base..self.base + self.queues {
            all &= gone(&self.bank.sockets, slot);
        }
        // What could not be cleared must not get a second meaning.
        if all {
            let mut taken = self.bank.lock();
            taken.slots.remove(&self.base);
            taken.devices.remove(&self.ifindex);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_in_the_first_gap_that_fits() {
        let mut taken = Taken::default();
        assert_eq!(taken.take(1, 4), Some(0));
        assert_eq!(taken.take(2, 1), Some(4));
        assert_eq!(taken.take(3, 4), Some(5));
        taken.slots.remove(&4);
        taken.devices.remove(&2);
        assert_eq!(taken.take(4, 2), Some(9));
        assert_eq!(taken.take(5, 1), Some(4));
        taken.slots.remove(&0);
        taken.devices.remove(&1);
        assert_eq!(taken.take(1, 3), Some(0));
        assert_eq!(taken.take(6, 1), Some(3));
    }

    #[test]
    fn a_device_is_there_once_and_a_full_bank_says_so() {
        let mut taken = Taken::default();
        assert_eq!(taken.take(7, SLOTS - 1), Some(0));
        assert_eq!(taken.take(7, 1), None);
        assert_eq!(taken.take(8, 2), None);
        assert_eq!(taken.take(8, 1), Some(SLOTS - 1));
        assert_eq!(taken.take(9, 1), None);
    }
}
