//! Runs the cells and says what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, ensure};
use comfy_table::presets;

use super::path::{Leg, legs, reply};
use super::watch::{Watch, Watched};
use super::{Cell, ROWS, World, cells};
use crate::family::Family;
use crate::probe::{Exchange, Transport};
use crate::services::{Flavour, Hits, Proxy, Service};

/// What became of each cell.
#[derive(Debug)]
pub struct Table {
    title: String,
    /// By row and column: who the server saw, or nothing.
    cells: BTreeMap<(String, String), String>,
    order: Vec<String>,
    /// What was wrong, a line each.
    faults: Vec<String>,
}

/// Runs every cell, the services' with each flavour of rules; with a watch, demands the way that
/// each request and reply took.
///
/// # Errors
/// When rules cannot be installed or a capture cannot be read; what is wrong with the traffic is
/// in the table.
pub fn run(
    title: &str,
    world: &World,
    flavours: &[Flavour],
    watch: Option<Watch>,
) -> Result<Table> {
    let cells = cells(world)?;
    let mut table = Table {
        title: title.to_owned(),
        cells: BTreeMap::new(),
        order: Vec::new(),
        faults: Vec::new(),
    };
    let mut done = Vec::new();
    for (round, flavour) in flavours.iter().enumerate() {
        let services: Vec<Service> = cells.iter().filter_map(|c| c.service.clone()).collect();
        let proxies = world
            .nodes
            .iter()
            .map(|node| Proxy::install(*flavour, node, &services))
            .collect::<Result<Vec<_>>>()?;
        // What needs no rules is done once, beside the first ones.
        for cell in cells.iter().filter(|c| round == 0 || c.service.is_some()) {
            let mark = format!("<cell {}>", done.len());
            let fault = one(world, cell, &mark, &proxies).err();
            let row = match &cell.service {
                Some(_) => format!("{}, {flavour}", ROWS[cell.row].0),
                None => ROWS[cell.row].0.to_owned(),
            };
            table.enter(cell, row, fault.map(|error| format!("{error:#}")));
            done.push((cell, mark, *flavour));
        }
        for (proxy, node) in proxies.into_iter().zip(world.nodes) {
            let hits = proxy.hits(node)?;
            if hits.invalid > 0 {
                let number = node.index;
                let text = format!(
                    "{} invalid packets at node {number}, {flavour}",
                    hits.invalid
                );
                table.faults.push(text);
            }
            proxy.remove(node)?;
        }
    }
    if let Some(watch) = watch {
        let carried = watch.carried();
        let watched = watch.stop()?;
        for (cell, mark, flavour) in done {
            let (from, moves) = (cell.client.place, &cell.moves);
            let (back, back_moves) = reply(from, moves);
            for (what, expected) in [
                ("request", legs(from, moves, carried)),
                ("reply", legs(back, &back_moves, carried)),
            ] {
                if let Some(fault) = way(&watched, &format!("{mark}{what}"), expected) {
                    let name = cell.name();
                    let fault = format!("{name}, {flavour}: {what} took another way:{fault}");
                    table.faults.push(fault);
                }
            }
        }
        table.faults.extend(watched.strays()?);
    }
    Ok(table)
}

/// Runs a cell; whatever is not as it should be is an error.
fn one(world: &World, cell: &Cell, mark: &str, proxies: &[Proxy]) -> Result<()> {
    let hits = || -> Result<Vec<Hits>> {
        let nodes = proxies.iter().zip(world.nodes);
        nodes.map(|(proxy, node)| proxy.hits(node)).collect()
    };
    let before = hits()?;
    let seen = Exchange {
        transport: cell.transport,
        client: cell.client.netns,
        target: cell.target,
        server: cell.server.netns,
        listen: cell.listen,
        request: format!("{mark}request").as_bytes(),
        reply: format!("{mark}reply").as_bytes(),
    }
    .run()?;
    let (seen, expected) = (seen.peer.ip(), cell.seen);
    ensure!(seen == expected, "seen as {seen}, not as {expected}");
    for (number, (before, after)) in before.iter().zip(hits()?).enumerate() {
        let here = cell.translator == Some(number);
        let translated = after.translated > before.translated;
        let masqueraded = after.masqueraded > before.masqueraded;
        ensure!(
            (translated, masqueraded) == (here, here && cell.masqueraded),
            "node {}: rules translated: {translated}, masqueraded: {masqueraded}",
            number + 1
        );
    }
    Ok(())
}

/// How the way of the marked packets differs from the expected one.
fn way(watched: &Watched, mark: &str, expected: Vec<Leg>) -> Option<String> {
    let seen = watched.legs(mark.as_bytes());
    let expected: BTreeSet<Leg> = expected.into_iter().collect();
    if seen == expected {
        return None;
    }
    let missing = expected.difference(&seen).map(|leg| format!(" not {leg};"));
    let extra = seen.difference(&expected).map(|leg| format!(" but {leg};"));
    Some(missing.chain(extra).collect())
}

impl Table {
    fn enter(&mut self, cell: &Cell, row: String, fault: Option<String>) {
        let column = format!("{} {}", cell.family, cell.transport);
        if !self.order.contains(&row) {
            self.order.push(row.clone());
        }
        let text = match &fault {
            None => cell.seen.to_string(),
            Some(_) => "FAILED".to_owned(),
        };
        if let Some(fault) = fault {
            self.faults.push(format!("{row}, {column}: {fault}"));
        }
        self.cells.insert((row, column), text);
    }

    /// Adds what was wrong besides.
    pub fn blame(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Prints it, and demands that nothing was wrong.
    ///
    /// # Errors
    /// When something was: the message has every fault.
    pub fn must_pass(&self) -> Result<()> {
        println!("{self}");
        ensure!(
            self.faults.is_empty(),
            "{}: {} faults:\n{}",
            self.title,
            self.faults.len(),
            self.faults.join("\n")
        );
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<String> = Family::ALL
            .iter()
            .flat_map(|family| Transport::ALL.map(|transport| format!("{family} {transport}")))
            .collect();
        let mut table = comfy_table::Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(std::iter::once("seen as".to_owned()).chain(columns.clone()));
        for row in &self.order {
            let cell = |column: &String| {
                let key = (row.clone(), column.clone());
                self.cells.get(&key).cloned().unwrap_or_default()
            };
            table.add_row(std::iter::once(row.clone()).chain(columns.iter().map(cell)));
        }
        writeln!(f, "{}\n{table}", self.title)?;
        for fault in &self.faults {
            writeln!(f, "- {fault}")?;
        }
        Ok(())
    }
}
