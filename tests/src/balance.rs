//! The books: every frame that came in is accounted for.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use shunt_api::StatsReport;

/// Demands `received + generated = transmitted + sum of drops + consumed + in_flight`, and that
/// the ports' own counters do not claim more than the whole.
///
/// # Errors
/// When the books do not balance; the message has both sides.
pub fn must_balance(stats: &StatsReport) -> Result<()> {
    let dropped: u64 = stats.drops.values().sum();
    let entered = stats.received + stats.generated;
    let left = stats.transmitted + dropped + stats.consumed + stats.in_flight;
    ensure!(
        entered == left,
        "the books do not balance: received {} + generated {} = {entered}, but transmitted {} + \
         dropped {dropped} {:?} + consumed {} + in flight {} = {left}",
        stats.received,
        stats.generated,
        stats.transmitted,
        stats.drops,
        stats.consumed,
        stats.in_flight
    );
    let received: u64 = stats.ports.iter().map(|port| port.rx_packets).sum();
    let transmitted: u64 = stats.ports.iter().map(|port| port.tx_packets).sum();
    ensure!(
        received <= stats.received && transmitted <= stats.transmitted,
        "ports claim {received} received and {transmitted} transmitted, the whole is {} and {}",
        stats.received,
        stats.transmitted
    );
    ensure!(
        stats.pool_free <= stats.pool_total,
        "{} frames free in a pool of {}",
        stats.pool_free,
        stats.pool_total
    );
    Ok(())
}

/// What was dropped between two reports, by reason; reasons without a new drop are absent.
pub fn drops_between(before: &StatsReport, after: &StatsReport) -> BTreeMap<String, u64> {
    after
        .drops
        .iter()
        .filter_map(|(reason, now)| {
            let was = before.drops.get(reason).copied().unwrap_or(0);
            (*now > was).then(|| (reason.clone(), now - was))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_frame_is_found() {
        let mut stats = StatsReport {
            received: 3,
            generated: 1,
            ..Default::default()
        };
        assert!(must_balance(&stats).is_err());
        stats.transmitted = 2;
        stats.consumed = 1;
        stats.drops.insert("no_route".to_owned(), 1);
        assert!(must_balance(&stats).is_ok());
        stats.in_flight = 1;
        assert!(
            must_balance(&stats)
                .unwrap_err()
                .to_string()
                .contains("= 5")
        );
    }

    #[test]
    fn only_new_drops_are_reported() {
        let mut before = StatsReport::default();
        before.drops.insert("no_route".to_owned(), 2);
        let mut after = before.clone();
        after.drops.insert("no_route".to_owned(), 2);
        after.drops.insert("wrong_vni".to_owned(), 1);
        let new = drops_between(&before, &after);
        assert_eq!(
            new.into_iter().collect::<Vec<_>>(),
            [("wrong_vni".to_owned(), 1)]
        );
    }
}
