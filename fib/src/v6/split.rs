//! Making room for a prefix in a stage.

use super::entry::Node;
use super::family::V6;
use super::line::{RUNS, Runs};
use super::place::{Place, key, stage_of};
use super::table::Table;
use crate::FibError;
use crate::prefix::Prefix;
use crate::qsbr::Domain;
use crate::routes::Routes;

impl V6 {
    /// Makes what `place` has, which is where `depth` bits of the address lead, tell the part of
    /// `prefix` in this stage from what is beside it: a line in which the part begins and ends
    /// with a run, or a group where a line would have too many.
    ///
    /// A line is not changed but replaced, so that readers never see a part of the change.
    pub(super) fn split(
        &mut self,
        table: &Table,
        routes: &Routes<u128>,
        prefix: Prefix<u128>,
        place: Place,
        depth: u8,
        readers: &mut Domain,
    ) -> Result<Node, FibError> {
        let old = table.load(place);
        let (first, last) = keys(Prefix::of(prefix.first(), depth), depth);
        let mut runs = match old {
            Node::Leaf(_) => Runs::one(first, last, old),
            Node::Line(line) => table.runs(line, first, last),
            Node::Group(_) => return Ok(old),
        };
        let (from, to) = keys(prefix, depth);
        if matches!(old, Node::Line(_)) && runs.has(from, to) {
            return Ok(old);
        }
        runs.cut(from, to);
        if runs.list().len() > RUNS {
            // Routes that have gone leave ends behind.
            let block = Prefix::of(prefix.first(), stage_of(depth));
            let new = |end| end == to || from.checked_sub(1) == Some(end);
            runs.join(|end| new(end) || is_edge(routes, block, end));
        }
        let mut taken = Taken::default();
        let node = match self.rebuilt(table, &runs, depth, readers, &mut taken) {
            Ok(node) => node,
            Err(error) => {
                taken
                    .groups
                    .iter()
                    .for_each(|group| self.groups.put_back(*group));
                taken
                    .lines
                    .iter()
                    .for_each(|line| self.lines.put_back(*line));
                return Err(error);
            }
        };
        self.store(table, place, depth, node);
        self.retire(old, readers);
        Ok(node)
    }

    /// A new node with these runs.
    fn rebuilt(
        &mut self,
        table: &Table,
        runs: &Runs,
        depth: u8,
        readers: &Domain,
        taken: &mut Taken,
    ) -> Result<Node, FibError> {
        let start = stage_of(depth);
        if runs.list().len() <= RUNS {
            let line = self.lines.take(readers)?;
            taken.lines.push(line);
            table.fill_line(line, start + 16, runs);
            if runs.nodes().any(|node| !matches!(node, Node::Leaf(_))) {
                self.touch_children(line);
            }
            return Ok(Node::Line(line));
        }
        let group = self.groups.take(readers)?;
        taken.groups.push(group);
        if depth > start {
            table.fill_group(group, depth + 8, runs.each());
            return Ok(Node::Group(group));
        }
        let mut nodes = Vec::with_capacity(256);
        for byte in 0..=u8::MAX {
            let part = runs.part(
                u16::from_be_bytes([byte, 0]),
                u16::from_be_bytes([byte, 255]),
            );
            nodes.push(match *part.list() {
                [(_, node)] => node,
                _ => self.rebuilt(table, &part, depth + 8, readers, taken)?,
            });
        }
        table.fill_group(group, depth + 8, nodes.into_iter());
        Ok(Node::Group(group))
    }
}

/// What has been taken for a node that is not published yet.
#[derive(Debug, Default)]
struct Taken {
    groups: Vec<u32>,
    lines: Vec<u32>,
}

/// The first and the last key of a prefix in the stage of `depth`.
fn keys(prefix: Prefix<u128>, depth: u8) -> (u16, u16) {
    (key(prefix.first(), depth), key(prefix.last(), depth))
}

/// True if a route of the stage of `block`, which is what leads to the stage, ends with key `end`,
/// or one begins behind it.
fn is_edge(routes: &Routes<u128>, block: Prefix<u128>, end: u16) -> bool {
    let start = block.len();
    let of_stage = |address: u128| {
        routes
            .covering(Prefix::of(address, start + 16))
            .map(|(route, _)| route)
            .take_while(move |route| route.len() > start)
    };
    let last =
        block.first() | (u128::from(end) << (112 - start)) | (u128::MAX >> (start + 16 - 1) >> 1);
    of_stage(last).any(|route| route.last() == last)
        || last
            .checked_add(1)
            .is_some_and(|next| of_stage(next).any(|route| route.first() == next))
}
