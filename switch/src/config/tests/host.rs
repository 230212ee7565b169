//! The host port, and the numbers of what is beyond pods.

use super::*;

#[test]
fn the_host_port_has_its_names() {
    let host = "[host]\ndevice = 'cali0-switch'\nmasquerade = false\n\
                non_masquerade_cidrs = ['192.168.0.0/16', 'fd00::/8', '::/0']\nkeep = true\n";
    let read = accept(&format!("{NODE}{host}")).host.unwrap();
    assert_eq!(read.device, "cali0-switch");
    assert!(!read.masquerade && read.keep);
    assert_eq!(read.non_masquerade_cidrs.len(), 3);

    refuse_after_node(&[
        Bad(
            "[host]\ndevice = 'thirteenbytes'",
            "host.device",
            &["thirteenbytes", "1 to 12"],
        ),
        Bad("[host]\ndevice = ''", "host.device", &["1 to 12"]),
        Bad("[host]\ndevice = 0", "host.device", &["in quotes"]),
        Bad(
            "[host]\ndevice = 'eth0'\n[uplink]\ndevice = 'eth0'",
            "host.device",
            &["uplink.device", "shunt0"],
        ),
        Bad(
            "[host]\n[uplink]\ndevice = 'shunt0-sw'",
            "host.device",
            &["shunt0-sw", "uplink.device"],
        ),
        Bad(
            "[host]\nmasquerade = 1",
            "host.masquerade",
            &["true or false"],
        ),
        Bad(
            "[host]\nnon_masquerade_cidrs = ['10.0.0.1/8']",
            "host.non_masquerade_cidrs",
            &["write 10.0.0.0/8"],
        ),
        Bad(
            "[host]\nnon_masquerade_cidrs = ['ff00::/8']",
            "host.non_masquerade_cidrs",
            &["unicast"],
        ),
        Bad("[host]\nkeeps = true", "host.keeps", &["`keep`"]),
        Bad(
            "[host]\n[[port]]\nname = 'a'\ndevice = 'shunt0'",
            "port[1].device",
            &["host.device"],
        ),
        Bad(
            "[host]\n[[port]]\nname = 'a'\ndevice = 'shunt0-sw'",
            "port[1].device",
            &["host.device"],
        ),
        Bad(
            "[host]\n[[port]]\nname = 'host'\ndevice = 'va'",
            "port[1].name",
            &["[host]", "another"],
        ),
        Bad(
            "[host]\n[uplink]\ndevice = 'eth0'\n[[port]]\nname = 'uplink'\ndevice = 'va'",
            "port[1].name",
            &["[uplink]", "another"],
        ),
        Bad(
            "[ports]\nmax = 1\n[host]\n[[port]]\nname = 'a'\ndevice = 'va'",
            "ports.max",
            &["2 ports", "host port included"],
        ),
        Bad(
            "[memory]\nframes = 2500\n[uplink]\ndevice = 'eth0'\n[host]\n",
            "memory.frames",
            &["2560 with the kernel"],
        ),
    ]);
    let elsewhere = "[host]\n[[port]]\nname = 'a'\nkind = 'tap'\nnetns = 'a'\ndevice = 'shunt0'\n";
    accept(&format!("{NODE}{elsewhere}"));
    accept(&format!(
        "{NODE}[[port]]\nname = 'host'\ndevice = 'shunt0'\n"
    ));
}

#[test]
fn refuses_numbers_out_of_range() {
    for (table, key, good, bad, range) in [
        ("icmp", "rate", [1, 100_000], [0, 100_001], "1 to 100000"),
        (
            "flows",
            "max",
            [1024, 4_194_304],
            [1023, 4_194_305],
            "1024 to 4194304",
        ),
        (
            "flows",
            "tcp_idle",
            [10, 1_000_000],
            [9, 1_000_001],
            "10 to 1000000 (seconds)",
        ),
        (
            "flows",
            "tcp_transient",
            [10, 1_000_000],
            [9, 1_000_001],
            "10 to 1000000 (seconds)",
        ),
        (
            "flows",
            "idle",
            [10, 1_000_000],
            [9, 1_000_001],
            "10 to 1000000 (seconds)",
        ),
        (
            "mtu",
            "remote",
            [576, 65_535],
            [575, 65_536],
            "576 to 65535",
        ),
        (
            "l2",
            "storm_limit",
            [1, 10_000_000],
            [0, 10_000_001],
            "1 to 10000000",
        ),
    ] {
        for number in good {
            accept(&format!("{NODE}[{table}]\n{key} = {number}\n"));
        }
        for number in bad {
            let text = format!("{NODE}[{table}]\n{key} = {number}\n");
            let number = number.to_string();
            refuse(&text, &format!("{table}.{key}"), &[&number, range]);
        }
    }
    refuse_after_node(&[
        Bad(
            "[icmp]\nunreachable = 'no'",
            "icmp.unreachable",
            &["true or false"],
        ),
        Bad("[mtu]\nclamp_mss = 1", "mtu.clamp_mss", &["true or false"]),
        Bad("[l2]\nsnooping = 'yes'", "l2.snooping", &["true or false"]),
        Bad(
            "[l2]\nsnooping = false\nquerier = true",
            "l2.querier",
            &["snooping = true"],
        ),
        Bad("[flow]\nmax = 2000", "flow", &["did you mean `flows`?"]),
    ]);
    refuse(
        &format!("{DUAL}[mtu]\nremote = 1279\n"),
        "mtu.remote",
        &["1279", "fd00:10:244:1::/64", "1280 or more"],
    );
    assert_eq!(
        accept(&format!("{DUAL}[mtu]\nremote = 1280\n")).mtu.remote,
        Some(1280)
    );
}
