//! The worker threads, seen from the control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use crossbeam::queue::ArrayQueue;
use mio::Waker;
use shunt_afxdp::{Pinhole, Pool, Umem};
use shunt_fib::{Fib4Writer, Fib6Writer, FibError};

use crate::port::Port;
use crate::street::{Event, Events, LINK_CAPACITY, Link, PendingLimits};
use crate::tables::{Clock, PortId, Tables};
use crate::worker::{Command, Worker, WorkerParts, WorkerSnapshot};

/// How long a worker may take to reach the end of a batch. It polls without blocking, so only a
/// core it cannot get makes it late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Events that wait for the control thread, per worker.
const EVENTS: usize = 1024;

/// A worker did not answer or could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error(
        "worker {0} has not answered for {PATIENCE:?}: is its core {1} taken by a process of higher \
         priority?"
    )]
    Silent(usize, usize),
    #[error(
        "worker {index} cannot be pinned to core {core}: check workers.cores against the cores this process may use"
    )]
    Pin { index: usize, core: usize },
    #[error("worker {0} has ended: its panic is in the log; restart the daemon")]
    Ended(usize),
    #[error("the thread of worker {0} cannot be started: {1}")]
    Spawn(usize, std::io::Error),
    #[error("worker {0} gets no FIB reader: {1}")]
    Fib(usize, FibError),
}

/// What every worker is started with.
pub(crate) struct WorkerSetup<'a> {
    pub(crate) cores: &'a [usize],
    pub(crate) batch: usize,
    pub(crate) umem: &'a Arc<Umem>,
    pub(crate) clock: &'a Arc<Clock>,
    pub(crate) pending: PendingLimits,
    pub(crate) waker: &'a Arc<Waker>,
}

struct Handle {
    core: usize,
    commands: Sender<Command>,
    passed: Arc<AtomicU64>,
    events: Arc<ArrayQueue<Event>>,
    thread: JoinHandle<()>,
}

/// All workers.
pub(crate) struct Workers {
    handles: Vec<Handle>,
    /// The snapshot in use, and older ones that some worker may still read.
    published: Vec<Arc<Tables>>,
}

impl Workers {
    /// Starts a thread per core, each pinned.
    pub(crate) fn start(
        setup: &WorkerSetup<'_>,
        fib4: &mut Fib4Writer,
        fib6: &mut Fib6Writer,
        tables: Tables,
    ) -> Result<Self, WorkerError> {
        let tables = Arc::new(tables);
        let links: Vec<Link> = setup
            .cores
            .iter()
            .map(|_| Arc::new(ArrayQueue::new(LINK_CAPACITY)))
            .collect();
        let mut workers = Self {
            handles: Vec::new(),
            published: vec![Arc::clone(&tables)],
        };
        for (index, core) in setup.cores.iter().copied().enumerate() {
            let no_reader = |error| WorkerError::Fib(index, error);
            let (commands, obeyed) = unbounded();
            let passed = Arc::new(AtomicU64::new(0));
            let events = Arc::new(ArrayQueue::new(EVENTS));
            let parts = WorkerParts {
                index,
                batch: setup.batch,
                pool: Pool::new(setup.umem),
                fib: fib4.reader().map_err(no_reader)?,
                fib6: fib6.reader().map_err(no_reader)?,
                tables: Arc::clone(&tables),
                clock: Arc::clone(setup.clock),
                pending: setup.pending,
                links: links.clone(),
                commands: obeyed,
                events: Events::new(Arc::clone(&events), Some(Arc::clone(setup.waker))),
                passed: Arc::clone(&passed),
            };
            let (pinned, is_pinned) = bounded(1);
            let thread = std::thread::Builder::new()
                .name(format!("shunt-worker-{index}"))
                .spawn(move || {
                    let ok = core_affinity::set_for_current(core_affinity::CoreId { id: core });
                    // The starter waits for this, so it is there to hear.
                    let _ = pinned.send(ok);
                    if ok {
                        Worker::new(parts).run();
                    }
                })
                .map_err(|error| WorkerError::Spawn(index, error))?;
            if !is_pinned.recv().unwrap_or(false) {
                return Err(WorkerError::Pin { index, core });
            }
            workers.handles.push(Handle {
                core,
                commands,
                passed,
                events,
                thread,
            });
        }
        Ok(workers)
    }

    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    /// The snapshot in use.
    pub(crate) fn current(&self) -> &Arc<Tables> {
        // `start` puts the first in, `publish` keeps the newest.
        &self.published[self.published.len() - 1]
    }

