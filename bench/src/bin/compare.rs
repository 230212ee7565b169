//! Shunt beside its peers, suite by suite.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use shunt_bench::compare::{self, Options, Output, SUITES, html, table};
use shunt_bench::figures::json;
use shunt_bench::interrupt::Interrupt;

/// Measures Shunt and its peers in turns and compares them. Takes root for installing peers, and
/// an otherwise idle machine. Ends with 1 if a target is missed.
#[derive(Debug, Parser)]
#[command(after_help = suites())]
struct Arguments {
    /// Which comparison; see the list below.
    suite: String,
    /// Rounds; each measures every competitor once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Writes the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the report as one page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Leaves out peers that take minutes to prepare.
    #[arg(long)]
    quick: bool,
    /// Only the cases whose names begin so, such as "IPv6 full table, Zipf".
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The memory pages of all competitors.
    #[arg(long, value_enum, default_value_t = Pages::Default)]
    pages: Pages,
}

/// Memory pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pages {
    /// What the machine gives unasked.
    Default,
    /// Transparent huge pages, switched on for the run.
    Huge,
}

fn suites() -> String {
    let lines = SUITES
        .iter()
        .map(|suite| format!("\n  {:<10}{}", suite.name, suite.about));
    format!("Suites:{}", lines.collect::<String>())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    Interrupt::main(|interrupt| program(&arguments, interrupt))
}

fn program(arguments: &Arguments, interrupt: &Interrupt) -> Result<ExitCode> {
    let suite = compare::suite(&arguments.suite)?;
    let options = Options {
        rounds: arguments.rounds,
        quick: arguments.quick,
        huge_pages: arguments.pages == Pages::Huge,
        only: arguments.only.clone(),
    };
    let open = |path: &Option<PathBuf>| path.as_deref().map(Output::open).transpose();
    let (rows, page) = (open(&arguments.json)?, open(&arguments.html)?);
    let report = suite.report(&options, interrupt)?;
    if let Some(output) = rows {
        output.write(&json(&report.rows)?)?;
    }
    if let Some(output) = page {
        output.write(&html::page(&format!("compare {}", suite.name), &report))?;
    }
    print!(
        "{}",
        table::render(&report, std::io::stdout().is_terminal())
    );
    Ok(if report.met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
