//! What a table takes of the machine's memory. A test of it is alone in its process, to see only
//! that.

use std::fs;

/// Resident bytes of this process (`VmRSS` of proc_pid_status(5)).
pub(crate) fn resident() -> usize {
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

/// The most that a small table may take: a mebibyte, unless the system gives 2 MiB where 4 KiB are
/// touched (transparent huge pages set to `always`).
pub(crate) fn limit() -> usize {
    let huge = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|modes| modes.contains("[always]"));
    if huge { 24 << 20 } else { 1 << 20 }
}

/// Checks what 5,251 routes of a large cluster's node took: less than the limit, and about what
/// the table says itself.
///
/// # Panics
///
/// If it is not so.
pub(crate) fn check(small: usize, said: usize) {
    eprintln!("{small} bytes are resident; the table says {said}");
    assert!(small < limit(), "{small} bytes for 5,251 routes");
    if limit() == 1 << 20 {
        // Both count pages; the process has some of its own, and B-trees are estimated.
        let off = small.abs_diff(said);
        assert!(off < 256 << 10, "{small} bytes, said to be {said}");
    }
}
