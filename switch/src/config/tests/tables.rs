//! Bad tables, and values that do not fit each other.

use super::*;

#[test]
fn refuses_bad_nodes() {
    let cidrs = "pod_cidrs = ['10.244.1.0/24']\n";
    for (text, key, words) in [
        (
            format!("[node]\n{cidrs}"),
            "node.address",
            vec!["missing", "address = \""],
        ),
        (
            format!("[node]\naddress = 'here'\n{cidrs}"),
            "node.address",
            vec!["\"here\"", "192.168"],
        ),
        (
            format!("[node]\naddress = 7\n{cidrs}"),
            "node.address",
            vec!["7", "in quotes"],
        ),
        (
            format!("[node]\naddress = 'fe80::1'\n{cidrs}"),
            "node.address",
            vec!["link-local", "fd00:50::1"],
        ),
        (
            format!("[node]\naddress = '224.0.0.1'\n{cidrs}"),
            "node.address",
            vec!["one host"],
        ),
        (
            format!("[node]\naddress = '10.244.1.9'\n{cidrs}"),
            "node.address",
            vec!["10.244.1.0/24", "physical network"],
        ),
    ] {
        refuse(&text, key, &words);
    }
    for (cidrs, words) in [
        ("", vec!["missing", "pod_cidrs = ["]),
        ("pod_cidrs = []", vec!["missing"]),
        (
            "pod_cidrs = '10.244.1.0/24'",
            vec!["write a list", "[\"10.244.1.0/24\"]"],
        ),
        (
            "pod_cidrs = ['10.244.1.0']",
            vec!["\"10.244.1.0\"", "IP prefix"],
        ),
        ("pod_cidrs = [10]", vec!["10 is not", "in quotes"]),
        ("pod_cidrs = ['10.244.1.7/24']", vec!["write 10.244.1.0/24"]),
        ("pod_cidrs = ['fe80::/64']", vec!["unicast"]),
        ("pod_cidrs = ['224.1.0.0/16']", vec!["unicast"]),
        (
            "pod_cidrs = ['10.1.0.0/16', '10.1.2.0/24']",
            vec!["overlaps 10.1.0.0/16"],
        ),
        (
            "pod_cidrs = ['10.1.2.0/24', '10.1.0.0/16']",
            vec!["overlaps 10.1.2.0/24"],
        ),
        (
            "pod_cidrs = ['10.1.2.0/24']\ncluster_cidrs = ['10.9.0.0/16']",
            vec!["outside 10.9.0.0/16", "node.cluster_cidrs"],
        ),
    ] {
        refuse(
            &format!("[node]\naddress = '192.168.50.1'\n{cidrs}\n"),
            "node.pod_cidrs",
            &words,
        );
    }
    refuse_after_node(&[
        Bad(
            "cluster_cidrs = ['10.244.0.0/15', '10.245.0.1/8']",
            "node.cluster_cidrs",
            &["10.0.0.0/8"],
        ),
        Bad("pods = 1", "node.pods", &["unknown key", "known here"]),
        Bad("adress = 1", "node.adress", &["did you mean `address`?"]),
    ]);
    let l2 = "mode = 'l2'\n[node]\naddress = '192.168.50.1'\npod_cidrs = ['10.0.0.0/31']\n";
    refuse(l2, "node.pod_cidrs", &["/30 or wider"]);
}

#[test]
fn refuses_bad_gateways() {
    refuse_after_node(&[
        Bad(
            "[gateway]\naddress = 'fd00::1'",
            "gateway.address",
            &["IPv4"],
        ),
        Bad(
            "[gateway]\naddress = '0.0.0.0'",
            "gateway.address",
            &["one host"],
        ),
        Bad(
            "[gateway]\naddress = '192.168.50.1'",
            "gateway.address",
            &["node.address"],
        ),
        Bad(
            "[gateway]\nmac = '01:00:5e:00:00:01'",
            "gateway.mac",
            &["multicast", "02:"],
        ),
        Bad(
            "[gateway]\nmac = '00:00:00:00:00:00'",
            "gateway.mac",
            &["no station"],
        ),
        Bad(
            "[gateway]\nmac = 'ee-ee-ee-ee-ee-ee'",
            "gateway.mac",
            &["MAC address", "02:00"],
        ),
        Bad("gateway = '169.254.1.1'", "node.gateway", &["unknown key"]),
    ]);
    let in_cidr = "[gateway]\naddress = '10.244.1.5'\n";
    assert!(parse(&format!("{NODE}{in_cidr}")).is_ok(), "no pod has it");
    let pod = "[[port]]\nname = 'a'\ndevice = 'va'\naddresses = ['10.244.1.5']\n";
    let found = problems(&format!("{NODE}{in_cidr}{pod}"));
    assert_eq!(found[0].key, "gateway.address", "{found:#?}");
    assert!(found[0].message.contains("port `a`") && found[0].message.contains("169.254.1.1"));

    for address in ["169.254.1.1", "10.244.1.0", "10.244.1.255"] {
        let text = format!("mode = 'l2'\n{NODE}[gateway]\naddress = '{address}'\n");
        refuse(&text, "gateway.address", &[address, "write an"]);
    }
    refuse(
        "gateway = 1\n[node]\naddress = '1.1.1.1'\npod_cidrs = ['10.0.0.0/8']\n",
        "gateway",
        &["[gateway]"],
    );
}

