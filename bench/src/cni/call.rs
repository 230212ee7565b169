//! Plugins, executed one at a time or many at once, with their times.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shunt_tests::cni::Invocation;

/// Milliseconds.
pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What a plugin printed, `null` for nothing, and the milliseconds from its start to its end.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) took: f64,
    pub(super) printed: Value,
}

/// Executes a plugin in the network namespace of this thread, as a runtime does.
///
/// # Errors
/// It fails; the message has what it printed.
pub(super) fn call(what: &Invocation) -> Result<Called> {
    let mut command = Command::new(&what.program);
    command
        .env_clear()
        .envs(&what.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| what.program.display().to_string())?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&what.stdin)?;
    }
    let output = child.wait_with_output()?;
    let took = milliseconds(begin.elapsed());
    ensure!(
        output.status.success(),
        "{} {:?}: {}: {}{}",
        what.program.display(),
        what.environment,
        output.status,
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let printed = if output.stdout.trim_ascii().is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&output.stdout)?
    };
    Ok(Called { took, printed })
}

/// One after another.
///
/// # Errors
/// As [`call`].
pub(super) fn in_a_row(calls: &[Invocation]) -> Result<Vec<Called>> {
    calls.iter().map(call).collect()
}

/// All at the same moment.
///
/// # Errors
/// As [`call`], after all have ended.
pub(super) fn at_once(calls: &[Invocation]) -> Result<Vec<Called>> {
    let start = Barrier::new(calls.len());
    scope(|scope| {
        // Threads inherit the network namespace of the one that makes them.
        let threads: Vec<_> = calls
            .iter()
            .map(|what| {
                scope.spawn(|| {
                    start.wait();
                    call(what)
                })
            })
            .collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        ended
            .into_iter()
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// The interfaces in the network namespace of this thread.
///
/// # Errors
/// They cannot be read.
pub(super) fn interfaces() -> Result<BTreeSet<String>> {
    // proc_pid_net(5): two lines of headings.
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}

/// Waits until there are no others than these.
///
/// # Errors
/// There still are after ten seconds.
pub(super) fn settle(known: &BTreeSet<String>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = interfaces()?;
        let mut left = now.difference(known).peekable();
        if left.peek().is_none() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "interfaces are left: {}",
            left.cloned().collect::<Vec<_>>().join(" ")
        );
        sleep(Duration::from_millis(1));
    }
}

/// The value that this share of all are not above, by the nearest rank; 0 of none.
pub(super) fn percentile(called: &[Called], share: f64) -> f64 {
    let mut sorted: Vec<f64> = called.iter().map(|called| called.took).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let at = rank.saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Invocation {
        let mut call = Invocation::new("/bin/sh".into(), "ADD").stdin(text);
        call.environment
            .insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
        call
    }

    #[test]
    fn a_plugin_is_timed_to_its_end() -> Result<()> {
        let called = call(&script("sleep 0.05; echo '{\"a\": 1}'"))?;
        assert!(called.took >= 50.0, "{called:?}");
        assert_eq!(called.printed["a"], 1);
        assert!(call(&script(""))?.printed.is_null());
        Ok(())
    }

    #[test]
    fn a_failure_has_what_was_printed() {
        let error = call(&script("echo out; echo err >&2; exit 3")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("out") && error.contains("err"), "{error}");
    }

    #[test]
    fn calls_at_once_overlap() -> Result<()> {
        let calls = vec![script("sleep 0.2"); 5];
        let begin = Instant::now();
        assert_eq!(at_once(&calls)?.len(), 5);
        assert!(begin.elapsed() < Duration::from_millis(900));
        let begin = Instant::now();
        in_a_row(&calls)?;
        assert!(begin.elapsed() >= Duration::from_secs(1));
        Ok(())
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let called = |took| Called {
            took,
            printed: Value::Null,
        };
        let all: Vec<_> = (1..=50).rev().map(|n| called(f64::from(n))).collect();
        assert_eq!(percentile(&all, 0.5), 25.0);
        assert_eq!(percentile(&all, 0.99), 50.0);
        assert_eq!(percentile(&all, 0.0), 1.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn loopback_is_an_interface() -> Result<()> {
        let all = interfaces()?;
        assert!(all.contains("lo"));
        settle(&all)
    }
}
