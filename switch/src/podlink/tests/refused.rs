//! What cannot be made, and that nothing is left of it.

use std::path::Path;

use shunt_api::ErrorCode;

use super::*;

#[track_caller]
fn says(error: &PodLinkError, code: ErrorCode, words: &[&str]) {
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "no `{word}` in: {error}");
    }
}

#[test]
fn paths_that_lead_to_no_pod() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("empty"), "").unwrap();
    let fifo = file("fifo");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::os::unix::fs::symlink("/proc/self/ns/mnt", file("link")).unwrap();
    std::os::unix::fs::symlink(file("loop"), file("loop")).unwrap();
    let mut plan = world.plan(&["10.244.1.5/32"]);
    let mut at = |path: &Path| {
        plan.netns = path.to_owned();
        world.fails(&plan)
    };
    for path in [
        file("empty"),
        fifo.clone(),
        file("link"),
        directory.path().to_owned(),
        "/proc/self/ns/mnt".into(),
        "/dev/null".into(),
    ] {
        let error = at(&path);
        says(
            &error,
            ErrorCode::Invalid,
            &[&path.display().to_string(), "is no network namespace"],
        );
        assert_eq!(netns_id(&path).unwrap(), None, "{}", path.display());
    }
    for path in [
        "/run/netns/no-such-ns",
        "/proc/4194305/ns/net",
        "/etc/hostname/net",
    ] {
        says(
            &at(Path::new(path)),
            ErrorCode::NotFound,
            &[path, "is the pod gone?"],
        );
        assert_eq!(netns_id(Path::new(path)).unwrap(), None);
    }
    for own in [
        "/proc/thread-self/ns/net",
        "/proc/self/fd/../task/../../thread-self/ns/net",
    ] {
        says(&at(Path::new(own)), ErrorCode::Invalid, &["the node's own"]);
    }
    says(
        &at(Path::new("run/netns/x")),
        ErrorCode::Invalid,
        &["no absolute path"],
    );
    says(&at(&file("loop")), ErrorCode::System, &["loop"]);
    assert!(netns_id(&file("loop")).is_err());
}

#[test]
fn a_path_may_go_astray_and_names_one_namespace() {
    let world = World::new();
    let mut plan = world.plan(&["10.244.1.5/32"]);
    let straight = plan.netns.clone();
    let name = straight.file_name().unwrap();
    let astray = straight.parent().unwrap().join("../ns/../fd").join(name);
    let id = netns_id(&straight).unwrap().unwrap();
    assert_eq!(netns_id(&astray).unwrap(), Some(id));
    assert_ne!(netns_id(&world.node.path()).unwrap(), Some(id));
    plan.netns = astray;
    world.build(&plan).unwrap();
    assert_eq!(names(&world.pod), ["eth0", "lo"]);
}

#[test]
fn an_interface_that_exists() {
    let world = World::new();
    world.pod.link("eth0", "");
    let mut plan = world.plan(&["10.244.1.5/32"]);
    for kind in [PortKind::Afxdp, PortKind::Tap] {
        plan.kind = kind;
        let netns = plan.netns.display().to_string();
        says(
            &world.fails(&plan),
            ErrorCode::Exists,
            &["`eth0` already", &netns],
        );
    }
    assert!(
        names(&world.pod).contains(&"eth0".to_owned()),
        "it is left alone"
    );
}

#[test]
fn what_a_crash_left_is_replaced_and_what_is_anothers_is_not() {
    let world = World::new();
    let plan = world.plan(&["10.244.1.5/32"]);
    let first = world.build(&plan).unwrap().link.index;
    let second = world.build(&plan).unwrap().link.index;
    assert_ne!(first, second, "made anew");
    assert_eq!(names(&world.pod), ["eth0", "lo"]);

    let other_pod = TestNetns::new();
    let mut other = super::plan(&other_pod, "c2", &["10.244.1.6/32"]);
    other.host_device.clone_from(&plan.host_device);
    says(
        &world.fails(&other),
        ErrorCode::Exists,
        &[&plan.host_device, "is that of k8s/c1/eth0"],
    );
    says(
        &world.demolish(&other).unwrap_err(),
        ErrorCode::Exists,
        &["is that of k8s/c1/eth0"],
    );
    world
        .node
        .ip(&format!("link set {} alias mine", plan.host_device));
    says(
        &world.fails(&plan),
        ErrorCode::Exists,
        &["(alias `mine`)", "ip link del"],
    );
    assert!(world.demolish(&plan).is_err());
    assert_eq!(names(&world.node), ["lo", &plan.host_device]);
    world.node.ip(&format!("link del {}", plan.host_device));

    // Made, and not named yet.
    let half_made = || {
        let device = &plan.host_device;
        world
            .node
            .ip(&format!("link add {device} type veth peer name x0"));
    };
    half_made();
    assert!(world.demolish(&plan).unwrap());
    half_made();
    world.build(&plan).unwrap();
    assert!(world.demolish(&plan).unwrap());
    // Somebody uses it.
    half_made();
    world.node.ip(&format!("link set {} up", plan.host_device));
    says(&world.fails(&plan), ErrorCode::Exists, &["is another's"]);
}