    /// Gives every worker a new snapshot, waits until all use it, then frees the old ones.
    pub(crate) fn publish(&mut self, tables: Tables) -> Result<(), WorkerError> {
        let version = tables.version;
        let tables = Arc::new(tables);
        self.published.push(Arc::clone(&tables));
        for index in 0..self.handles.len() {
            self.send(index, Command::Tables(Arc::clone(&tables)));
        }
        let deadline = Instant::now() + PATIENCE;
        for (index, handle) in self.handles.iter().enumerate() {
            while handle.passed.load(Ordering::Acquire) < version {
                if Instant::now() > deadline {
                    return Err(WorkerError::Silent(index, handle.core));
                }
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        self.published.drain(..self.published.len() - 1);
        Ok(())
    }

    /// Sends a command; a worker that has ended ignores it.
    pub(crate) fn send(&self, worker: usize, command: Command) {
        if let Some(handle) = self.handles.get(worker)
            && handle.commands.send(command).is_err()
        {
            log::error!("worker {worker} has ended");
        }
    }

    fn answer<T>(&self, worker: usize, from: &Receiver<T>) -> Result<T, WorkerError> {
        let core = self
            .handles
            .get(worker)
            .map_or(usize::MAX, |handle| handle.core);
        from.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => WorkerError::Silent(worker, core),
            RecvTimeoutError::Disconnected => WorkerError::Ended(worker),
        })
    }

    /// After the FIB has changed: frames that waited may go on.
    pub(crate) fn resume(&self) {
        for index in 0..self.handles.len() {
            self.send(index, Command::Resume);
        }
    }

    /// Takes a port back from its worker.
    pub(crate) fn remove_port(
        &self,
        worker: usize,
        id: PortId,
    ) -> Result<Option<Box<Port>>, WorkerError> {
        let (reply, answer) = bounded(1);
        self.send(worker, Command::RemovePort { id, reply });
        self.answer(worker, &answer)
    }

    /// Changes what the uplink's XDP program lets through.
    pub(crate) fn set_pinhole(
        &self,
        worker: usize,
        id: PortId,
        pinhole: Pinhole,
    ) -> Result<Result<(), shunt_afxdp::Error>, WorkerError> {
        let (reply, answer) = bounded(1);
        self.send(worker, Command::Pinhole { id, pinhole, reply });
        self.answer(worker, &answer)
    }

    /// A worker that has ended.
    pub(crate) fn ended(&self) -> Option<usize> {
        let mut handles = self.handles.iter();
        handles.position(|handle| handle.thread.is_finished())
    }

    /// Asks every worker for its counters, without waiting for the answers.
    pub(crate) fn ask(&self) -> Vec<Receiver<WorkerSnapshot>> {
        (0..self.len())
            .map(|worker| {
                let (reply, answer) = bounded(1);
                self.send(worker, Command::Snapshot(reply));
                answer
            })
            .collect()
    }

    /// The counters of every worker.
    pub(crate) fn snapshots(&self) -> Result<Vec<WorkerSnapshot>, WorkerError> {
        let answers = self.ask();
        answers
            .iter()
            .enumerate()
            .map(|(worker, answer)| self.answer(worker, answer))
            .collect()
    }

    /// What workers have reported since the last call, at most one queue's worth each.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for handle in &self.handles {
            events.extend(std::iter::from_fn(|| handle.events.pop()).take(EVENTS));
        }
        events
    }

    /// Ends all threads and takes their ports back.
    pub(crate) fn stop(self) -> Vec<Port> {
        let mut ports = Vec::new();
        let answers: Vec<_> = (0..self.len())
            .map(|worker| {
                let (reply, answer) = bounded(1);
                self.send(worker, Command::Stop(reply));
                answer
            })
            .collect();
        for (worker, answer) in answers.iter().enumerate() {
            match self.answer(worker, answer) {
                Ok(returned) => ports.extend(returned.into_iter().map(|(_, port)| *port)),
                Err(error) => log::error!("{error}"),
            }
        }
        for (index, handle) in self.handles.into_iter().enumerate() {
            if handle.thread.join().is_err() {
                log::error!("worker {index} had panicked");
            }
        }
        ports
    }
}
