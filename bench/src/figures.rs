//! Figures of repeated rounds, and rows that compare two of them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One figure, measured once a round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds a round's.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Rounds so far.
    pub fn rounds(&self) -> usize {
        self.0.len()
    }

    /// The middle one, or the mean of the two middle ones; 0 without rounds.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        }
    }

    /// Round by round, this one's value / the other's.
    fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// The smallest and the largest; zeros without rounds.
    pub fn spread(&self) -> [f64; 2] {
        let min = self.0.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let max = self.0.iter().copied().reduce(f64::max).unwrap_or(0.0);
        [min, max]
    }
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Rates.
    Higher,
    /// Times, memory.
    Lower,
}

/// One compared figure, as programs read it: an array of these is the JSON of every comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The group of cases.
    pub suite: String,
    /// What was measured.
    pub case: String,
    /// What it is compared with.
    pub peer: String,
    /// The unit of `ours` and `theirs`.
    pub unit: String,
    /// Median of our rounds.
    pub ours: f64,
    /// Median of the peer's rounds.
    pub theirs: f64,
    /// Ours / theirs: of the medians, or the median of the rounds' where they were measured in
    /// pairs.
    pub ratio: f64,
    /// Which way is better.
    pub better: Better,
    /// The ratio to reach.
    pub target: Option<f64>,
    /// The ratio to dream of.
    pub stretch: Option<f64>,
    /// Whether the target is reached.
    pub met: bool,
    /// Rounds.
    pub rounds: usize,
    /// Our smallest and largest round.
    pub ours_spread: [f64; 2],
    /// The peer's.
    pub theirs_spread: [f64; 2],
    /// What ran on which core; empty if nothing was timed.
    pub placement: String,
    /// Busy share of the cores during our rounds, summed: 2 is two cores fully busy. 0 if it was
    /// not measured.
    pub cpu_ours: f64,
    /// The same during the peer's.
    pub cpu_theirs: f64,
    /// What keeps the figure from being larger, if that was seen.
    pub limited_by: Option<String>,
    /// The largest of many: it differs from round to round by nature.
    #[serde(skip)]
    pub extreme: bool,
}

impl Row {
    /// A row of two series; ratio and `met` follow. The rest is for the caller to fill in.
    pub fn compare(
        [suite, case, peer, unit]: [&str; 4],
        (ours, theirs): (&Series, &Series),
        better: Better,
        target: Option<f64>,
    ) -> Self {
        let ratio = ours.median() / theirs.median();
        Self {
            suite: suite.to_owned(),
            case: case.to_owned(),
            peer: peer.to_owned(),
            unit: unit.to_owned(),
            ours: ours.median(),
            theirs: theirs.median(),
            ratio,
            better,
            target,
            stretch: None,
            met: reaches(ratio, better, target),
            rounds: ours.rounds().min(theirs.rounds()),
            ours_spread: ours.spread(),
            theirs_spread: theirs.spread(),
            placement: String::new(),
            cpu_ours: 0.0,
            cpu_theirs: 0.0,
            limited_by: None,
            extreme: false,
        }
    }

    /// The same of two series that were measured in pairs: the ratio is the median of those of the
    /// rounds.
    pub fn paired(
        names: [&str; 4],
        (ours, theirs): (&Series, &Series),
        better: Better,
        target: Option<f64>,
    ) -> Self {
        let ratio = ours.over(theirs).median();
        Self {
            ratio,
            met: reaches(ratio, better, target),
            ..Self::compare(names, (ours, theirs), better, target)
        }
    }

    /// A row against a number asked for instead of a peer.
    pub fn asked(
        [suite, case, unit]: [&str; 3],
        ours: &Series,
        number: f64,
        better: Better,
    ) -> Self {
        let peer = format!("asked for: {number} {unit}");
        let number = Series(vec![number]);
        Self {
            rounds: ours.rounds(),
            ..Self::compare(
                [suite, case, &peer, unit],
                (ours, &number),
                better,
                Some(1.0),
            )
        }
    }
}

fn reaches(ratio: f64, better: Better, target: Option<f64>) -> bool {
    target.is_none_or(|target| match better {
        Better::Higher => ratio >= target,
        Better::Lower => ratio <= target,
    })
}

/// Rows as a JSON array.
///
/// # Errors
/// They cannot be serialized.
pub fn json(rows: &[Row]) -> Result<String> {
    let mut text = serde_json::to_string_pretty(rows)?;
    text.push('\n');
    Ok(text)
}

/// Writes rows as a JSON array.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, rows: &[Row]) -> Result<()> {
    std::fs::write(path, json(rows)?).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series(values.to_vec())
    }

    #[test]
    fn medians_and_spreads() {
        assert_eq!(series(&[]).median(), 0.0);
        assert_eq!(series(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(series(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(series(&[3.0, 1.0, 2.0]).spread(), [1.0, 3.0]);
        assert_eq!(series(&[]).spread(), [0.0, 0.0]);
    }

    #[test]
    fn a_row_meets_its_target_in_its_own_direction() {
        let row = |better, target| {
            let names = ["pps", "l3", "bare", "kpps"];
            Row::compare(names, (&series(&[96.0]), &series(&[100.0])), better, target)
        };
        assert!(row(Better::Higher, Some(0.95)).met);
        assert!(!row(Better::Higher, Some(0.97)).met);
        assert!(row(Better::Lower, Some(0.97)).met);
        assert!(!row(Better::Lower, Some(0.95)).met);
        assert!(row(Better::Higher, None).met);
    }

    #[test]
    fn pairs_are_compared_round_by_round() {
        let (ours, theirs) = (series(&[96.0, 48.0, 10.0]), series(&[100.0, 50.0, 20.0]));
        let row = |target| {
            let names = ["fib", "reader", "itself", "M/s"];
            Row::paired(names, (&ours, &theirs), Better::Higher, target)
        };
        assert_eq!(row(None).ratio, 0.96);
        assert!(row(Some(0.95)).met && !row(Some(0.97)).met);
    }

    #[test]
    fn a_number_asked_for_is_the_target() {
        let row = Row::asked(
            ["fib", "updates", "M/s"],
            &series(&[3.0, 5.0]),
            4.0,
            Better::Higher,
        );
        assert!(row.met && row.ratio == 1.0 && row.rounds == 2);
        assert_eq!(row.peer, "asked for: 4 M/s");
        let row = Row::asked(["fib", "p99", "us"], &series(&[3.0]), 1.0, Better::Lower);
        assert!(!row.met);
    }

    #[test]
    fn the_json_has_the_agreed_keys() {
        let rounds = series(&[1.0, 3.0]);
        let row = Row::compare(
            ["pps", "l3", "bare", "kpps"],
            (&rounds, &rounds),
            Better::Higher,
            Some(0.95),
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        write_json(file.path(), &[row]).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut keys: Vec<_> = value[0].as_object().unwrap().keys().cloned().collect();
        keys.sort();
        let agreed = "better case cpu_ours cpu_theirs limited_by met ours ours_spread peer \
                      placement ratio rounds stretch suite target theirs theirs_spread unit";
        assert_eq!(keys.join(" "), agreed);
        assert_eq!(value[0]["better"], "higher");
        assert_eq!(value[0]["ours_spread"], serde_json::json!([1.0, 3.0]));
        assert!(value[0]["limited_by"].is_null());
    }
}
