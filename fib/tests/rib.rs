//! A day of BGP updates replayed over the full routing table, every answer compared with the
//! oracle's. Where the real table is not at hand, shunt-rib makes one up of the same make-up.

use std::array;

use shunt_fib::{
    Family, Fib4Config, Fib4Writer, Fib6Config, Fib6Writer, FibReader, FibWriter, NextHopIndex,
};
use shunt_rib::{Oracle, Route, Table, Update, Updates, probes, routes, traffic};

/// Routes longer than BGP's that are there before the replay, in blocks drawn alike.
const STANDING_PODS: usize = 12_000;
/// And those in blocks drawn as often as they are updated: the routes around them change.
const BUSY_PODS: usize = 6_000;
/// Updates between one such route's coming or going and the next.
const POD_EVERY: usize = 40;
/// Updates between full comparisons.
const COMPARE_EVERY: usize = 100_000;
/// Random addresses of a full comparison, beside the edges of all routes.
const RANDOM: usize = 1_000_000;
/// Random addresses of the last one.
const RANDOM_AT_END: usize = 4_000_000;
/// Addresses of a batch after an update: more than the tables take through their levels at a time,
/// and not a multiple of the probes' number, so that these come to every place.
const BATCH: usize = 69;

/// An address that both crates know.
trait Address:
    shunt_rib::Address + shunt_fib::Address<Net = <Self as shunt_rib::Address>::Net>
{
}

impl<A> Address for A where
    A: shunt_rib::Address + shunt_fib::Address<Net = <A as shunt_rib::Address>::Net>
{
}

/// A table and the oracle, which are given the same updates.
struct Replay<F: Family>
where
    F::Address: Address,
{
    writer: FibWriter<F>,
    reader: FibReader<F>,
    oracle: Oracle<F::Address>,
    /// The addresses probed last, in a ring.
    recent: [F::Address; BATCH],
    probed: usize,
}

impl<F: Family> Replay<F>
where
    F::Address: Address,
{
    fn new(mut writer: FibWriter<F>) -> Self {
        let reader = writer.reader().unwrap();
        Self {
            writer,
            reader,
            oracle: Oracle::new(&[]),
            recent: [<F::Address as shunt_fib::Address>::ZERO; BATCH],
            probed: 0,
        }
    }

    fn apply(&mut self, update: Update<F::Address>) {
        let (old, expected) = match update {
            Update::Announce(net, hop) => {
                let value = NextHopIndex::new(hop).unwrap();
                let old = self.writer.insert(net, value);
                (old, self.oracle.insert(net, hop))
            }
            Update::Withdraw(net) => (self.writer.remove(net), self.oracle.remove(net)),
        };
        let old = old.unwrap_or_else(|error| panic!("{update:?}: {error}"));
        assert_eq!(old.map(NextHopIndex::get), expected, "{update:?}");
    }

    /// Applies an update and compares what the reader finds at and around its prefix: few
    /// addresses, which are looked up one by one, the same again and again, and with others.
    fn apply_and_probe(&mut self, update: Update<F::Address>) {
        self.apply(update);
        let addresses = probes::<F::Address>(update.net());
        let expected = addresses.map(|address| self.oracle.lookup(address));
        self.compare_at(&addresses, &expected);
        let repeated = array::from_fn::<_, BATCH, _>(|i| addresses[i % addresses.len()]);
        let mut raw = [0_u16; BATCH];
        self.reader.lookup_batch(&repeated, &mut raw);
        for (i, (address, raw)) in repeated.into_iter().zip(raw).enumerate() {
            check(address, raw, expected[i % expected.len()]);
        }

        for address in addresses {
            self.recent[self.probed % BATCH] = address;
            self.probed += 1;
        }
        self.reader.lookup_batch(&self.recent, &mut raw);
        for (address, raw) in self.recent.into_iter().zip(raw) {
            // Some of them are this update's, for which the oracle has spoken.
            let alone = self.reader.lookup(address.into());
            assert_eq!(
                NextHopIndex::from_raw(raw),
                alone,
                "{address:x?} in a batch"
            );
        }
        self.reader.quiescent();
    }

    /// Compares the routes in order, and what the reader finds at the edges and in the middle of
    /// every range of addresses with one answer, and at random.
    fn compare(&mut self, random: usize, seed: u64) {
        let routes = self.oracle.routes();
        assert_eq!(self.writer.len(), routes.len());
        let listed = self.writer.iter().map(|(net, hop)| (net, hop.get()));
        if let Some((listed, expected)) = listed.zip(&routes).find(|(a, b)| a != *b) {
            panic!("the writer lists {listed:?} for {expected:?}");
        }
        assert_eq!(self.writer.iter().count(), routes.len());

        let intervals = shunt_rib::Intervals::new(&routes);
        let mut addresses = Vec::with_capacity(3 * intervals.iter().len());
        let mut expected = Vec::with_capacity(3 * intervals.iter().len());
        for interval in intervals.iter() {
            addresses.extend(interval.probes());
            expected.extend([interval.route; 3]);
        }
        self.compare_at(&addresses, &expected);

        let mut addresses = traffic::random::<F::Address>(random, seed);
        addresses.sort_unstable();
        self.compare_at(&addresses, &intervals.lookup_sorted(&addresses));
    }

    fn compare_at(&self, addresses: &[F::Address], expected: &[Option<(u8, u16)>]) {
        let mut raw = vec![0_u16; addresses.len()];
        self.reader.lookup_batch(addresses, &mut raw);
        self.reader.quiescent();
        for ((address, raw), expected) in addresses.iter().zip(raw).zip(expected) {
            check(*address, raw, *expected);
        }
    }
}

