//! Cores: pinning to one, and how busy it was.

use anyhow::{Context, Result, ensure};
use core_affinity::CoreId;

/// Pins the calling thread.
///
/// # Errors
/// There is no such core.
pub fn pin(core: usize) -> Result<()> {
    // core_affinity aborts on numbers beyond its bit set.
    Time::of(core)?;
    ensure!(
        core_affinity::set_for_current(CoreId { id: core }),
        "cannot pin a thread to core {core}: see taskset -p $$ for the cores there are"
    );
    Ok(())
}

/// The last core of the machine; interrupts and other programs favour the first.
pub fn last() -> usize {
    core_affinity::get_core_ids()
        .and_then(|cores| cores.iter().map(|core| core.id).max())
        .unwrap_or(0)
}

/// The cores of this machine beside `core`, the first first.
pub fn others(core: usize) -> impl Iterator<Item = usize> {
    let mut cores: Vec<_> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|other| other.id)
        .filter(|&other| other != core)
        .collect();
    cores.sort_unstable();
    cores.into_iter()
}

/// A core's time since boot, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    busy: u64,
    total: u64,
}

impl Time {
    /// Reads it from /proc/stat (proc_stat(5)). Busy is all but idle, waiting for I/O and stolen.
    ///
    /// # Errors
    /// There is no such core.
    pub fn of(core: usize) -> Result<Self> {
        parse(&std::fs::read_to_string("/proc/stat")?, core)
            .with_context(|| format!("/proc/stat has no core {core}"))
    }

    /// The busy share of the time since `earlier`, from 0 to 1.
    pub fn busy_since(self, earlier: Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        self.busy.saturating_sub(earlier.busy) as f64 / total.max(1) as f64
    }
}

fn parse(stat: &str, core: usize) -> Option<Time> {
    let name = format!("cpu{core}");
    let line = stat
        .lines()
        .find(|line| line.split_whitespace().next() == Some(&name))?;
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks.try_into().ok()?;
    let busy = user + nice + system + irq + softirq;
    Some(Time {
        busy,
        total: busy + idle + iowait + steal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read_by_core() {
        let stat = "cpu  1 1 1 1 1 1 1 1 0 0\n\
                    cpu0 10 0 20 60 5 1 4 0 0 0\n\
                    cpu1 0 0 0 100 0 0 0 0 0 0\n\
                    intr 5\n";
        let time = parse(stat, 0).unwrap();
        assert_eq!(
            time,
            Time {
                busy: 35,
                total: 100
            }
        );
        assert_eq!(parse(stat, 1).unwrap().busy, 0);
        assert_eq!(parse(stat, 2), None);
        assert_eq!(parse("cpu0 1 2\n", 0), None);
    }

    #[test]
    fn busy_is_a_share_of_the_time_between() {
        let earlier = Time {
            busy: 100,
            total: 1000,
        };
        let later = Time {
            busy: 175,
            total: 1100,
        };
        assert!((later.busy_since(earlier) - 0.75).abs() < 1e-9);
        assert!(earlier.busy_since(earlier).abs() < 1e-9);
    }

    #[test]
    fn this_machine_has_the_core_it_names_last() {
        Time::of(last()).unwrap();
        pin(last()).unwrap();
        assert!(pin(1 << 20).is_err());
        assert!(others(last()).all(|core| core < last()));
    }
}
