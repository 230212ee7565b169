use std::net::Ipv4Addr;

use shunt_api::{Encap, MacAddr};
use shunt_encap::IpFamily;
use shunt_fib::{Fib4Config, Fib6Config};

use super::*;

fn rib() -> Rib {
    let v4 = Fib4Writer::new(Fib4Config {
        groups: 2,
        ..Fib4Config::default()
    });
    let v6 = Fib6Writer::new(Fib6Config {
        groups: 4,
        lines: 64,
        ..Fib6Config::default()
    });
    Rib::new(v4.expect("a FIB"), v6.expect("a FIB"))
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn node(n: u8) -> HopKey {
    HopKey::Node {
        via: Ipv4Addr::new(192, 168, 0, n).into(),
        encap: Encap::Direct,
        vtep_mac: MacAddr::default(),
        inner: IpFamily::V4,
    }
}

fn route(key: HopKey) -> Route {
    Route {
        key,
        origin: Origin::Api,
        target: None,
    }
}

fn slot_of(rib: &Rib, key: HopKey) -> Option<usize> {
    rib.keys().position(|slot| slot == Some(key))
}

#[test]
fn routes_that_lead_the_same_way_share_a_slot() {
    let mut rib = rib();
    rib.add(net("10.1.0.0/16"), route(node(1))).expect("added");
    rib.add(net("10.2.0.0/16"), route(node(1))).expect("added");
    rib.add(net("10.3.0.0/16"), route(node(2))).expect("added");
    assert!(rib.install().refused.is_empty());
    assert_eq!(rib.keys().flatten().count(), 2);
    rib.remove(net("10.1.0.0/16")).expect("removed");
    assert!(slot_of(&rib, node(1)).is_some(), "still used");
    rib.remove(net("10.2.0.0/16")).expect("removed");
    assert_eq!(slot_of(&rib, node(1)), None);
    assert_eq!(
        rib.lookup(address("10.3.0.1")).map(|(prefix, _)| prefix),
        Some(net("10.3.0.0/16"))
    );
    assert_eq!(rib.lookup(address("10.1.0.1")), None);
}

#[test]
fn the_fib_names_no_slot_before_it_is_published() {
    let mut rib = rib();
    rib.add(net("10.1.0.0/16"), route(node(1))).expect("added");
    assert!(rib.is_dirty());
    assert_eq!(rib.lookup(address("10.1.0.1")), None);
    assert!(rib.install().refused.is_empty());
    assert!(rib.lookup(address("10.1.0.1")).is_some());
    assert!(!rib.is_dirty());
}

#[test]
fn a_slot_is_not_reused_before_the_workers_have_passed() {
    let mut rib = rib();
    rib.add(net("10.1.0.0/16"), route(node(1))).expect("added");
    rib.install();
    let slot = slot_of(&rib, node(1)).expect("a slot");
    rib.remove(net("10.1.0.0/16")).expect("removed");
    rib.add(net("10.2.0.0/16"), route(node(2))).expect("added");
    assert_ne!(slot_of(&rib, node(2)), Some(slot));
    rib.install();
    rib.add(net("10.3.0.0/16"), route(node(3))).expect("added");
    assert_eq!(slot_of(&rib, node(3)), Some(slot));
}

#[test]
fn a_replaced_route_keeps_its_old_slot_until_the_fib_has_the_new_one() {
    let mut rib = rib();
    rib.add(net("10.1.0.0/16"), route(node(1))).expect("added");
    rib.install();
    rib.add(net("10.1.0.0/16"), route(node(2))).expect("added");
    assert!(slot_of(&rib, node(1)).is_some());
    rib.install();
    assert_eq!(slot_of(&rib, node(1)), None);
    assert!(rib.is_dirty(), "another snapshot frees the slot");
    rib.install();
    assert!(!rib.is_dirty());
}

#[test]
fn what_the_fib_refuses_is_not_in_the_rib_either() {
    let mut rib = rib();
    for n in 0..3 {
        rib.add(net(&format!("10.1.{n}.1/32")), route(node(1)))
            .expect("added");
    }
    // Two second-level groups, three /24 with host routes.
    let refused = rib.install().refused;
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].to_string().contains("10.1.2.1/32"),
        "{}",
        refused[0]
    );
    assert_eq!(rib.iter().count(), 2);
    assert!(rib.lookup(address("10.1.1.1")).is_some());
}

#[test]
fn both_families_share_the_slots_and_come_in_order() {
    let mut rib = rib();
    rib.add(net("fd00:2::/64"), route(node(1))).expect("added");
    rib.add(net("10.2.0.0/16"), route(node(1))).expect("added");
    rib.add(net("fd00::/16"), route(node(2))).expect("added");
    rib.add(net("0.0.0.0/0"), route(node(3))).expect("added");
    assert!(rib.install().refused.is_empty());
    assert_eq!(rib.keys().flatten().count(), 3);
    let found = |text| rib.lookup(address(text)).map(|(prefix, _)| prefix);
    assert_eq!(found("fd00:2::7"), Some(net("fd00:2::/64")));
    assert_eq!(found("fd00:3::7"), Some(net("fd00::/16")));
    assert_eq!(found("2001:db8::1"), None, "no default route of IPv6");
    assert_eq!(found("192.0.2.1"), Some(net("0.0.0.0/0")));
    let all: Vec<_> = rib.iter().map(|(prefix, _)| *prefix).collect();
    assert_eq!(
        all,
        [
            net("0.0.0.0/0"),
            net("10.2.0.0/16"),
            net("fd00::/16"),
            net("fd00:2::/64")
        ]
    );
    let covering: Vec<_> = rib.covering(net("fd00:2::9/128")).map(|(p, _)| p).collect();
    assert_eq!(covering, [net("fd00:2::/64"), net("fd00::/16")]);
    let inside: Vec<_> = rib.inside(net("::/0")).map(|(p, _)| p).collect();
    assert_eq!(inside, [net("fd00::/16"), net("fd00:2::/64")]);
    rib.remove(net("fd00:2::/64")).expect("removed");
    assert!(slot_of(&rib, node(1)).is_some(), "the IPv4 route uses it");
    assert_eq!(
        rib.lookup(address("fd00:2::7")).map(|(prefix, _)| prefix),
        Some(net("fd00::/16"))
    );
}

#[test]
fn a_held_key_keeps_its_slot_without_a_route() {
    let mut rib = rib();
    let key = HopKey::Host(IpFamily::V6);
    rib.hold(key).expect("held");
    rib.hold(key).expect("held once");
    let slot = rib.slot(key);
    assert!(slot.is_some());
    rib.add(net("fd00::1/128"), route(key)).expect("added");
    rib.install();
    assert_eq!(rib.slot(key), slot, "its routes share it");
    rib.remove(net("fd00::1/128")).expect("removed");
    assert_eq!(rib.slot(key), slot);
    rib.let_go(key);
    rib.let_go(key);
    assert_eq!(rib.slot(key), None);
    assert!(rib.is_dirty(), "the slot is free after a publication");
}