#[test]
fn refuses_bad_numbers_and_words() {
    refuse_after_node(&[
        Bad(
            "[workers]\ncores = [9]",
            "workers.cores",
            &["core 9", "0, 1, 2, 3"],
        ),
        Bad(
            "[workers]\ncores = [1, 1]",
            "workers.cores",
            &["core 1 is named twice"],
        ),
        Bad(
            "[workers]\ncores = []",
            "workers.cores",
            &["remove the key"],
        ),
        Bad("[workers]\ncores = [-1]", "workers.cores", &["-1", "[1]"]),
        Bad("[workers]\ncores = 1", "workers.cores", &["write a list"]),
        Bad(
            "[workers]\nbatch = 257",
            "workers.batch",
            &["257", "1 to 256"],
        ),
        Bad("[workers]\nbatch = 0", "workers.batch", &["1 to 256"]),
        Bad(
            "[workers]\nbatch = '64'",
            "workers.batch",
            &["\"64\"", "whole number"],
        ),
        Bad("[workers]\nbatch = 1.5", "workers.batch", &["1.5"]),
        Bad(
            "[workers]\nbatch = 99999999999999999999",
            "workers.batch",
            &["1 to 256"],
        ),
        Bad(
            "[workers]\ncore = [1]",
            "workers.core",
            &["did you mean `cores`?"],
        ),
        Bad("[memory]\nframes = 1000", "memory.frames", &["1024"]),
        Bad(
            "[memory]\nframe_size = 2049",
            "memory.frame_size",
            &["2048 or 4096"],
        ),
        Bad(
            "[memory]\nframe_size = 8192",
            "memory.frame_size",
            &["4096"],
        ),
        Bad(
            "[ports]\nring = 1000",
            "ports.ring",
            &["power of two", "512 or 1024"],
        ),
        Bad("[ports]\nring = 32", "ports.ring", &["64 to 8192"]),
        Bad(
            "[ports]\nrx_frames = 2000",
            "ports.rx_frames",
            &["ring of 1024", "ports.ring"],
        ),
        Bad("[ports]\nrx_frames = 0", "ports.rx_frames", &["1 to 8192"]),
        Bad("[ports]\nmax = 0", "ports.max", &["1 to 4096"]),
        Bad(
            "[ports]\nxdp = 'generic'",
            "ports.xdp",
            &["auto", "native", "skb"],
        ),
        Bad(
            "[ports]\nxdp = 'nativ'",
            "ports.xdp",
            &["did you mean `native`?"],
        ),
        Bad("[uplink]", "uplink.device", &["missing", "device = "]),
        Bad("[uplink]\ndevice = 'a/b'", "uplink.device", &["ip link"]),
        Bad(
            "[uplink]\ndevice = 'sixteen-bytes-xx'",
            "uplink.device",
            &["15 bytes"],
        ),
        Bad(
            "[uplink]\ndevice = 'eth0'\nring = 100",
            "uplink.ring",
            &["64 or 128"],
        ),
        Bad(
            "[vxlan]\nvni = 16777216",
            "vxlan.vni",
            &["16777215", "24 bits"],
        ),
        Bad("[vxlan]\nvni = -1", "vxlan.vni", &["0 to"]),
        Bad("[vxlan]\nport = 0", "vxlan.port", &["1 to 65535"]),
        Bad("[vxlan]\nport = 65536", "vxlan.port", &["1 to 65535"]),
        Bad(
            "[vxlan]\nvtep_mac = 'ff:ff:ff:ff:ff:ff'",
            "vxlan.vtep_mac",
            &["multicast"],
        ),
        Bad(
            "[vxlan]\nudp_checksum = 'no'",
            "vxlan.udp_checksum",
            &["true or false"],
        ),
        Bad("[vxlan]\nttl = 0", "vxlan.ttl", &["1 to 255"]),
        Bad("[vxlan]\ndscp = 64", "vxlan.dscp", &["copy", "0 to 63"]),
        Bad("[vxlan]\ndscp = 'inner'", "vxlan.dscp", &["copy"]),
        Bad("[ipip]\nttl = 256", "ipip.ttl", &["1 to 255"]),
        Bad("[ipip]\ndscp = true", "ipip.dscp", &["0 to 63"]),
        Bad(
            "[l2]\nageing = 9",
            "l2.ageing",
            &["10 to 1000000", "seconds"],
        ),
        Bad("[l2]\nageing = 1_000_001", "l2.ageing", &["1000000"]),
        Bad("[l2]\nmax_macs = 0", "l2.max_macs", &["1 to"]),
        Bad(
            "[l2]\nmax_macs = 10\nmax_macs_per_port = 11",
            "l2.max_macs_per_port",
            &["l2.max_macs"],
        ),
        Bad(
            "[neighbours]\nqueue = 257\ntotal = 256",
            "neighbours.queue",
            &["neighbours.total"],
        ),
        Bad(
            "[neighbours]\ntimeout = 1",
            "neighbours.timeout",
            &["10 to 60000", "milliseconds"],
        ),
        Bad(
            "[neighbors]\nqueue = 1",
            "neighbors",
            &["did you mean `neighbours`?"],
        ),
    ]);
    refuse(
        &format!("mode = 3\n{NODE}"),
        "mode",
        &["3", "\"l3\" or \"l2\""],
    );
    refuse(&format!("socket = 3\n{NODE}"), "socket", &["in quotes"]);
    refuse(
        &format!("state_dir = 'var/lib/shunt'\n{NODE}"),
        "state_dir",
        &["absolute", "/var/lib/shunt"],
    );
}
