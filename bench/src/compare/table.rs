//! The report in the terminal.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::{Outcome, Report, cpu, number, placements, spread, target, unsteady};
use crate::figures::Row;

/// The report as text; missed targets red and met ones green if `colour`.
pub fn render(report: &Report, colour: bool) -> String {
    let placements = placements(&report.rows);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "case", "peer", "unit", "ours", "theirs", "ratio", "target", "", "CPU", "on",
    ]);
    if colour {
        table.enforce_styling();
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty();
    }
    let mut above = "";
    for row in &report.rows {
        table.add_row(cells(row, above, &placements));
        above = &row.case;
    }
    for column in [3, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{table}\n");
    text.push_str("ours, theirs: median [smallest, largest] of the rounds; CPU: ours / theirs, - is not measured\n");
    for (number, placement) in (1..).zip(&placements) {
        let _ = writeln!(text, "on {number}: {placement}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "{note}");
    }
    if let Some(note) = unsteady(&report.rows) {
        let _ = writeln!(text, "{note}");
    }
    for row in report.rows.iter().filter(|row| !row.met) {
        let (red, plain) = if colour {
            ("\x1b[31m", "\x1b[0m")
        } else {
            ("", "")
        };
        let _ = writeln!(text, "{red}{}{plain}", missed(row));
    }
    text
}

/// The cells of a row; a case that stands in the row `above` is not said again.
fn cells(row: &Row, above: &str, placements: &[&str]) -> Vec<Cell> {
    let outcome = Outcome::of(row);
    let paint = |cell: Cell| match outcome {
        Outcome::Shown => cell,
        Outcome::Met => cell.fg(Color::Green),
        Outcome::Missed => cell.fg(Color::Red).add_attribute(Attribute::Bold),
    };
    let on = placements.iter().position(|&p| p == row.placement);
    vec![
        Cell::new(if row.case == above { "" } else { &row.case }),
        Cell::new(&row.peer),
        Cell::new(&row.unit),
        Cell::new(spread(row.ours, row.ours_spread)),
        Cell::new(spread(row.theirs, row.theirs_spread)),
        paint(Cell::new(number(row.ratio))),
        Cell::new(target(row)),
        paint(Cell::new(outcome.text())),
        Cell::new(cpu(row)),
        Cell::new(on.map_or("-".to_owned(), |on| (on + 1).to_string())),
    ]
}

/// One line about a target that was not reached.
fn missed(row: &Row) -> String {
    let limit = row.limited_by.as_ref();
    format!(
        "MISSED: {}, against {}: {} of {} asked for{}",
        row.case,
        row.peer,
        number(row.ratio),
        target(row),
        limit.map_or(String::new(), |limit| format!("; limit: {limit}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::rows;

    fn report() -> Report {
        Report {
            rows: rows(),
            notes: vec!["a note".to_owned()],
        }
    }

    #[test]
    fn a_report_says_it_all() {
        let text = render(&report(), false);
        assert!(!text.contains('\x1b'), "{text}");
        for part in [
            "100.0 [90.0, 110.0]",
            "80.0 [80.0, 80.0]",
            "≥ 1.50",
            "0.50 / 1.00",
            "on 2: cores 0 and 1",
            "a note",
            "in 3 of 3 rows",
            "MISSED: missed, against rte_<fib> & co: 1.25 of ≥ 1.50 asked for; \
             limit: bare loads: 120 M/s",
        ] {
            let part = part.replace("100.0 [90.0, 110.0]", "100 [90.0, 110]");
            assert!(text.contains(&part), "{part}\n{text}");
        }
        assert_eq!(text.matches("MISSED:").count(), 1);
    }

    #[test]
    fn a_case_is_said_once() {
        let mut report = report();
        report.rows[1].case = report.rows[0].case.clone();
        report.rows[0].met = true;
        assert_eq!(render(&report, false).matches("│ missed ").count(), 1);
    }

    #[test]
    fn missed_targets_are_red() {
        let text = render(&report(), true);
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("\x1b[31mMISSED"), "{last}");
        let line = text.lines().find(|line| line.contains("missed")).unwrap();
        assert!(
            line.contains("\x1b[38;5;9m") || line.contains("\x1b[31m"),
            "{line:?}"
        );
    }
}