fn check<A: Address>(address: A, raw: u16, expected: Option<(u8, u16)>) {
    let found = NextHopIndex::from_raw(raw).map(NextHopIndex::get);
    if found != expected.map(|(_, hop)| hop) {
        let host = address.to_net(<A as shunt_rib::Address>::BITS);
        panic!("{host:?}: next hop {found:?}, but the oracle's length and hop are {expected:?}");
    }
}

/// The pods' routes: those that stand from the beginning, and those that come and go.
fn pods<A: Address>(table: &[Route<A>], updates: &[Update<A>]) -> (Vec<Route<A>>, Vec<Route<A>>) {
    let busy: Vec<Route<A>> = updates.iter().map(|update| (update.net(), 1)).collect();
    let mut standing = routes::pod_routes::<A>(table, STANDING_PODS, 1);
    standing.extend(routes::pod_routes::<A>(&busy, BUSY_PODS, 2));
    let mut moving = routes::pod_routes::<A>(table, STANDING_PODS / 4, 3);
    moving.extend(routes::pod_routes::<A>(&busy, BUSY_PODS, 4));
    (standing, moving)
}

fn a_day<F: Family>(writer: FibWriter<F>)
where
    F::Address: Address,
{
    let table = Table::<F::Address>::load().unwrap();
    let day = Updates::load(&table).unwrap().with_changing_hops().updates;
    let (standing, moving) = pods(&table.routes, &day);
    let mut replay = Replay::new(writer);

    for (net, hop) in table.routes {
        replay.apply(Update::Announce(net, hop));
    }
    for (net, hop) in standing {
        replay.apply_and_probe(Update::Announce(net, hop));
    }
    replay.compare(RANDOM, 0);

    let everything = shunt_rib::Address::net(<F::Address as shunt_fib::Address>::ZERO, 0);
    let mut moving = moving.into_iter().cycle();
    for (block, updates) in (1..).zip(day.chunks(COMPARE_EVERY)) {
        // Now with a default route, now without.
        replay.apply_and_probe(match block % 2 {
            0 => Update::Withdraw(everything),
            _ => Update::Announce(everything, 256),
        });
        for (index, update) in updates.iter().enumerate() {
            replay.apply_and_probe(*update);
            if index % POD_EVERY == 0
                && let Some((net, hop)) = moving.next()
            {
                replay.apply_and_probe(match replay.oracle.get(net) {
                    Some(_) => Update::Withdraw(net),
                    None => Update::Announce(net, hop),
                });
            }
        }
        let is_last = block as usize * COMPARE_EVERY >= day.len();
        let random = if is_last { RANDOM_AT_END } else { RANDOM };
        replay.compare(random, block);
    }
}

#[test]
fn ipv4_gives_the_oracles_answers_all_day() {
    a_day(Fib4Writer::new(Fib4Config::default()).unwrap());
}

#[test]
fn ipv6_gives_the_oracles_answers_all_day() {
    a_day(Fib6Writer::new(Fib6Config::default()).unwrap());
}
