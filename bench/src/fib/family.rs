//! What the suite needs to know of an address family.

use shunt_fib::v4::V4;
use shunt_fib::v6::V6;
use shunt_fib::{Address, Fib4Config, Fib6Config, FibReader, FibWriter, Footprint, NextHopIndex};
use shunt_rib::{Route, Update};

use super::contest::{BareLoads, Competitor};
use super::crates::CratePeers;

/// A reader of our table.
pub(super) type Reader<F> = FibReader<<F as Family>::Fib>;
/// The writer of our table.
pub(super) type Writer<F> = FibWriter<<F as Family>::Fib>;

/// IPv4 or IPv6: our table, and the peers of that family.
pub(super) trait Family:
    shunt_rib::Address + Address<Net = <Self as shunt_rib::Address>::Net> + CratePeers
{
    /// Our table.
    type Fib: shunt_fib::Family<Address = Self, Table: Send + Sync> + Send;

    /// What people call it.
    const NAME: &'static str;
    /// DPDK's tables for it; the first is the one to beat.
    const DPDK: &'static [Kind];
    /// The ratio to reach against that one, in batches of 32 and of 256.
    const TARGETS: [f64; 2];
    /// The ratio to reach against that one where pods' routes have a tenth of the traffic.
    const POD_TARGET: Option<f64>;
    /// A published rate, in million lookups/s, and whose it is.
    const PUBLISHED: Option<(f64, &'static str)>;
    /// Seconds that the build of the full table may take.
    const BUILD_TARGET: Option<f64>;
    /// Bytes of an address in DPDK's files.
    const ENCODED: usize;

    /// Our table's limits.
    fn config() -> <Self::Fib as shunt_fib::Family>::Config;

    /// What our table takes.
    fn footprint(writer: &Writer<Self>) -> Footprint;

    /// Appends an address in the form of DPDK's files.
    fn encode(self, file: &mut Vec<u8>);

    /// What no table of this family can be faster than, if that can be measured.
    fn ceiling(reader: &Reader<Self>) -> Option<Box<dyn Competitor<Self>>>;
}

/// One of DPDK's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// As `peers/fib_dpdk.c` calls it.
    pub(super) name: &'static str,
    /// As people call it.
    pub(super) label: &'static str,
    /// The results that it writes.
    pub(super) width: Width,
    /// It takes minutes to build.
    pub(super) slow: bool,
}

/// How wide results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// 4 bytes.
    U32,
    /// 8 bytes.
    U64,
}

impl Family for u32 {
    type Fib = V4;

    const NAME: &'static str = "IPv4";
    const DPDK: &'static [Kind] = &[
        Kind {
            name: "fib2",
            label: "rte_fib 2-byte AVX512",
            width: Width::U64,
            slow: false,
        },
        Kind {
            name: "fib4",
            label: "rte_fib 4-byte AVX512",
            width: Width::U64,
            slow: false,
        },
        Kind {
            name: "lpm",
            label: "rte_lpm bulk",
            width: Width::U32,
            slow: true,
        },
    ];
    const TARGETS: [f64; 2] = [1.2, 1.5];
    const POD_TARGET: Option<f64> = Some(1.0);
    const PUBLISHED: Option<(f64, &'static str)> = None;
    const BUILD_TARGET: Option<f64> = Some(0.2);
    const ENCODED: usize = 4;

    fn config() -> Fib4Config {
        Fib4Config::default()
    }

    fn footprint(writer: &Writer<Self>) -> Footprint {
        writer.memory().total()
    }

    fn encode(self, file: &mut Vec<u8>) {
        file.extend(self.to_ne_bytes());
    }

    fn ceiling(reader: &Reader<Self>) -> Option<Box<dyn Competitor<Self>>> {
        Some(Box::new(BareLoads::new(reader)))
    }
}

impl Family for u128 {
    type Fib = V6;

