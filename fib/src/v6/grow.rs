//! Making room for a prefix: the one node that changes, and what hangs below it.

use super::entry::Node;
use super::family::V6;
use super::line::{RUNS, Runs};
use super::place::{keys, stage_of};
use super::table::{DIRECTORY_LEN, FIRST_STAGE, GROUP, Table};
use crate::FibError;
use crate::prefix::Prefix;
use crate::qsbr::Domain;
use crate::routes::Routes;

/// What a node is made for, and from.
pub(super) struct Growth<'a> {
    pub(super) table: &'a Table,
    pub(super) routes: &'a Routes<u128>,
    pub(super) prefix: Prefix<u128>,
    pub(super) readers: &'a Domain,
    /// Groups and lines that have been taken for it, for the case that it fails.
    taken: Vec<Node>,
}

impl<'a> Growth<'a> {
    pub(super) fn new(
        table: &'a Table,
        routes: &'a Routes<u128>,
        prefix: Prefix<u128>,
        readers: &'a Domain,
    ) -> Self {
        Self {
            table,
            routes,
            prefix,
            readers,
            taken: Vec::new(),
        }
    }
}

impl V6 {
    /// A node that gives every address what `old` does, to be published in its place, which is
    /// where `depth` bits of the address lead; and which tells the prefix from what is beside it.
    /// When it fails, everything taken for it has been given back.
    pub(super) fn grown(
        &mut self,
        mut growth: Growth<'_>,
        old: Node,
        depth: u8,
    ) -> Result<Node, FibError> {
        self.grow(&mut growth, old, depth).inspect_err(|_| {
            for node in &growth.taken {
                match *node {
                    Node::Leaf(_) => (),
                    Node::Group(group) => self.groups.put_back(group),
                    Node::Line(line) => self.lines.put_back(line),
                }
            }
        })
    }

    fn grow(&mut self, growth: &mut Growth<'_>, old: Node, depth: u8) -> Result<Node, FibError> {
        let prefix = growth.prefix;
        if depth == DIRECTORY_LEN {
            let inner = match prefix.len() > FIRST_STAGE {
                true => self.grow(growth, old, FIRST_STAGE)?,
                false => old,
            };
            let at = (prefix.first() >> (128 - FIRST_STAGE)) as u8;
            let cells = (0..=u8::MAX).map(|byte| if byte == at { inner } else { old });
            return self.new_group(growth, FIRST_STAGE, cells);
        }
        let (first, last) = keys(Prefix::of(prefix.first(), depth), depth);
        debug_assert!(!matches!(old, Node::Group(_)), "a group tells all apart");
        let mut runs = match old {
            Node::Line(line) => growth.table.runs(line, first, last),
            Node::Leaf(_) | Node::Group(_) => Runs::one(first, last, old),
        };
        let (from, to) = keys(prefix, depth);
        runs.cut(from, to);
        let end = stage_of(depth) + 16;
        if prefix.len() > end {
            let child = self.grow(growth, runs.get(from), end)?;
            runs.replace(from, child);
        }
        if runs.list().len() > RUNS {
            // Routes that have gone leave ends behind.
            let block = Prefix::of(prefix.first(), stage_of(depth));
            let new = |end| end == to || from.checked_sub(1) == Some(end);
            runs.join(|end| new(end) || is_edge(growth.routes, block, end));
        }
        self.new_node(growth, &runs, depth)
    }

    /// A line with these runs, or, if they are too many, a group.
    fn new_node(
        &mut self,
        growth: &mut Growth<'_>,
        runs: &Runs,
        depth: u8,
    ) -> Result<Node, FibError> {
        let start = stage_of(depth);
        if runs.list().len() <= RUNS {
            let line = self.lines.take(growth.readers)?;
            growth.taken.push(Node::Line(line));
            growth.table.fill_line(line, start + 16, runs);
            self.own_cell(growth.table, Node::Line(line));
            if runs.nodes().any(|node| !matches!(node, Node::Leaf(_))) {
                self.touch_children(line);
            }
            return Ok(Node::Line(line));
        }
        if depth > start {
            return self.new_group(growth, depth + 8, runs.each());
        }
        let mut nodes = Vec::with_capacity(GROUP);
        for byte in 0..=u8::MAX {
            let [first, last] = [0, u8::MAX].map(|low| u16::from_be_bytes([byte, low]));
            let part = runs.part(first, last);
            nodes.push(match *part.list() {
                [(_, node)] => node,
                _ => self.new_node(growth, &part, depth + 8)?,
            });
        }
        self.new_group(growth, depth + 8, nodes.into_iter())
    }

    /// A group with these nodes, to which `depth` bits of the address lead.
    fn new_group(
        &mut self,
        growth: &mut Growth<'_>,
        depth: u8,
        nodes: impl Iterator<Item = Node>,
    ) -> Result<Node, FibError> {
        let group = self.groups.take(growth.readers)?;
        growth.taken.push(Node::Group(group));
        growth.table.fill_group(group, depth, nodes);
        Ok(Node::Group(group))
    }
}

/// True if a route of the stage behind `block` ends with key `end`, or one begins after it.
fn is_edge(routes: &Routes<u128>, block: Prefix<u128>, end: u16) -> bool {
    let start = block.len();
    let around = |address| {
        routes
            .covering(Prefix::of(address, start + 16))
            .map(|(route, _)| route)
            .take_while(move |route| route.len() > start)
    };
    let key = block.first() | u128::from(end) << (112 - start);
    let last = Prefix::of(key, start + 16).last();
    around(last).any(|route| route.last() == last)
        || last
            .checked_add(1)
            .is_some_and(|next| around(next).any(|route| route.first() == next))
}

/// True if a line, to which `depth` bits of the address lead, tells `prefix` from what is beside
/// it.
pub(super) fn has_edges(table: &Table, line: u32, prefix: Prefix<u128>, depth: u8) -> bool {
    let (from, to) = keys(prefix, depth);
    let ends = table.ends(line);
    let (first, last) = keys(Prefix::of(prefix.first(), depth), depth);
    let is_end = |key| ends.contains(&key);
    (from == first || is_end(from - 1)) && (to == last || is_end(to))
}
