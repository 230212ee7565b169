//! What a runtime believes beside what is there.

use shunt_api::ErrorCode;

use super::*;

fn belief(plan: &PodLinkPlan) -> PodCheck {
    PodCheck {
        key: plan.key.clone(),
        netns: plan.netns.clone(),
        addresses: plan.addresses.clone(),
        routes: plan.routes.clone(),
        mac: Some(plan.mac),
        mtu: Some(plan.mtu),
    }
}

fn differences(world: &World, belief: &PodCheck) -> Vec<String> {
    match world.node.run(|| check(belief)) {
        Ok(()) => Vec::new(),
        Err(PodLinkError::Different { differences, .. }) => differences,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_was_made_is_as_it_was_made() {
    let world = World::new();
    let mut plan = world.plan(&["10.244.1.5/32", "fd44::5/128"]);
    for kind in [PortKind::Afxdp, PortKind::Tap] {
        plan.kind = kind;
        let _made = world.build(&plan).unwrap();
        assert_eq!(differences(&world, &belief(&plan)), [] as [&str; 0]);
        // What others add is fine, and what is not asked does not matter.
        world.pod.ip("addr add 10.99.0.1/24 dev eth0");
        world.pod.ip("route add 10.98.0.0/16 dev eth0");
        let mut belief = belief(&plan);
        (belief.mac, belief.mtu) = (None, None);
        belief.routes.push(PodRoute::new(net("10.98.3.4/16"), None));
        assert_eq!(differences(&world, &belief), [] as [&str; 0]);
        world.demolish(&plan).unwrap();
    }
}

#[test]
fn all_differences_are_named_at_once() {
    let world = World::new();
    let plan = world.plan(&["10.244.1.5/32", "10.244.1.6/32", "fd44::5/128"]);
    world.build(&plan).unwrap();
    let mut belief = belief(&plan);
    belief
        .routes
        .push(PodRoute::new(net("10.7.0.0/16"), Some(ip("169.254.1.1"))));
    world.pod.ip("addr del 10.244.1.5/32 dev eth0");
    world.pod.ip("addr del 10.244.1.6/32 dev eth0");
    world.pod.ip("addr add 10.244.1.6/24 dev eth0");
    world.pod.ip("route add 169.254.1.2 dev eth0");
    world.pod.ip("route replace default via 169.254.1.2");
    world.pod.ip("-6 route del default");
    world
        .pod
        .ip("link set eth0 mtu 1300 address 02:00:00:00:00:99");
    world.pod.link("net1", "");
    world.pod.ip("link set net1 up");
    world.pod.ip("route add 10.7.0.0/16 dev net1");
    assert_eq!(
        differences(&world, &belief),
        [
            format!("its MAC address is 02:00:00:00:00:99, not {POD_MAC}").as_str(),
            "its MTU is 1300 bytes, not 1500",
            "the address 10.244.1.5/32 is missing",
            "its address 10.244.1.6/32 has become 10.244.1.6/24",
            "the route to 0.0.0.0/0 by 169.254.1.1 has become one to 0.0.0.0/0 by 169.254.1.2",
            "the route to 10.7.0.0/16 by 169.254.1.1 leads over another interface",
            "the route to ::/0 by fe80::1 is missing",
        ]
    );
    let error = world.node.run(|| check(&belief)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    let text = error.to_string();
    assert!(
        text.contains("`eth0`") && text.contains(&plan.netns.display().to_string()),
        "{text}"
    );

    world.pod.ip("link set eth0 down");
    assert!(differences(&world, &belief).contains(&"it is down".to_owned()));
    world.pod.ip("link set eth0 name eth7");
    assert_eq!(differences(&world, &belief), ["it is not there"]);
}

#[test]
fn a_pod_that_is_gone() {
    let world = World::new();
    let mut belief = belief(&world.plan(&[]));
    belief.netns = "/run/netns/no-such-ns".into();
    let error = world.node.run(|| check(&belief)).unwrap_err();
    assert!(matches!(error, PodLinkError::NetnsGone { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::NotFound);
}
