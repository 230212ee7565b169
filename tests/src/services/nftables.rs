//! The rules of kube-proxy's mode `nftables`, as nft(8) reads them.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::{Hits, Service};
use crate::family::Family;
use crate::node::Node;

/// The family of its table, as nft(8) writes it.
pub(super) fn table(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

struct Rules {
    table: &'static str,
    text: String,
}

impl Rules {
    fn add(&mut self, what: &str, rest: &str) {
        let table = self.table;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "add {what} {table} kube-proxy {rest}");
    }

    fn chain(&mut self, name: &str, rules: &[String]) {
        self.add("chain", name);
        for rule in rules {
            self.add("rule", &format!("{name} {rule}"));
        }
    }

    /// A verdict for one of `chains`, each with the same probability.
    fn balance(chains: &[String]) -> String {
        let cases: Vec<String> = chains
            .iter()
            .enumerate()
            .map(|(number, chain)| format!("{number} : goto {chain}"))
            .collect();
        format!(
            "numgen random mod {} vmap {{ {} }}",
            cases.len(),
            cases.join(", ")
        )
    }

    fn endpoint(&mut self, service: &Service, id: &str, endpoint: &SocketAddr) -> String {
        let ip = endpoint.ip();
        let (family, proto) = (self.table, service.transport);
        // Names have dots where addresses have colons.
        let chain = format!("endpoint-{id}__{ip}/{}", endpoint.port()).replace(':', ".");
        let rules = [
            format!("{family} saddr {ip} jump mark-for-masquerade"),
            format!("meta l4proto {proto} counter dnat to {endpoint}"),
        ];
        self.chain(&chain, &rules);
        chain
    }

    fn service(&mut self, node: &Node, cluster: IpNet, service: &Service) -> Result<()> {
        let (family, proto) = (self.table, service.transport);
        let (ip, port) = (service.address.ip(), service.address.port());
        let id = format!(
            "{}-test/{}/{proto}/p{port}",
            service.name.to_uppercase(),
            service.name
        );
        let local = service.local_endpoints(node)?;
        let (mut all, mut here) = (Vec::new(), Vec::new());
        for endpoint in &service.endpoints {
            let chain = self.endpoint(service, &id, endpoint);
            if local.contains(endpoint) {
                here.push(chain.clone());
            }
            all.push(chain);
        }
        let svc = format!("service-{id}");
        let from_outside = format!(
            "{family} daddr {ip} {proto} dport {port} {family} saddr != {cluster} \
             jump mark-for-masquerade"
        );
        self.chain(&svc, &[from_outside, Self::balance(&all)]);
        self.add("element", &format!("cluster-ips {{ {ip} }}"));
        self.add(
            "element",
            &format!("service-ips {{ {ip} . {proto} . {port} : goto {svc} }}"),
        );
        if service.node_port == 0 {
            return Ok(());
        }
        let external = format!("external-{id}");
        if service.local {
            let mut rules = vec![
                format!("{family} saddr {cluster} goto {svc}"),
                "fib saddr type local jump mark-for-masquerade".to_owned(),
                format!("fib saddr type local goto {svc}"),
            ];
            // Where no endpoint is, the packet goes on to the node's own sockets.
            if !here.is_empty() {
                rules.push(Self::balance(&here));
            }
            self.chain(&external, &rules);
        } else {
            let rules = ["jump mark-for-masquerade".to_owned(), format!("goto {svc}")];
            self.chain(&external, &rules);
        }
        let number = service.node_port;
        self.add(
            "element",
            &format!("service-nodeports {{ {proto} . {number} : goto {external} }}"),
        );
        Ok(())
    }
}

/// The rules for services of one family.
///
/// # Errors
/// Never in fact: the node's CIDRs are valid.
pub(super) fn text(
    node: &Node,
    family: Family,
    cluster: IpNet,
    services: &[&Service],
) -> Result<String> {
    let table = table(family);
    let mut rules = Rules {
        table,
        text: format!("add table {table} kube-proxy\n"),
    };
    let kind = match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    for set in ["cluster-ips", "nodeport-ips"] {
        rules.add("set", &format!("{set} {{ type {kind}; }}"));
    }
    for (map, key) in [
        ("service-ips", format!("{kind} . inet_proto . inet_service")),
        ("service-nodeports", "inet_proto . inet_service".to_owned()),
    ] {
        rules.add("map", &format!("{map} {{ type {key} : verdict; }}"));
    }
    rules.add(
        "element",
        &format!("nodeport-ips {{ {} }}", node.underlay(family)),
    );
    let own = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    rules.chain("mark-for-masquerade", &own("mark set mark or 0x4000"));
    rules.chain(
        "masquerading",
        &own("mark and 0x4000 == 0 return\n\
              mark set mark xor 0x4000\n\
              counter masquerade fully-random"),
    );
    rules.chain(
        "services",
        &[
            format!("{table} daddr . meta l4proto . th dport vmap @service-ips"),
            format!("{table} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports"),
        ],
    );
    for (chain, hook, priority, rule) in [
        (
            "filter-forward",
            "filter hook forward",
            -110,
            "ct state invalid counter drop",
        ),
        (
            "nat-prerouting",
            "nat hook prerouting",
            -100,
            "jump services",
        ),
        ("nat-output", "nat hook output", -100, "jump services"),
        (
            "nat-postrouting",
            "nat hook postrouting",
            100,
            "jump masquerading",
        ),
    ] {
        rules.add(
            "chain",
            &format!("{chain} {{ type {hook} priority {priority}; }}"),
        );
        rules.add("rule", &format!("{chain} {rule}"));
    }
    for service in services {
        rules.service(node, cluster, service)?;
    }
    Ok(rules.text)
}

/// Reads the counters that `nft list table` prints: `counter packets PACKETS bytes BYTES`.
///
/// # Errors
/// When a counter is no number.
pub(super) fn hits(text: &str) -> Result<Hits> {
    let mut hits = Hits::default();
    for line in text.lines() {
        let Some((before, after)) = line.split_once("counter packets ") else {
            continue;
        };
        let counter = if after.contains(" dnat to ") {
            &mut hits.translated
        } else if after.contains(" masquerade") {
            &mut hits.masqueraded
        } else if before.contains("ct state invalid") {
            &mut hits.invalid
        } else {
            continue;
        };
        let packets = after.split(' ').next();
        *counter += packets
            .and_then(|number| number.parse::<u64>().ok())
            .with_context(|| format!("no counter: {line}"))?;
    }
    Ok(hits)
}
