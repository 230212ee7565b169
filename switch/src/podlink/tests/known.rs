//! What the kernel alone tells of our pods.

use std::time::{Duration, Instant};

use super::*;

fn all(world: &World) -> Vec<FoundLink> {
    let mut all = world.on_node(|netlink| found(netlink).unwrap());
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

#[test]
fn pods_are_found_with_their_addresses_and_others_are_not() {
    let world = World::new();
    let other_pod = TestNetns::new();
    let one = world.plan(&["10.244.1.5/32", "fd44::5/128"]);
    let mut two = super::plan(&other_pod, "c2", &["10.1.0.6/24"]);
    two.mac = MacAddr([2, 0, 0, 0, 0, 6]);
    let links = [&one, &two].map(|plan| world.build(plan).unwrap().link);
    world.pod.ip("addr add 169.254.7.7/16 dev eth0");
    // The same index and address in other namespaces, and devices that are none of ours.
    world.node.link("d0", "");
    world.node.ip("link set d0 alias uplink/to/eth0");
    world.node.ip("addr add 10.77.0.1/24 dev d0");
    world.node.ip("link add br0 type bridge");
    world.node.ip("link set br0 alias shunt:k8s/c3/eth0");
    let [link_one, link_two] = links;
    assert_eq!(
        all(&world),
        [
            FoundLink {
                key: one.key.clone(),
                link: link_one,
                mac: Some(POD_MAC),
                addresses: one.addresses.clone(),
                unread: false,
            },
            FoundLink {
                key: two.key.clone(),
                link: link_two,
                mac: Some(two.mac),
                addresses: two.addresses.clone(),
                unread: false,
            },
        ]
    );

    // A pod's namespace ends, and with it the veth, in a moment.
    drop(other_pod);
    let deadline = Instant::now() + Duration::from_secs(10);
    while all(&world).len() > 1 {
        assert!(Instant::now() < deadline, "it stays");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!world.demolish(&two).unwrap());
    assert_eq!(all(&world)[0].key, one.key);
}

#[test]
fn one_without_addresses_and_one_whose_end_came_home() {
    let world = World::new();
    let plan = world.plan(&[]);
    world.build(&plan).unwrap();
    let [one] = &all(&world)[..] else {
        panic!("{:?}", all(&world));
    };
    assert_eq!((one.mac, &one.addresses[..]), (Some(POD_MAC), &[][..]));
    let node = world.node.path();
    world
        .pod
        .ip(&format!("link set eth0 netns {}", node.display()));
    let [one] = &all(&world)[..] else {
        panic!("{:?}", all(&world));
    };
    assert_eq!((one.mac, &one.addresses[..]), (None, &[][..]));
    assert!(world.demolish(&plan).unwrap());
    assert_eq!(names(&world.node), ["lo"]);
}

#[test]
fn many_pods_are_found() {
    let world = World::new();
    let pods: Vec<_> = (0..30u8).map(|_| TestNetns::new()).collect();
    for (n, pod) in pods.iter().enumerate() {
        let address = format!("10.244.1.{n}/32");
        world
            .build(&super::plan(pod, &format!("c{n}"), &[&address]))
            .unwrap();
    }
    let mut found: Vec<_> = all(&world)
        .into_iter()
        .map(|one| (one.key.container_id, one.addresses))
        .collect();
    found.sort();
    let mut wanted: Vec<_> = (0..30)
        .map(|n| (format!("c{n}"), vec![net(&format!("10.244.1.{n}/32"))]))
        .collect();
    wanted.sort();
    assert_eq!(found, wanted);
}
