//! Side-by-side comparisons: suites that measure Shunt and its peers in turns in one run, and the
//! reports of what they found.
//!
//! A suite is a function from [`Options`] to a [`Report`]; [`SUITES`] lists them. The program
//! `compare` runs one and shows its rows in the terminal ([`table`]), as JSON
//! ([`figures::write_json`](crate::figures::write_json)) and as a page ([`html`]).

pub mod html;
mod output;
pub mod table;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::figures::Row;
use crate::interrupt::Interrupt;

pub use output::Output;

/// What the user asks of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Rounds; each measures every competitor once.
    pub rounds: u32,
    /// Leave out what takes minutes to prepare.
    pub quick: bool,
    /// Huge pages for all competitors, instead of what the machine gives unasked.
    pub huge_pages: bool,
    /// Only the cases whose names begin so.
    pub only: Option<String>,
}

impl Options {
    /// True if a case is wanted whose name is `name` or begins with it.
    pub fn want(&self, name: &str) -> bool {
        self.only
            .as_deref()
            .is_none_or(|only| name.starts_with(only) || only.starts_with(name))
    }
}

/// What a suite found.
#[derive(Debug, Default)]
pub struct Report {
    /// The figures.
    pub rows: Vec<Row>,
    /// What the reader of the figures must know: data, versions, what was left out.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether every target is reached.
    pub fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met)
    }
}

/// A group of comparisons that share their peers.
#[derive(Debug)]
pub struct Suite {
    /// What the user calls it.
    pub name: &'static str,
    /// One line for the list of suites.
    pub about: &'static str,
    /// Measures. Installs missing peers or fails with the command that does.
    pub run: fn(&Options, &Interrupt) -> Result<Report>,
}

impl Suite {
    /// Runs it.
    ///
    /// # Errors
    /// It fails, or nothing in it has the name that the user wants.
    pub fn report(&self, options: &Options, interrupt: &Interrupt) -> Result<Report> {
        let report = (self.run)(options, interrupt)?;
        ensure!(
            !report.rows.is_empty(),
            "--only {:?}: no case of the suite {} begins so; without the option it shows all their \
             names",
            options.only.as_deref().unwrap_or_default(),
            self.name
        );
        Ok(report)
    }
}

/// All suites.
pub const SUITES: &[Suite] = &[crate::fib::SUITE, crate::cni::SUITE];

/// The suite of this name.
///
/// # Errors
/// There is none; the error lists those there are.
pub fn suite(name: &str) -> Result<&'static Suite> {
    SUITES
        .iter()
        .find(|suite| suite.name == name)
        .with_context(|| {
            let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
            format!(
                "no suite is called {name:?}; there are: {}",
                names.join(", ")
            )
        })
}

/// Installs the packages of a suite's peers that are missing.
///
/// # Errors
/// One is missing and cannot be installed; the script has printed the command that does.
pub(crate) fn install_peers(suite: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/install-peers.sh");
    let status = Command::new(&script)
        .arg(suite)
        .status()
        .with_context(|| script.display().to_string())?;
    ensure!(
        status.success(),
        "the peers of this suite are not there: see above"
    );
    Ok(())
}

/// How a row fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It has no target.
    Shown,
    Met,
    Missed,
}

impl Outcome {
    fn of(row: &Row) -> Self {
        match (row.target, row.met) {
            (None, _) => Self::Shown,
            (Some(_), true) => Self::Met,
            (Some(_), false) => Self::Missed,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Shown => "",
            Self::Met => "met",
            Self::Missed => "MISSED",
        }
    }
}

/// A figure with about three digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        a if a >= 100.0 => format!("{value:.0}"),
        a if a >= 10.0 => format!("{value:.1}"),
        a if a >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// A median with its spread.
fn spread(median: f64, [min, max]: [f64; 2]) -> String {
    format!("{} [{}, {}]", number(median), number(min), number(max))
}

/// Spread of one side's rounds, of their median, from which on they are not to be trusted.
const UNSTEADY: f64 = 0.15;

/// A warning, if some rows' rounds differ too much. Extremes always do.
fn unsteady(rows: &[Row]) -> Option<String> {
    let wide = |median: f64, [min, max]: [f64; 2]| max - min > UNSTEADY * median;
    let unsteady = rows
        .iter()
        .filter(|row| !row.extreme)
        .filter(|row| wide(row.ours, row.ours_spread) || wide(row.theirs, row.theirs_spread));
    let n = unsteady.count();
    (n > 0).then(|| {
        format!(
            "in {n} of {} rows the rounds of one side differ by more than {:.0} %: something else \
             ran on these cores, or the host gave them to others; repeat it on an idle machine",
            rows.len(),
            UNSTEADY * 100.0
        )
    })
}

/// What ran on which core, if anything was timed.
fn placement(row: &Row) -> &str {
    if row.placement.is_empty() {
        "-"
    } else {
        &row.placement
    }
}

