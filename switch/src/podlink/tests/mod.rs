//! Pods in network namespaces of their own, on a node that is one too, beside what iproute2 shows.

mod checked;
mod known;
mod refused;
mod shapes;
mod traffic;

use serde_json::Value;

use super::*;
use crate::sys::testing::TestNetns;

pub(super) const GATEWAY_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0xfe, 1]);
pub(super) const POD_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0x0a, 5]);

/// A node and a pod.
pub(super) struct World {
    pub(super) node: TestNetns,
    pub(super) pod: TestNetns,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            node: TestNetns::new(),
            pod: TestNetns::new(),
        }
    }

    /// A pod in L3 mode with these addresses, a gateway and a default route for each family.
    pub(super) fn plan(&self, addresses: &[&str]) -> PodLinkPlan {
        plan(&self.pod, "c1", addresses)
    }

    pub(super) fn on_node<T: Send>(&self, f: impl FnOnce(&mut Netlink) -> T + Send) -> T {
        self.node.run(|| f(&mut Netlink::open().unwrap()))
    }

    pub(super) fn build(&self, plan: &PodLinkPlan) -> Result<PodLink, PodLinkError> {
        self.on_node(|netlink| build(netlink, plan))
    }

    pub(super) fn demolish(&self, plan: &PodLinkPlan) -> Result<bool, PodLinkError> {
        self.on_node(|netlink| demolish(netlink, &plan.key, &plan.host_device))
    }

    /// Builds what cannot be built, and finds node and pod as they were before.
    pub(super) fn fails(&self, plan: &PodLinkPlan) -> PodLinkError {
        let before = [names(&self.node), names(&self.pod)];
        let Err(error) = self.build(plan) else {
            panic!("{plan:?} was built");
        };
        assert_eq!([names(&self.node), names(&self.pod)], before, "{error}");
        error
    }
}

pub(super) fn key(container_id: &str) -> AttachmentKey {
    AttachmentKey {
        network: "k8s".to_owned(),
        container_id: container_id.to_owned(),
        ifname: "eth0".to_owned(),
    }
}

pub(super) fn plan(pod: &TestNetns, container: &str, addresses: &[&str]) -> PodLinkPlan {
    let key = key(container);
    let addresses: Vec<IpNet> = addresses.iter().map(|text| net(text)).collect();
    let has = |ipv6| addresses.iter().any(|net| net.addr().is_ipv6() == ipv6);
    let families = [
        (false, "169.254.1.1", "0.0.0.0/0"),
        (true, "fe80::1", "::/0"),
    ];
    let families: Vec<_> = families.into_iter().filter(|one| has(one.0)).collect();
    PodLinkPlan {
        host_device: key.short_name(),
        key,
        netns: pod.path(),
        kind: PortKind::Afxdp,
        host_mac: GATEWAY_MAC,
        mac: POD_MAC,
        mtu: 1500,
        gateways: families.iter().map(|one| ip(one.1)).collect(),
        gateway_mac: GATEWAY_MAC,
        routes: families
            .iter()
            .map(|one| PodRoute::new(net(one.2), Some(ip(one.1))))
            .collect(),
        addresses,
    }
}

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What `ip -j -d WORDS` shows.
pub(super) fn shown(netns: &TestNetns, words: &str) -> Vec<Value> {
    let text = netns.ip(&format!("-j -d {words}"));
    let Ok(Value::Array(mut all)) = serde_json::from_str(&text) else {
        panic!("{words}: {text}");
    };
    all.retain(|one| one.as_object().is_some_and(|fields| !fields.is_empty()));
    all
}

pub(super) fn names(netns: &TestNetns) -> Vec<String> {
    let mut names: Vec<_> = shown(netns, "link")
        .iter()
        .map(|link| link["ifname"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What `ip WORDS` shows, a route a line, without iproute2's trailing blanks.
pub(super) fn lines(netns: &TestNetns, words: &str) -> Vec<String> {
    let text = netns.ip(words);
    text.lines().map(|line| line.trim().to_owned()).collect()
}
