//! Stations that move to and fro between ports: a loop, two pods with one MAC address, or somebody
//! who wants another's frames.

use std::collections::HashMap;

use shunt_api::MacAddr;

/// Moves within [`WINDOW`] that a station may make: a pod that is started anew makes one.
const MOVES: u32 = 5;
/// Seconds in which moves are counted together.
const WINDOW: u32 = 10;
/// Seconds for which a station that moves too much stays where it is.
const HOLD: u32 = 60;
/// Stations that are watched at most.
const WATCHED: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Moves {
    since: u32,
    count: u32,
    held_until: u32,
}

/// The moves of all stations.
#[derive(Debug, Default)]
pub(crate) struct Flaps(HashMap<MacAddr, Moves>);

/// What becomes of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damped {
    /// It may.
    Moves,
    /// It moves too much: from now on it stays.
    HeldNow,
    /// It stays.
    Held,
}

impl Flaps {
    /// A station is about to move, in second `now` of the switch's clock.
    pub(crate) fn moves(&mut self, mac: MacAddr, now: u32) -> Damped {
        if self.0.len() >= WATCHED {
            self.0.retain(|_, moves| {
                now < moves.held_until || now.saturating_sub(moves.since) < WINDOW
            });
        }
        if self.0.len() >= WATCHED && !self.0.contains_key(&mac) {
            // So many at once are no pods that move.
            return Damped::Held;
        }
        let moves = self.0.entry(mac).or_insert(Moves {
            since: now,
            count: 0,
            held_until: 0,
        });
        if now < moves.held_until {
            return Damped::Held;
        }
        if now.saturating_sub(moves.since) >= WINDOW {
            (moves.since, moves.count) = (now, 0);
        }
        moves.count += 1;
        if moves.count <= MOVES {
            return Damped::Moves;
        }
        moves.held_until = now.saturating_add(HOLD);
        Damped::HeldNow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_station_moves_a_few_times_and_then_stays_for_a_while() {
        let mut flaps = Flaps::default();
        for _ in 0..MOVES {
            assert_eq!(flaps.moves(MAC, 100), Damped::Moves);
        }
        assert_eq!(flaps.moves(MAC, 101), Damped::HeldNow);
        assert_eq!(flaps.moves(MAC, 102), Damped::Held);
        assert_eq!(flaps.moves(MAC, 101 + HOLD - 1), Damped::Held);
        assert_eq!(flaps.moves(MAC, 101 + HOLD), Damped::Moves);
        let other = MacAddr([2, 0, 0, 0, 0, 2]);
        assert_eq!(flaps.moves(other, 102), Damped::Moves, "others are free");
    }

    #[test]
    fn a_station_that_moves_now_and_then_is_never_held() {
        let mut flaps = Flaps::default();
        for n in 0..100 {
            assert_eq!(flaps.moves(MAC, n * (WINDOW / 2)), Damped::Moves);
        }
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let mut flaps = Flaps::default();
        for n in 0..WATCHED as u32 {
            let [a, b, c, d] = n.to_be_bytes();
            assert_eq!(flaps.moves(MacAddr([2, 0, a, b, c, d]), 5), Damped::Moves);
        }
        assert_eq!(flaps.moves(MacAddr([6; 6]), 5), Damped::Held);
        assert_eq!(flaps.moves(MacAddr([6; 6]), 5 + WINDOW), Damped::Moves);
        assert_eq!(flaps.0.len(), 1);
    }
}
