//! Good configurations.

use shunt_api::{Encap, PortKind, RouteTarget};

use super::*;

#[test]
fn the_example_is_good_and_says_the_defaults() {
    let example = parse(EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(example.port.len(), 2);
    assert_eq!(example.route.len(), 4);
    assert_eq!(example.workers.cores, [0]);
    assert_eq!(example.mtu.remote, Some(1400));

    let tables = format!("{NODE}[uplink]\ndevice = 'eth0'\n[host]\n");
    let mut expected = parse(&tables).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(example.node.address, expected.node.address);
    expected.node.clone_from(&example.node);
    expected.mtu.remote = example.mtu.remote;
    expected.workers.cores.clone_from(&example.workers.cores);
    expected.port.clone_from(&example.port);
    expected.route.clone_from(&example.route);
    assert_eq!(example, expected);
}

#[test]
fn the_example_shows_every_key() {
    // What a mistyped key is told to be known is all there is.
    let mut typos = String::from("zzzzzzzz = 1\n");
    typos.push_str(NODE);
    typos.push_str("zzzzzzzz = 1\n");
    for table in [
        "gateway", "workers", "memory", "ports", "uplink", "vxlan", "ipip", "l2", "host", "icmp",
        "flows", "mtu",
    ] {
        typos.push_str(&format!("[{table}]\nzzzzzzzz = 1\n"));
    }
    typos.push_str("[neighbours]\nzzzzzzzz = 1\n[[port]]\nzzzzzzzz = 1\n[[route]]\nzzzzzzzz = 1\n");
    let unknown: Vec<_> = problems(&typos)
        .into_iter()
        .filter(|p| p.message.starts_with("unknown key"))
        .collect();
    assert_eq!(unknown.len(), 17, "{unknown:#?}");
    for problem in unknown {
        let (_, known) = problem.message.split_once("known here: ").unwrap();
        for key in known.trim_end_matches(')').split(", ") {
            let shown = EXAMPLE.lines().any(|line| {
                line.trim_matches(['[', ']']) == key || line.starts_with(&format!("{key} = "))
            });
            assert!(shown, "the example lacks {} ({})", key, problem.key);
        }
    }
}

#[test]
fn defaults_of_the_shortest_configuration() {
    let config = parse(NODE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.mode, Mode::L3);
    assert_eq!(config.socket, Path::new(shunt_api::DEFAULT_SOCKET));
    assert_eq!(config.state_dir, Path::new(shunt_api::DEFAULT_STATE_DIR));
    assert_eq!(config.path, Path::new("/etc/shunt.toml"));
    assert_eq!(config.node.address.to_string(), "192.168.50.1");
    assert_eq!(config.gateway.address.to_string(), "169.254.1.1");
    assert_eq!(config.gateway.mac.to_string(), "ee:ee:ee:ee:ee:ee");
    assert_eq!(
        config.workers,
        WorkersConfig {
            cores: vec![3],
            batch: 64
        }
    );
    assert_eq!(
        config.memory,
        MemoryConfig {
            frames: 16_384,
            frame_size: 4096
        }
    );
    let ports = PortsConfig {
        rx_frames: 64,
        ring: 1024,
        max: 1024,
        xdp: XdpMode::Auto,
    };
    assert_eq!(config.ports, ports);
    assert_eq!(config.uplink, None);
    assert_eq!((config.vxlan.vni, config.vxlan.port), (1, 8472));
    assert_eq!(
        config.vxlan.vtep_mac,
        shunt_api::vtep_mac(config.node.address)
    );
    assert!(!config.vxlan.udp_checksum);
    assert_eq!((config.vxlan.ttl, config.vxlan.dscp), (64, Dscp::Copy));
    assert_eq!(
        config.ipip,
        IpipConfig {
            ttl: 64,
            dscp: Dscp::Copy
        }
    );
    assert_eq!(config.l2.ageing, Duration::from_secs(300));
    assert_eq!(
        (config.l2.max_macs, config.l2.max_macs_per_port),
        (16_384, 1024)
    );
    assert_eq!(
        (config.neighbours.queue, config.neighbours.total),
        (16, 256)
    );
    assert_eq!(config.neighbours.timeout, Duration::from_millis(3000));
    assert!(config.port.is_empty() && config.route.is_empty());
}

#[test]
fn defaults_of_what_is_beyond_pods() {
    let config = parse(NODE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.node.address6, None);
    assert_eq!(config.gateway.address6.to_string(), "fe80::1");
    assert_eq!(config.l2.storm_limit, 10_000);
    assert!(config.l2.snooping && !config.l2.querier);
    assert_eq!(config.host, None);
    let icmp = IcmpConfig {
        unreachable: true,
        rate: 1000,
    };
    assert_eq!(config.icmp, icmp);
    let flows = FlowsConfig {
        max: 65_536,
        tcp_idle: Duration::from_secs(86_400),
        tcp_transient: Duration::from_secs(120),
        idle: Duration::from_secs(180),
    };
    assert_eq!(config.flows, flows);
    let mtu = MtuConfig {
        remote: None,
        clamp_mss: false,
    };
    assert_eq!(config.mtu, mtu);

    let config = parse(&format!("{NODE}[host]\n")).unwrap_or_else(|error| panic!("{error}"));
    let host = HostConfig {
        device: "shunt0".to_owned(),
        masquerade: true,
        non_masquerade_cidrs: vec![],
        keep: false,
    };
    assert_eq!(config.host, Some(host));
}

#[test]
fn a_full_configuration_is_read_as_written() {
    let text = r#"
        mode = "l2"
        socket = "/tmp/s.sock"
        node = { address = "172.16.0.1", pod_cidrs = ["10.0.0.0/25", "10.0.1.0/24"] }
        [gateway]
        address = "10.0.1.1"
        mac = "02:00:00:00:00:FE"
        [workers]
        cores = [2, 0]
        batch = 256
        [memory]
        frames = 16_384
        frame_size = 0x1000
        [ports]
        rx_frames = 100
        ring = 128
        max = 9
        xdp = "skb"
        [uplink]
        device = "ens1f0"
        ring = 64
        [vxlan]
        vni = 0xffffff
        port = 4789
        vtep_mac = "02:00:00:00:00:aa"
        udp_checksum = true
        ttl = 1
        dscp = 46
        [ipip]
        ttl = 255
        dscp = 0
        [l2]
        ageing = 10
        max_macs = 64
        storm_limit = 1
        snooping = true
        querier = true
        [neighbours]
        queue = 300
        timeout = 10
        [[port]]
        name = "a"
        kind = "tap"
        device = "tap0"
        netns = "/proc/7/ns/net"
        addresses = ["10.0.0.2", "10.0.1.2"]
        mac = "02:00:00:00:00:02"
        worker = 1
        rx_frames = 128
        [[port]]
        name = "b"
        device = "veth-b"
        [[route]]
        prefix = "10.9.0.0/16"
        via = "172.16.0.9"
        encap = "cross-subnet-ipip"
        [[route]]
        prefix = "10.0.0.64/26"
        port = "b"
    "#;
    let config = parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.mode, Mode::L2);
    assert_eq!(config.gateway.mac.to_string(), "02:00:00:00:00:fe");
    assert_eq!(
        config.workers,
        WorkersConfig {
            cores: vec![2, 0],
            batch: 256
        }
    );
    assert_eq!(
        config.memory,
        MemoryConfig {
            frames: 16_384,
            frame_size: 4096
        }
    );
    let uplink = config.uplink.unwrap();
    assert_eq!(
        (uplink.rx_frames, uplink.ring),
        (64, 64),
        "the ring bounds the default"
    );
    assert_eq!(
        (config.vxlan.vni, config.vxlan.dscp),
        (0xff_ffff, Dscp::Fixed(46))
    );
    assert_eq!(
        config.ipip,
        IpipConfig {
            ttl: 255,
            dscp: Dscp::Fixed(0)
        }
    );
    assert_eq!((config.l2.max_macs, config.l2.max_macs_per_port), (64, 64));
    assert_eq!(
        (config.neighbours.queue, config.neighbours.total),
        (300, 300)
    );
    assert_eq!(config.port[0].kind, PortKind::Tap);
    assert_eq!(
        config.port[0].netns.as_deref(),
        Some(Path::new("/proc/7/ns/net"))
    );
    assert_eq!(
        (config.port[0].worker, config.port[0].rx_frames),
        (Some(1), Some(128))
    );
    assert_eq!(config.port[1].kind, PortKind::Afxdp);
    let to = &config.route[0].to;
    let RouteTarget::Node {
        encap: Encap::CrossSubnetIpip,
        vtep_mac: None,
        ..
    } = to
    else {
        panic!("{to:?}");
    };
    assert_eq!(config.route[1].to, RouteTarget::Port("b".to_owned()));
}

#[test]
fn l2_gateway_defaults_to_the_first_host() {
    let config = parse(&format!("mode = 'l2'\n{NODE}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.gateway.address.to_string(), "10.244.1.1");
}

#[test]
fn l2_gateway_passes_over_ipv6() {
    let of = |cidrs: &str| {
        let text = format!("mode = 'l2'\n[node]\naddress = '192.168.50.1'\npod_cidrs = {cidrs}\n");
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        config.gateway.address.to_string()
    };
    assert_eq!(
        of("['fd00:1::/64', '10.7.0.0/24', '10.8.0.0/24']"),
        "10.7.0.1"
    );
    // Nobody asks for it, and no IPv6 pod CIDR needs to have room for a gateway.
    assert_eq!(of("['fd00:1::/128']"), "169.254.1.1");
}