/// The busy shares during ours and theirs.
fn cpu(row: &Row) -> String {
    let share = |busy: f64| match busy {
        0.0 => "-".to_owned(),
        busy => format!("{busy:.2}"),
    };
    format!("{} / {}", share(row.cpu_ours), share(row.cpu_theirs))
}

/// Different placements, in order of appearance; a row names its own by its number from 1.
fn placements(rows: &[Row]) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| !row.placement.is_empty()) {
        if !all.contains(&row.placement.as_str()) {
            all.push(&row.placement);
        }
    }
    all
}

/// A ratio that a target asks for, with its direction.
fn target(row: &Row) -> String {
    use crate::figures::Better;
    let sign = match row.better {
        Better::Higher => "≥",
        Better::Lower => "≤",
    };
    let of = |name: &str, ratio: Option<f64>| {
        ratio.map(|ratio| format!("{name}{sign} {}", number(ratio)))
    };
    let both = [of("", row.target), of("stretch ", row.stretch)];
    both.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::figures::{Better, Series};

    fn series(values: &[f64]) -> Series {
        let mut series = Series::default();
        for &value in values {
            series.push(value);
        }
        series
    }

    /// One row that is missed, one that is met, one without a target.
    pub(crate) fn rows() -> Vec<Row> {
        let row = |case, better, target| Row {
            placement: "core 1".to_owned(),
            cpu_ours: 0.5,
            cpu_theirs: 1.0,
            ..Row::compare(
                ["fib", case, "rte_<fib> & co", "M/s"],
                (&series(&[90.0, 110.0, 100.0]), &series(&[80.0, 80.0, 80.0])),
                better,
                target,
            )
        };
        vec![
            Row {
                limited_by: Some("bare loads: 120 M/s".to_owned()),
                ..row("missed", Better::Higher, Some(1.5))
            },
            row("met", Better::Higher, Some(1.2)),
            Row {
                placement: "cores 0 and 1".to_owned(),
                ..row("shown", Better::Lower, None)
            },
        ]
    }

    #[test]
    fn figures_keep_three_digits() {
        assert_eq!(
            [0.0, 1234.5, 123.4, 12.34, 1.234, 0.1234, 0.012_34].map(number),
            ["0", "1234", "123", "12.3", "1.23", "0.12", "0.0123"]
        );
    }

    #[test]
    fn targets_say_their_direction() {
        let rows = rows();
        assert_eq!(target(&rows[0]), "≥ 1.50");
        assert_eq!(target(&rows[2]), "");
        let row = Row {
            stretch: Some(0.5),
            target: Some(1.0),
            ..rows[2].clone()
        };
        assert_eq!(target(&row), "≤ 1.00, stretch ≤ 0.50");
    }

    #[test]
    fn placements_are_listed_once() {
        assert_eq!(placements(&rows()), ["core 1", "cores 0 and 1"]);
    }

    #[test]
    fn a_report_is_met_when_every_row_is() {
        let mut report = Report {
            rows: rows(),
            notes: Vec::new(),
        };
        assert!(!report.met());
        report.rows.remove(0);
        assert!(report.met());
    }

    #[test]
    fn rounds_that_differ_are_warned_of() {
        let mut rows = rows();
        assert!(unsteady(&rows).unwrap().contains("in 3 of 3 rows"));
        rows[0].ours_spread = [95.0, 105.0];
        assert_eq!(unsteady(&rows[..1]), None);
        rows[0].theirs_spread = [70.0, 90.0];
        assert!(unsteady(&rows[..1]).is_some());
        rows[0].extreme = true;
        assert_eq!(unsteady(&rows[..1]), None);
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let mut row = rows().remove(0);
        assert_eq!(
            (cpu(&row).as_str(), placement(&row)),
            ("0.50 / 1.00", "core 1")
        );
        (row.cpu_theirs, row.placement) = (0.0, String::new());
        assert_eq!((cpu(&row).as_str(), placement(&row)), ("0.50 / -", "-"));
        assert!(placements(&[row]).is_empty());
    }

    #[test]
    fn a_suite_without_a_row_is_an_error_that_names_the_option() {
        let suite = Suite {
            name: "none",
            about: "",
            run: |_, _| Ok(Report::default()),
        };
        let options = Options {
            rounds: 1,
            quick: false,
            huge_pages: false,
            only: Some("IPv6 dya".to_owned()),
        };
        let error = suite.report(&options, &Interrupt::default()).unwrap_err();
        assert!(error.to_string().contains("--only \"IPv6 dya\""), "{error}");
    }

    #[test]
    fn suites_are_found_by_name() {
        assert_eq!(suite("fib").unwrap().name, "fib");
        let error = suite("fob").unwrap_err().to_string();
        assert!(error.contains("fob") && error.contains("fib"), "{error}");
    }
}
