//! Lines as people type them.

use std::path::Path;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use shunt_api::RateLimit;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("shunt").chain(line.split_whitespace()))
}

#[track_caller]
fn request(line: &str) -> Request {
    let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    cli.command
        .request()
        .unwrap_or_else(|| panic!("{line}: no request"))
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_becomes_its_request() {
    let prefix: IpNet = "10.244.2.0/24".parse().unwrap();
    let via = "192.168.50.2".parse().unwrap();
    let node = |encap, vtep_mac| {
        Request::RouteAdd(RouteSpec {
            prefix,
            to: RouteTarget::Node {
                via,
                encap,
                vtep_mac,
            },
        })
    };
    let get = |prefix: &str, covered| Request::RouteGet {
        prefix: prefix.parse().unwrap(),
        covered,
    };
    for (line, expected) in [
        (
            "port del pod1",
            Request::PortDel {
                name: "pod1".to_owned(),
            },
        ),
        ("port list", Request::PortList),
        ("pod list", Request::PodList { network: None }),
        (
            "pod list --network pods",
            Request::PodList {
                network: Some("pods".to_owned()),
            },
        ),
        (
            "pod del pods 0123abc eth0",
            Request::PodDetach {
                key: AttachmentKey {
                    network: "pods".to_owned(),
                    container_id: "0123abc".to_owned(),
                    ifname: "eth0".to_owned(),
                },
            },
        ),
        (
            "route add 10.244.2.0/24 --via 192.168.50.2 --encap vxlan",
            node(Encap::Vxlan, None),
        ),
        (
            "route add 10.244.2.0/24 --via 192.168.50.2 --encap vxlan --vtep-mac 02:00:00:00:00:01",
            node(Encap::Vxlan, Some(MacAddr([2, 0, 0, 0, 0, 1]))),
        ),
        (
            "route add 10.244.2.0/24 --via 192.168.50.2 --encap ipip",
            node(Encap::Ipip, None),
        ),
        (
            "route add 10.244.2.0/24 --encap direct --via 192.168.50.2",
            node(Encap::Direct, None),
        ),
        (
            "route add 10.244.2.0/24 --via 192.168.50.2 --encap cross-subnet-vxlan",
            node(Encap::CrossSubnetVxlan, None),
        ),
        (
            "route add 10.244.2.0/24 --via 192.168.50.2 --encap cross-subnet-ipip",
            node(Encap::CrossSubnetIpip, None),
        ),
        (
            "route add 10.244.2.0/24 --port pod1",
            Request::RouteAdd(RouteSpec {
                prefix,
                to: RouteTarget::Port("pod1".to_owned()),
            }),
        ),
        (
            "route add 10.244.2.0/24 --blackhole",
            Request::RouteAdd(RouteSpec {
                prefix,
                to: RouteTarget::Blackhole,
            }),
        ),
        ("route del 10.244.2.0/24", Request::RouteDel { prefix }),
        ("route list", Request::RouteList),
        ("route get 10.244.2.7", get("10.244.2.7/32", None)),
        ("route get fd00::7", get("fd00::7/128", None)),
        ("route get 10.244.2.0/24", get("10.244.2.0/24", None)),
        (
            "route get 10.244.2.0/24 --covered",
            get("10.244.2.0/24", Some(100)),
        ),
        (
            "route get --limit 7 --covered 10.244.2.0/24",
            get("10.244.2.0/24", Some(7)),
        ),
        ("route get ::/0", get("::/0", None)),
        (
            "route get fd00:10:244::/48 --covered",
            get("fd00:10:244::/48", Some(100)),
        ),
        (
            "route del fd00:10:244:2::/64",
            Request::RouteDel {
                prefix: "fd00:10:244:2::/64".parse().unwrap(),
            },
        ),
        (
            "route add fd00:10:244:2::/64 --via fd00:50::2 --encap direct",
            Request::RouteAdd(RouteSpec {
                prefix: "fd00:10:244:2::/64".parse().unwrap(),
                to: RouteTarget::Node {
                    via: "fd00:50::2".parse().unwrap(),
                    encap: Encap::Direct,
                    vtep_mac: None,
                },
            }),
        ),
        ("flow list", Request::FlowList),
        ("fdb list", Request::FdbList),
        ("neigh list", Request::NeighList),
        ("stats", Request::Stats),
        ("status", Request::Status),
    ] {
        assert_eq!(request(line), expected, "{line}");
    }
}

#[test]
fn port_add_takes_every_field() {
    let minimal = request("port add pod1 --device veth1");
    let Request::PortAdd(spec) = minimal else {
        panic!("{minimal:?}")
    };
    assert_eq!(
        (spec.name.as_str(), spec.device.as_str()),
        ("pod1", "veth1")
    );
    assert_eq!(spec.kind, PortKind::Afxdp);
    assert!(spec.addresses.is_empty() && spec.mac.is_none() && spec.netns.is_none());

    let full = request(
        "port add vm1 --device tap1 --kind tap --netns blue --address 10.244.1.2 \
         --address 10.244.1.3 --mac 02:00:00:00:00:02 --worker 1 --rx-frames 256",
    );
    let Request::PortAdd(spec) = full else {
        panic!("{full:?}")
    };
    assert_eq!(spec.kind, PortKind::Tap);
    assert_eq!(spec.netns.as_deref(), Some(Path::new("/run/netns/blue")));
    assert_eq!(spec.addresses.len(), 2);
    assert_eq!(spec.mac, Some(MacAddr([2, 0, 0, 0, 0, 2])));
    assert_eq!((spec.worker, spec.rx_frames), (Some(1), Some(256)));

    let path = request("port add vm1 --device tap1 --kind tap --netns /proc/7/ns/net");
    let Request::PortAdd(spec) = path else {
        panic!("{path:?}")
    };
    assert_eq!(spec.netns.as_deref(), Some(Path::new("/proc/7/ns/net")));
    let relative = request("port add vm1 --device tap1 --kind tap --netns ./ns");
    let Request::PortAdd(spec) = relative else {
        panic!("{relative:?}")
    };
    assert!(spec.netns.is_some_and(|path| path.is_absolute()));
}

#[test]
fn port_add_takes_guards_and_limits() {
    let of = |flags: &str| match request(&format!("port add pod1 --device veth1 {flags}")) {
        Request::PortAdd(spec) => spec,
        other => panic!("{other:?}"),
    };
    let bare = of("");
    assert!(bare.allowed_addresses.is_empty() && bare.allowed_macs.is_empty());
    assert!(!bare.unguarded && bare.ingress.is_none() && bare.egress.is_none());

    let spec = of(
        "--address fd00:10:244:1::2 --allowed-address 10.9.0.1 --allowed-address fd09::/64 \
         --allowed-mac 00:00:5e:00:01:07 --ingress-rate 100Mbit --egress-rate 8kbit \
         --egress-burst 72144",
    );
    assert_eq!(
        spec.addresses,
        ["fd00:10:244:1::2".parse::<IpAddr>().unwrap()]
    );
    let allowed: Vec<_> = spec
        .allowed_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(allowed, ["10.9.0.1/32", "fd09::/64"]);
    assert_eq!(spec.allowed_macs, [MacAddr([0, 0, 0x5e, 0, 1, 7])]);
    let limit = |rate, burst| Some(RateLimit { rate, burst });
    assert_eq!(spec.ingress, limit(100_000_000, 12_500_000));
    assert_eq!(spec.egress, limit(8_000, 72_144));
    assert!(!spec.unguarded);

    let spec = of("--no-guard --ingress-burst 1Mbit --ingress-rate 5000");
    assert!(spec.unguarded);
    assert_eq!(spec.ingress, limit(5_000, 1_000_000));
}

#[test]
fn global_options_stand_anywhere() {
    for line in [
        "--json --socket /s port list",
        "port list --socket /s --json",
    ] {
        let cli = parse(line).unwrap();
        assert!(cli.json, "{line}");
        assert_eq!(cli.socket.as_deref(), Some(Path::new("/s")), "{line}");
    }
    let cli = parse("stats").unwrap();
    assert_eq!((cli.json, cli.socket), (false, None));
}

#[test]
fn run_and_check_ask_nobody() {
    for line in ["run --config /etc/s.toml", "check --config /etc/s.toml"] {
        assert_eq!(parse(line).unwrap().command.request(), None, "{line}");
    }
}

#[test]
fn wrong_usage_is_refused_with_exit_code_2() {
    use ErrorKind::{ArgumentConflict, InvalidSubcommand, InvalidValue, ValueValidation};
    use ErrorKind::{MissingRequiredArgument, UnknownArgument};
    for (line, kind, word) in [
        ("plug", InvalidSubcommand, "plug"),
        ("run", MissingRequiredArgument, "--config"),
        ("port add pod1", MissingRequiredArgument, "--device"),
        (
            "port add pod1 --device v --kind memory",
            InvalidValue,
            "afxdp",
        ),
        (
            "port add pod1 --device v --mac 1",
            ValueValidation,
            "six hexadecimal octets",
        ),
        (
            "port add pod1 --device v --address x",
            ValueValidation,
            "--address",
        ),
        (
            "port add pod1 --device v --worker -1",
            UnknownArgument,
            "-1",
        ),
        (
            "port add pod1 --device v --allowed-address 10.9.0.0/33",
            ValueValidation,
            "10.244.2.7",
        ),
        (
            "port add pod1 --device v --allowed-mac 02",
            ValueValidation,
            "six hexadecimal octets",
        ),
        (
            "port add pod1 --device v --ingress-rate 5MB",
            ValueValidation,
            "100Mbit",
        ),
        (
            "port add pod1 --device v --ingress-burst 1Mbit",
            MissingRequiredArgument,
            "--ingress-rate",
        ),
        (
            "port add pod1 --device v --ingress-rate 1Mbit --egress-burst 1Mbit",
            MissingRequiredArgument,
            "--egress-rate",
        ),
        (
            "port add pod1 --device v --no-guard --allowed-address 10.9.0.1",
            ArgumentConflict,
            "--no-guard",
        ),
        (
            "port add pod1 --device v --no-guard --allowed-mac 02:00:00:00:00:01",
            ArgumentConflict,
            "--no-guard",
        ),
        ("flow add", InvalidSubcommand, "add"),
        (
            "route add 10.0.0.0/8",
            MissingRequiredArgument,
            "--blackhole",
        ),
        (
            "route add 10.0.0.0 --blackhole",
            ValueValidation,
            "10.244.2.0/24",
        ),
        (
            "route add 10.0.0.0/8 --via 1.1.1.1",
            MissingRequiredArgument,
            "--encap",
        ),
        (
            "route add 10.0.0.0/8 --encap ipip",
            MissingRequiredArgument,
            "--via",
        ),
        (
            "route add 10.0.0.0/8 --via 1.1.1.1 --encap gre",
            InvalidValue,
            "cross-subnet-vxlan",
        ),
        (
            "route add 10.0.0.0/8 --via 1.1.1.1 --encap ipip --port a",
            ArgumentConflict,
            "--port",
        ),
        (
            "route add 10.0.0.0/8 --port a --blackhole",
            ArgumentConflict,
            "--blackhole",
        ),
        (
            "route add 10.0.0.0/8 --port a --encap ipip",
            ArgumentConflict,
            "--encap",
        ),
        (
            "route add 10.0.0.0/8 --blackhole --vtep-mac 02:00:00:00:00:01",
            ArgumentConflict,
            "--vtep-mac",
        ),
        ("route get nowhere", ValueValidation, "nowhere"),
        ("route get 10.0.0.0/33", ValueValidation, "10.244.2.0/24"),
        (
            "route get 10.0.0.0/8 --limit 7",
            MissingRequiredArgument,
            "--covered",
        ),
        (
            "route get 10.0.0.0/8 --covered --limit many",
            ValueValidation,
            "--limit",
        ),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.kind(), kind, "{line}: {error}");
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(word), "{line}: {error}");
    }
}