    const NAME: &'static str = "IPv6";
    const DPDK: &'static [Kind] = &[
        Kind {
            name: "fib6",
            label: "rte_fib6 4-byte AVX512",
            width: Width::U64,
            slow: false,
        },
        Kind {
            name: "lpm6",
            label: "rte_lpm6 bulk",
            width: Width::U32,
            slow: false,
        },
    ];
    const TARGETS: [f64; 2] = [1.5, 1.5];
    const POD_TARGET: Option<f64> = None;
    const PUBLISHED: Option<(f64, &'static str)> = Some((390.0, "PlanB (NSDI'26)"));
    const BUILD_TARGET: Option<f64> = None;
    const ENCODED: usize = 16;

    fn config() -> Fib6Config {
        Fib6Config::default()
    }

    fn footprint(writer: &Writer<Self>) -> Footprint {
        writer.memory().total()
    }

    fn encode(self, file: &mut Vec<u8>) {
        file.extend(self.to_be_bytes());
    }

    /// A first level of 24 bits answers few addresses: its load bounds nothing.
    fn ceiling(_: &Reader<Self>) -> Option<Box<dyn Competitor<Self>>> {
        None
    }
}

/// The hop as our table takes it, so that its raw form is the hop itself.
pub(super) fn index(hop: u16) -> NextHopIndex {
    NextHopIndex::from_raw(hop).unwrap_or_else(|| panic!("{hop} is no hop of a routing table"))
}

/// Routes in the form of DPDK's files.
pub(super) fn encode_routes<F: Family>(routes: &[Route<F>]) -> Vec<u8> {
    let mut file = Vec::new();
    for &(net, hop) in routes {
        record::<F>(&mut file, net, hop);
    }
    file
}

/// Updates in the form of DPDK's files: hop 0 withdraws.
pub(super) fn encode_updates<F: Family>(updates: &[Update<F>]) -> Vec<u8> {
    let mut file = Vec::new();
    for update in updates {
        match *update {
            Update::Announce(net, hop) => record::<F>(&mut file, net, hop),
            Update::Withdraw(net) => record::<F>(&mut file, net, 0),
        }
    }
    file
}

/// Addresses in the form of DPDK's files.
pub(super) fn encode_addresses<F: Family>(addresses: &[F]) -> Vec<u8> {
    let mut file = Vec::with_capacity(addresses.len() * F::ENCODED);
    addresses
        .iter()
        .for_each(|address| address.encode(&mut file));
    file
}

/// `struct route4` and `struct route6` of `peers/fib_dpdk.h`.
fn record<F: Family>(file: &mut Vec<u8>, net: <F as shunt_rib::Address>::Net, hop: u16) {
    F::first(net).encode(file);
    file.extend([F::prefix_len(net), 0]);
    file.extend(hop.to_ne_bytes());
    if F::ENCODED == 16 {
        file.extend([0; 4]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_the_peer_reads_them() {
        let net = "10.1.0.0/16".parse().unwrap();
        let address = 0x0a01_0000_u32.to_ne_bytes();
        let hop = 0x0102_u16.to_ne_bytes();
        let record = |hop: [u8; 2]| [&address[..], &[16, 0], &hop].concat();
        assert_eq!(encode_routes::<u32>(&[(net, 0x0102)]), record(hop));
        assert_eq!(
            encode_updates::<u32>(&[Update::Announce(net, 0x0102), Update::Withdraw(net)]),
            [record(hop), record([0; 2])].concat()
        );
        assert_eq!(encode_addresses(&[0x0a01_0000_u32]), address);

        let net = "2001:db8::/32".parse().unwrap();
        let address = [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 12]].concat();
        assert_eq!(
            encode_routes::<u128>(&[(net, 0x0102)]),
            [&address[..], &[32, 0], &hop, &[0; 4]].concat()
        );
        assert_eq!(encode_addresses(&[0x2001_0db8_u128 << 96]), address);
    }

    #[test]
    fn hops_are_raw_values() {
        for hop in [1, 255] {
            assert_eq!(index(hop).to_raw(), hop);
        }
    }
}
