//! Which entry an address leads to.

use super::entry::{Node, first_cell};
use super::table::Table;
use crate::prefix::Prefix;

/// Where an entry stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In the directory.
    Directory(u32),
    /// In a group; counted through all groups.
    Cell(u32),
    /// A run of a line: the line's number and the run's.
    Run(u32, usize),
}

/// The directory's entry for an address.
pub(super) fn directory(address: u128) -> Place {
    Place::Directory((address >> 104) as u32)
}

/// The entry for an address in a group that its first `depth` bits lead to.
pub(super) fn cell(group: u32, address: u128, depth: u8) -> Place {
    let byte = u32::from((address >> (120 - depth)) as u8);
    Place::Cell(first_cell(group) + byte)
}

/// Where the stage begins that the bit behind the first `depth`, 32 or more, belongs to.
pub(super) fn stage_of(depth: u8) -> u8 {
    depth & !15
}

/// The 16 bits of an address in the stage that the bit behind the first `depth` belongs to.
pub(super) fn key(address: u128, depth: u8) -> u16 {
    (address >> (112 - stage_of(depth))) as u16
}

/// The first and the last key of a prefix in that stage.
pub(super) fn keys(prefix: Prefix<u128>, depth: u8) -> (u16, u16) {
    (key(prefix.first(), depth), key(prefix.last(), depth))
}

/// Where `node`, to which the first `depth` bits of the address lead, leads from there, and with
/// how many bits; `None` if it is a leaf.
pub(super) fn below(table: &Table, node: Node, address: u128, depth: u8) -> Option<(Place, u8)> {
    match node {
        Node::Leaf(_) => None,
        Node::Group(group) => Some((cell(group, address, depth), depth + 8)),
        Node::Line(line) => {
            let run = table.run_of(line, key(address, depth));
            Some((Place::Run(line, run), stage_of(depth) + 16))
        }
    }
}
