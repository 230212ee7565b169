//! CPU time: whose, and how much.

use std::fs;

use anyhow::{Context, Result};

use crate::core::{self, Time};

/// All cores.
pub(super) struct Cores(Vec<(usize, Time)>);

impl Cores {
    pub(super) fn now() -> Result<Self> {
        let last = core::last();
        let all = core::others(last).chain([last]);
        let times = all.map(|core| Ok((core, Time::of(core)?)));
        Ok(Self(times.collect::<Result<_>>()?))
    }

    /// Their busy shares since then, summed.
    pub(super) fn busy(&self) -> Result<f64> {
        let shares = self
            .0
            .iter()
            .map(|&(core, then)| Ok(Time::of(core)?.busy_since(then)));
        shares.sum()
    }
}

/// CPU time in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Work {
    /// Of the programs that this one has started and that have ended, and of theirs.
    pub(super) programs: f64,
    /// Of the daemon's threads but for the workers, which poll.
    pub(super) daemon: f64,
}

impl Work {
    /// Until now, of the daemon with this process id if there is one.
    pub(super) fn now(daemon: Option<u32>) -> Result<Self> {
        Ok(Self {
            programs: programs(&fs::read_to_string("/proc/self/stat")?)
                .context("/proc/self/stat has another form")?,
            daemon: daemon.map_or(Ok(0.0), threads)?,
        })
    }

    /// More than then.
    pub(super) fn since(self, then: Self) -> Self {
        Self {
            programs: self.programs - then.programs,
            daemon: self.daemon - then.daemon,
        }
    }
}

/// The fields `cutime` and `cstime` (proc_pid_stat(5)). A clock tick is 10 ms on every Linux
/// there is (`USER_HZ`).
fn programs(stat: &str) -> Option<f64> {
    // Names may have blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((ticks(13)? + ticks(14)?) as f64 * 10.0)
}

fn threads(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        // A thread that has ended meanwhile counts no more.
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        let Ok(times) = fs::read_to_string(thread.join("schedstat")) else {
            continue;
        };
        if !name.starts_with("shunt-worker") {
            // Documentation/scheduler/sched-stats.rst: time on the CPU in ns.
            let on = times.split_whitespace().next().unwrap_or_default();
            sum += on.parse::<f64>().context("schedstat has another form")? / 1e6;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_ended_children_are_read() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 1 0 9 0 0";
        assert_eq!(programs(stat), Some(150.0));
        assert_eq!(programs("7 (a) S 1"), None);
    }

    #[test]
    fn work_is_counted_between() -> Result<()> {
        let cores = Cores::now()?;
        let before = Work::now(Some(std::process::id()))?;
        let begin = std::time::Instant::now();
        while begin.elapsed().as_millis() < 100 {
            std::hint::black_box(0);
        }
        let did = Work::now(Some(std::process::id()))?.since(before);
        assert!(did.daemon >= 20.0, "{did:?}");
        assert!(cores.busy()? > 0.1);
        assert_eq!(Work::now(None)?.daemon, 0.0);
        Ok(())
    }
}
