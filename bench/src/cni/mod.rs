//! The suite `cni`: attaching pods by our plugin and daemon beside the stock plugin `bridge`, both
//! with the stock `host-local`, in node namespaces of their own.
//!
//! Plugins are executed as a runtime does, and timed from start to end; the pods' namespaces are
//! made beforehand. In a round each side has its turn. While it is bridge's, our daemon is stopped
//! (SIGSTOP), so that its polling worker does not take the peer's time; in our turn it costs ours.
//! A turn ends when the kernel has taken the last interface away.
//!
//! - `pairs`: ADD and DEL in a row and at once. `lone`: what has no peer but a number or itself.
//! - `sandbox`: the same through containerd.
//! - `side`, `call`, `work`: who takes part; executions; CPU time.

mod call;
mod lone;
mod pairs;
mod sandbox;
mod side;
mod work;

use anyhow::Result;
use rustix::process::Signal;
use shunt_tests::cni::CniNode;
use shunt_tests::testbed::Testbed;

use crate::compare::{Options, Report, Suite, install_peers};
use crate::interrupt::Interrupt;

/// This suite.
pub const SUITE: Suite = Suite {
    name: "cni",
    about: "attaching pods: the stock plugin bridge with host-local, alone and under containerd",
    run,
};

/// What all parts of a run share.
struct Run<'a> {
    options: &'a Options,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    /// Calls `turn` with the number of each round.
    fn rounds(&self, what: &str, mut turn: impl FnMut() -> Result<()>) -> Result<()> {
        for round in 1..=self.options.rounds {
            eprintln!("{what}: round {round}");
            self.interrupt.check()?;
            turn()?;
        }
        Ok(())
    }
}

fn run(options: &Options, interrupt: &Interrupt) -> Result<Report> {
    install_peers(SUITE.name)?;
    let _testbed = Testbed::acquire()?;
    let run = Run { options, interrupt };
    let mut report = Report::default();
    pairs::measure(&run, &mut report)?;
    lone::measure(&run, &mut report)?;
    sandbox::measure(&run, &mut report)?;
    if !report.rows.is_empty() {
        report.notes.push(
            "bridge as it costs least: a gateway, no masquerading, IPv4 only; ours also IPv4 \
             only; Debian's host-local for both; our daemon is stopped while the peer has its turn"
                .to_owned(),
        );
    }
    Ok(report)
}

/// The worker polls on the core that the node's index chooses.
const PLACEMENT: &str = "our worker polls on core 0; all else, of both sides, on any core";

/// The peer's turn: our daemon sleeps.
fn resting<T>(node: &mut CniNode, turn: impl FnOnce() -> Result<T>) -> Result<T> {
    node.daemon.signal(Signal::STOP);
    let done = turn();
    node.daemon.signal(Signal::CONT);
    done
}
