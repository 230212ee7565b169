//! How many chunks the kernel holds for receiving: more while a socket is busy.

use std::time::{Duration, Instant};

use super::Socket;

/// After each such time without a backlog, a socket that had grown wants half as many chunks.
const QUIET: Duration = Duration::from_secs(1);

impl Socket {
    /// Grows with a backlog, shrinks without.
    #[inline]
    pub(super) fn adapt(&mut self) {
        let backlog = self.rings.rx.available(self.config.rx_size);
        if backlog == 0 {
            return;
        }
        if backlog >= self.target.div_ceil(2) {
            self.grow();
        } else if self.holdings.borrowed > 0 {
            self.shrink(backlog);
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.busy = Some(Instant::now());
        let most = self.config.rx_size.min(self.config.fill_size);
        let wanted = self.target.saturating_mul(2).min(most);
        if wanted <= self.target {
            return;
        }
        let beyond = (wanted - self.config.rx_frames) as usize;
        // It may still have what it wanted before it last shrank.
        let more = beyond.saturating_sub(self.holdings.borrowed);
        if more == 0 || self.holdings.umem.borrow(self.holdings.borrowed, more) {
            self.holdings.borrowed += more;
            self.target = wanted;
        }
    }

    #[inline(never)]
    fn shrink(&mut self, backlog: u32) {
        let now = Instant::now();
        let busy = *self.busy.get_or_insert(now);
        let quiet = now.saturating_duration_since(busy).as_secs() / QUIET.as_secs();
        if backlog >= self.target / 4 {
            self.busy = Some(now);
        } else if quiet > 0 {
            let halves = u32::try_from(quiet).unwrap_or(u32::MAX);
            let target = self.target.checked_shr(halves).unwrap_or(0);
            self.target = target.max(self.config.rx_frames);
            self.busy = Some(now);
        }
        // Chunks are lent until they have been received.
        let beyond = self.target.max(self.filled()) - self.config.rx_frames;
        let back = self.holdings.borrowed.saturating_sub(beyond as usize);
        self.holdings.borrowed -= back;
        self.holdings.umem.repay(back);
    }
}
