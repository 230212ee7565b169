//! The two sides: nodes whose pods are attached by one plugin or the other.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::json;
use shunt_tests::cni::host_local;
use shunt_tests::cni::{CniNode, Container, Invocation, Network, Options, Plugins, Runtime};
use shunt_tests::netns::{Netns, within};

use super::call::{Called, in_a_row, interfaces, milliseconds, settle};

/// Pods' network namespaces, made beforehand.
#[derive(Debug)]
pub(super) struct Pods(Vec<Netns>);

impl Pods {
    pub(super) fn new(number: usize) -> Result<Self> {
        let pods = (0..number).map(|_| Netns::new("pod"));
        Ok(Self(pods.collect::<Result<_>>()?))
    }

    /// A container, never seen before, in each of some of them.
    pub(super) fn containers(&self, from: usize, number: usize) -> Vec<Container> {
        let chosen = self.0.iter().skip(from).take(number);
        chosen
            .map(|netns| Container::new(&netns.path()).of_pod("default", "pod"))
            .collect()
    }
}

/// A node, its plugin and its network.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) runtime: Runtime,
    /// Its interfaces without any pod.
    known: BTreeSet<String>,
}

impl Side {
    /// Attaches and detaches a pod, so that whatever is made once is there.
    pub(super) fn new(runtime: Runtime, pods: &Pods) -> Result<Self> {
        let mut side = Self {
            runtime,
            known: BTreeSet::new(),
        };
        let pod = pods.containers(0, 1);
        let added = side.within(|| in_a_row(&side.adds(&pod)?))?;
        let dels = side.dels(&pod, &added)?;
        // The host end has a name of its own choice: what stays once it is gone is the node's.
        let with_pod = side.within(interfaces)?;
        side.within(|| in_a_row(&dels))?;
        let ends: BTreeSet<String> = host_ends(&added);
        side.known = with_pod.difference(&ends).cloned().collect();
        side.settle()?;
        Ok(side)
    }

    /// Calls `f` in the node's network namespace.
    pub(super) fn within<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        within(self.runtime.node(), f)?
    }

    pub(super) fn adds(&self, pods: &[Container]) -> Result<Vec<Invocation>> {
        let add = |pod| self.runtime.invocation("ADD", 0, pod, None);
        pods.iter().map(add).collect()
    }

    /// DELs with the results of their ADDs, as runtimes remember them.
    pub(super) fn dels(&self, pods: &[Container], added: &[Called]) -> Result<Vec<Invocation>> {
        let del = |(pod, added): (_, &Called)| {
            self.runtime.invocation("DEL", 0, pod, Some(&added.printed))
        };
        pods.iter().zip(added).map(del).collect()
    }

    /// Detaches pods one after another, and returns each one's time and the milliseconds until
    /// nothing was left of all.
    pub(super) fn detach(
        &self,
        pods: &[Container],
        added: &[Called],
    ) -> Result<(Vec<Called>, f64)> {
        let dels = self.dels(pods, added)?;
        self.within(|| {
            let begin = Instant::now();
            let called = in_a_row(&dels)?;
            settle(&self.known)?;
            Ok((called, milliseconds(begin.elapsed())))
        })
    }

    /// Waits until no pod's interface is left.
    pub(super) fn settle(&self) -> Result<()> {
        self.within(|| settle(&self.known))
    }
}

/// The names of the pods' interfaces on the node's side.
fn host_ends(added: &[Called]) -> BTreeSet<String> {
    let ends = added.iter().filter_map(|called| {
        let interfaces = called.printed["interfaces"].as_array()?;
        let outside = interfaces.iter().filter(|interface| {
            let sandbox = interface["sandbox"].as_str().unwrap_or_default();
            let name = interface["name"].as_str();
            // The bridge is there for all.
            sandbox.is_empty() && name != Some(BRIDGE)
        });
        Some(outside.filter_map(|interface| Some(interface["name"].as_str()?.to_owned())))
    });
    ends.flatten().collect()
}

/// The bridge's name.
const BRIDGE: &str = "cni0";

/// A node with a daemon of ours, with these lines in its configuration.
pub(super) fn shunt_node(extra: &str) -> Result<CniNode> {
    CniNode::lone(&Options {
        extra: extra.to_owned(),
        ..Options::default()
    })
}

/// The stock plugin bridge as it costs least: a gateway, but no masquerading.
pub(super) fn bridge_network(plugins: &Plugins) -> Result<Network> {
    let subnet: IpNet = "10.245.0.0/24".parse()?;
    Ok(Network::new(
        "pods",
        json!({
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "isDefaultGateway": true,
            "ipam": host_local(&[subnet], &plugins.lease_dir()),
        }),
    ))
}

/// Host-local alone, called as a plugin calls it.
pub(super) fn host_local_alone(side: &Side, pods: &[Container]) -> Result<Vec<Invocation>> {
    let program = side.runtime.plugins().plugin("host-local");
    let lease_dir = side.runtime.plugins().scratch().join("alone");
    let mut calls = side.adds(pods)?;
    for call in &mut calls {
        call.program.clone_from(&program);
        let mut config: serde_json::Value = serde_json::from_slice(&call.stdin)?;
        let ipam = config.get_mut("ipam").context("a network without ipam")?;
        ipam["dataDir"] = json!(lease_dir);
        call.stdin = config.to_string().into_bytes();
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes root, and Debian's plugins.
    #[test]
    fn bridge_attaches_and_detaches() -> Result<()> {
        let pods = Pods::new(3)?;
        let node = Netns::new("bridge")?;
        let plugins = Plugins::new()?;
        let network = bridge_network(&plugins)?;
        let side = Side::new(Runtime::new(&node.path(), plugins, network), &pods)?;
        assert!(side.known.contains(BRIDGE), "{:?}", side.known);
        for all in [in_a_row, super::super::call::at_once] {
            let containers = pods.containers(0, 3);
            let adds = side.adds(&containers)?;
            let added = side.within(|| all(&adds))?;
            assert_eq!(side.within(interfaces)?.difference(&side.known).count(), 3);
            let (deleted, _) = side.detach(&containers, &added)?;
            assert_eq!(deleted.len(), 3);
        }
        let alone = host_local_alone(&side, &pods.containers(0, 1))?;
        let called = in_a_row(&alone)?;
        assert_eq!(called[0].printed["ips"][0]["address"], "10.245.0.2/24");
        Ok(())
    }

    #[test]
    fn ends_on_the_node_are_told_from_the_pods() {
        let printed = json!({"interfaces": [
            {"name": "cni0"},
            {"name": "veth1", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "sandbox": "/run/netns/a"},
        ]});
        let added = Called { took: 1.0, printed };
        let none = Called {
            took: 1.0,
            printed: json!({}),
        };
        assert_eq!(host_ends(&[added, none]), ["veth1".to_owned()].into());
    }
}
