//! What only one table of a list may claim.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::hash::Hash;

use super::super::error::Report;
use super::super::spec::Fault;

/// One of the tables `[[table]]`, counted from 1.
pub(super) struct Place {
    pub(super) table: &'static str,
    pub(super) number: usize,
}

impl Place {
    fn key(&self, field: &str) -> String {
        format!("{}[{}].{field}", self.table, self.number)
    }

    /// Whether the field holds what the file says. Of a list, bad items were left out; a single
    /// bad value was replaced.
    pub(super) fn judged(&self, field: &str, report: &Report) -> bool {
        const LISTS: [&str; 3] = ["addresses", "allowed_addresses", "allowed_macs"];
        LISTS.contains(&field) || report.sound(&self.key(field))
    }

    pub(super) fn faults(&self, faults: Vec<Fault>, report: &mut Report) {
        for Fault { field, message } in faults {
            report.fault(self.key(field), message);
        }
    }
}

/// Things that only one table may claim.
pub(super) struct Once<T>(HashMap<T, usize>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Once<T> {
    pub(super) fn claim(
        &mut self,
        thing: T,
        at: &Place,
        field: &'static str,
        text: &dyn Display,
        report: &mut Report,
    ) {
        if !at.judged(field, report) {
            return;
        }
        match self.0.entry(thing) {
            Entry::Vacant(free) => {
                free.insert(at.number);
            }
            Entry::Occupied(first) => {
                let (table, first) = (at.table, first.get());
                let message = format!("{text} is that of {table}[{first}] too: give each its own");
                at.faults(vec![Fault { field, message }], report);
            }
        }
    }
}
