//! Which known word a mistyped one is close to.

/// `, did you mean ...?` when one of the known words is close.
pub(super) fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let folded = word.to_ascii_lowercase().replace('-', "_");
    known
        .map(|known| (edit_distance(&folded, known), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| format!(", did you mean `{known}`?"))
        .unwrap_or_default()
}

/// Levenshtein's distance: insertions, deletions and substitutions of bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_edits() {
        for (a, b, distance) in [
            ("", "", 0),
            ("cores", "cores", 0),
            ("core", "cores", 1),
            ("", "ttl", 3),
            ("tll", "ttl", 1),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn suggestions_are_close_or_absent() {
        let known = || ["cores", "batch", "rx_frames"].into_iter();
        assert_eq!(did_you_mean("core", known()), ", did you mean `cores`?");
        assert_eq!(
            did_you_mean("RX-frames", known()),
            ", did you mean `rx_frames`?"
        );
        assert_eq!(did_you_mean("threads", known()), "");
    }
}
