//! What an IPv4 table takes of the machine's memory. Alone in its process, to see only that.

use std::fs;

use shunt_fib::{Fib4Config, Fib4Writer, NextHopIndex};

/// Resident bytes of this process (`VmRSS` of proc_pid_status(5)).
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        << 10
}

#[test]
fn a_small_cluster_stays_below_a_mebibyte() {
    // With `always`, the system gives 2 MiB where 4 KiB are touched.
    let huge = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|modes| modes.contains("[always]"));
    let limit = if huge { 16 << 20 } else { 1 << 20 };

    let before = resident();
    let mut writer = Fib4Writer::new(Fib4Config::default()).unwrap();
    let reader = writer.reader().unwrap();
    for pod in 0..250 {
        let hop = NextHopIndex::new(pod).unwrap();
        writer
            .insert(format!("10.42.0.{pod}/32").parse().unwrap(), hop)
            .unwrap();
    }
    for node in 1..=200 {
        let hop = NextHopIndex::new(1000 + node).unwrap();
        writer
            .insert(format!("10.42.{node}.0/24").parse().unwrap(), hop)
            .unwrap();
    }
    // Misses all over the address space allocate nothing either.
    for address in (0..=u32::MAX).step_by(1 << 16) {
        reader.lookup(address.into());
    }
    // Nor does a default route.
    let default = "0.0.0.0/0".parse().unwrap();
    writer.insert(default, NextHopIndex::MAX).unwrap();
    let small = resident() - before;
    assert!(small < limit, "{small} bytes for 451 routes");

    // And routes everywhere are what their 32 MiB say, so the measure measures.
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        writer
            .insert(half.parse().unwrap(), NextHopIndex::MAX)
            .unwrap();
    }
    assert!(resident() - before > 30 << 20);
    assert_eq!(writer.memory().first_level.touched, 32 << 20);
}