#[test]
fn a_route_through_another_interface() {
    let world = World::new();
    world.pod.link("net1", "");
    world
        .pod
        .command("sysctl", &["-qw", "net.ipv6.conf.net1.disable_ipv6=0"]);
    world.pod.ip("addr add 10.50.0.2/24 dev net1");
    world.pod.ip("addr add fd50::2/64 dev net1 nodad");
    world.pod.ip("link set net1 up");
    world.pod.ip("link set net1p up");
    world.pod.ip("route add default via 10.50.0.1");
    let plan = world.plan(&["10.244.1.5/32"]);
    let words = [
        "0.0.0.0/0 already, through `net1` by 10.50.0.1",
        "isDefaultGateway",
    ];
    says(&world.fails(&plan), ErrorCode::Exists, &words);
    let mut tap = plan.clone();
    tap.kind = PortKind::Tap;
    says(&world.fails(&tap), ErrorCode::Exists, &words);

    world.pod.ip("-6 route add default via fd50::1 dev net1");
    let plan = world.plan(&["fd44::5/128"]);
    says(
        &world.fails(&plan),
        ErrorCode::Exists,
        &["::/0 already, through `net1` by fd50::1"],
    );
    // A worse one beside it is no conflict.
    let mut plan = world.plan(&["10.244.1.5/32", "fd44::5/128"]);
    for route in &mut plan.routes {
        route.priority = Some(2000);
    }
    world.build(&plan).unwrap();
    assert!(
        world
            .pod
            .ip("route")
            .contains("default via 10.50.0.1 dev net1")
    );
}

#[test]
fn what_the_kernel_refuses_half_way() {
    let world = World::new();
    let mut plan = world.plan(&["10.244.1.5/32"]);
    plan.routes
        .push(PodRoute::new(net("10.9.0.0/16"), Some(ip("192.0.2.1"))));
    let netns = plan.netns.display().to_string();
    for kind in [PortKind::Afxdp, PortKind::Tap] {
        plan.kind = kind;
        let words = ["10.9.0.0/16 via 192.0.2.1", "not on the link", &netns];
        says(&world.fails(&plan), ErrorCode::System, &words);
        let mut plan = plan.clone();
        plan.addresses = vec![net("ff02::5/128")];
        says(
            &world.fails(&plan),
            ErrorCode::System,
            &["ff02::5", "unicast"],
        );
    }
}

#[test]
fn plans_that_make_no_sense() {
    let world = World::new();
    let good = world.plan(&["10.244.1.5/32", "fd44::5/128"]);
    type Spoil = fn(&mut PodLinkPlan);
    let cases: &[(&str, Spoil)] = &[
        ("`../eth0`", |plan| plan.key.ifname = "../eth0".to_owned()),
        ("`a b`", |plan| plan.key.network = "a b".to_owned()),
        ("too long", |plan| plan.key.container_id = "c".repeat(250)),
        ("cannot name a device", |plan| {
            plan.host_device = "..".to_owned()
        }),
        ("`afxdp` or `tap`", |plan| plan.kind = PortKind::Memory),
        ("no station's", |plan| {
            plan.mac = MacAddr([1, 0, 0, 0, 0, 1])
        }),
        ("no station's", |plan| plan.gateway_mac = MacAddr([0; 6])),
        ("68 to 65535", |plan| plan.mtu = 67),
        ("68 to 65535", |plan| plan.mtu = 65_536),
        ("at least 1280", |plan| plan.mtu = 1279),
        ("own address", |plan| plan.gateways = vec![ip("10.244.1.5")]),
        ("other address family", |plan| {
            plan.routes[0].gw = Some(ip("fe80::1"))
        }),
        ("65521", |plan| {
            (plan.kind, plan.mtu) = (PortKind::Tap, 65_535)
        }),
    ];
    for (words, spoil) in cases {
        let mut plan = good.clone();
        spoil(&mut plan);
        let error = world.fails(&plan);
        assert_eq!(error.code(), ErrorCode::Invalid, "{error}");
        assert!(
            error.to_string().contains(words.trim_matches('`')),
            "{words}: {error}"
        );
    }
}
