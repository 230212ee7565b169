//! The report as one page without anything from elsewhere.

use std::fmt::Write;

use super::{Outcome, Report, cpu, number, placement, spread, target, unsteady};

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
small { color: #777; }
.met { color: #17692b; }
.missed { color: #b3001b; font-weight: bold; }
</style>
";

/// The page.
pub fn page(title: &str, report: &Report) -> String {
    let title = escaped(title);
    let mut page = format!("{HEAD}<title>{title}</title></head><body><h1>{title}</h1>\n<ul>\n");
    for note in report.notes.iter().cloned().chain(unsteady(&report.rows)) {
        let _ = writeln!(page, "<li>{}</li>", escaped(&note));
    }
    page.push_str("</ul>\n<table>\n<tr>");
    for head in [
        "case",
        "peer",
        "unit",
        "ours",
        "theirs",
        "ratio",
        "target",
        "",
        "CPU",
        "placement",
    ] {
        let _ = write!(page, "<th>{head}</th>");
    }
    page.push_str("</tr>\n");
    for row in &report.rows {
        let outcome = Outcome::of(row);
        let class = match outcome {
            Outcome::Shown => "",
            Outcome::Met => "met",
            Outcome::Missed => "missed",
        };
        let limit = row.limited_by.as_ref().filter(|_| !row.met);
        let limit = limit.map_or(String::new(), |limit| {
            format!("<br><small>limit: {}</small>", escaped(limit))
        });
        let _ = writeln!(
            page,
            "<tr><td>{}{limit}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n {class}\">{}</td><td>{}</td>\
             <td class=\"{class}\">{}</td><td class=\"n\">{}</td>\
             <td><small>{}</small></td></tr>",
            escaped(&row.case),
            escaped(&row.peer),
            escaped(&row.unit),
            spread(row.ours, row.ours_spread),
            spread(row.theirs, row.theirs_spread),
            number(row.ratio),
            target(row),
            outcome.text(),
            cpu(row),
            escaped(placement(row)),
        );
    }
    page.push_str(
        "</table>\n<p>ours, theirs: median [smallest, largest] of the rounds. CPU: busy share of \
         the cores during ours / theirs; - is not measured.</p>\n</body></html>\n",
    );
    page
}

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::rows;

    #[test]
    fn a_page_holds_every_row_and_nothing_from_elsewhere() {
        let report = Report {
            rows: rows(),
            notes: vec!["1 < 2".to_owned()],
        };
        let page = page("compare \"fib\"", &report);
        assert_eq!(page.matches("<tr>").count(), 1 + report.rows.len());
        assert_eq!(page.matches("class=\"n missed\"").count(), 1);
        assert_eq!(page.matches("class=\"n met\"").count(), 1);
        for part in [
            "rte_&lt;fib&gt; &amp; co",
            "1 &lt; 2",
            "bare loads",
            "&quot;fib&quot;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("http") && !page.contains("src="));
    }
}
