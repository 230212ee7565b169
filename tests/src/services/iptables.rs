//! The rules of kube-proxy's mode `iptables`, as iptables-restore(8) reads them.

use std::fmt::Write;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::{Hits, Service};
use crate::family::Family;
use crate::node::Node;

/// Rules that stand for none: it removes every chain of ours, and theirs with it.
pub(super) const EMPTY: &str = "*nat\nCOMMIT\n*filter\nCOMMIT\n";

/// The command that reads the rules, which take the place of all others.
pub(super) fn restore(family: Family) -> [&'static str; 1] {
    [match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    }]
}

/// The command that writes them.
pub(super) fn save(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    }
}

/// Rules by chain, and the chains that they fill.
#[derive(Default)]
struct Rules {
    chains: String,
    /// What kube-proxy keeps in KUBE-SERVICES and KUBE-NODEPORTS, then the rest.
    text: String,
}

impl Rules {
    fn chain(&mut self, name: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.chains, ":{name} - [0:0]");
    }

    fn add(&mut self, rule: &str) {
        let _ = writeln!(self.text, "-A {rule}");
    }

    /// The chain of an endpoint, named by its number.
    fn endpoint(&mut self, service: &Service, number: usize) -> Option<String> {
        let endpoint = service.endpoints.get(number)?;
        let (chain, proto) = (
            format!("KUBE-SEP-{}{number}", service.name.to_uppercase()),
            service.transport,
        );
        self.chain(&chain);
        self.add(&format!(
            "{chain} -s {} -m comment --comment {} -j KUBE-MARK-MASQ",
            IpNet::from(endpoint.ip()),
            service.name
        ));
        self.add(&format!(
            "{chain} -p {proto} -m comment --comment {} -m {proto} -j DNAT --to-destination {endpoint}",
            service.name
        ));
        Some(chain)
    }

    /// Jumps from `chain` to one of `endpoints`, each with the same probability.
    fn balance(&mut self, chain: &str, endpoints: &[String]) {
        for (number, endpoint) in endpoints.iter().enumerate() {
            let left = endpoints.len() - number;
            let odds = match left {
                1 => String::new(),
                _ => format!(
                    "-m statistic --mode random --probability {:.10} ",
                    1.0 / left as f64
                ),
            };
            self.add(&format!("{chain} {odds}-j {endpoint}"));
        }
    }

    fn service(&mut self, node: &Node, cluster: IpNet, service: &Service) -> Result<()> {
        let (name, proto) = (service.name.to_uppercase(), service.transport);
        let comment = format!("-m comment --comment {}", service.name);
        let (svc, ext, svl) = (
            format!("KUBE-SVC-{name}"),
            format!("KUBE-EXT-{name}"),
            format!("KUBE-SVL-{name}"),
        );
        let address = IpNet::from(service.address.ip());
        let to = format!("-p {proto} -m {proto} --dport {}", service.address.port());
        self.chain(&svc);
        self.add(&format!(
            "KUBE-SERVICES -d {address} {comment} {to} -j {svc}"
        ));
        self.add(&format!(
            "{svc} ! -s {cluster} -d {address} {comment} {to} -j KUBE-MARK-MASQ"
        ));
        let local = service.local_endpoints(node)?;
        let (mut all, mut here) = (Vec::new(), Vec::new());
        for (number, endpoint) in service.endpoints.iter().enumerate() {
            let chain = self.endpoint(service, number).context("endpoint")?;
            if local.contains(endpoint) {
                here.push(chain.clone());
            }
            all.push(chain);
        }
        self.balance(&svc, &all);
        if service.node_port == 0 {
            return Ok(());
        }
        self.chain(&ext);
        self.add(&format!(
            "KUBE-NODEPORTS {comment} -p {proto} -m {proto} --dport {} -j {ext}",
            service.node_port
        ));
        if service.local {
            self.chain(&svl);
            // Pods reach all endpoints; so does the node itself, masqueraded.
            self.add(&format!("{ext} -s {cluster} {comment} -j {svc}"));
            let own = "-m addrtype --src-type LOCAL";
            self.add(&format!("{ext} {comment} {own} -j KUBE-MARK-MASQ"));
            self.add(&format!("{ext} {comment} {own} -j {svc}"));
            self.add(&format!("{ext} -j {svl}"));
            self.balance(&svl, &here);
        } else {
            self.add(&format!("{ext} {comment} -j KUBE-MARK-MASQ"));
            self.add(&format!("{ext} -j {svc}"));
        }
        Ok(())
    }
}

/// The rules for services of one family.
///
/// # Errors
/// Never in fact: the node's CIDRs are valid.
pub(super) fn text(node: &Node, cluster: IpNet, services: &[&Service]) -> Result<String> {
    let mut nat = Rules::default();
    for chain in ["SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ"] {
        nat.chain(&format!("KUBE-{chain}"));
    }
    for service in services {
        nat.service(node, cluster, service)?;
    }
    let (chains, rules) = (nat.chains, nat.text);
    Ok(format!(
        r#"*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
{chains}-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
{rules}-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
"#
    ))
}

/// Reads the counters that `iptables-save -c` prints: `[PACKETS:BYTES] -A CHAIN ...`.
///
/// # Errors
/// When a rule that counts has no counter.
pub(super) fn hits(text: &str) -> Result<Hits> {
    let mut hits = Hits::default();
    for line in text.lines() {
        let counter = if line.contains("-j DNAT") {
            &mut hits.translated
        } else if line.contains("-j MASQUERADE") {
            &mut hits.masqueraded
        } else if line.contains("--ctstate INVALID -j DROP") {
            &mut hits.invalid
        } else {
            continue;
        };
        let packets = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(':').next());
        *counter += packets
            .and_then(|number| number.parse::<u64>().ok())
            .with_context(|| format!("no counter: {line}"))?;
    }
    Ok(hits)
}
