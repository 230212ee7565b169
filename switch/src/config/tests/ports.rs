//! Bad ports.

use super::*;

#[test]
fn refuses_bad_ports() {
    refuse_after_node(&[
        Bad("[port]\nname = 'a'", "port", &["[[port]]"]),
        Bad("[[port]]\ndevice = 'va'", "port[1].name", &["missing"]),
        Bad("[[port]]\nname = 'a'", "port[1].device", &["missing"]),
        Bad(
            "[[port]]\nname = ''\ndevice = 'va'",
            "port[1].name",
            &["1 to 32"],
        ),
        Bad(
            "[[port]]\nname = 'a/b'\ndevice = 'va'",
            "port[1].name",
            &["a/b", "A-Z"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'v a'",
            "port[1].device",
            &["ip link"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\nkind = 'memory'",
            "port[1].kind",
            &["afxdp", "tap"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\nnetns = 'x'",
            "port[1].netns",
            &["remove netns"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\nworker = 1",
            "port[1].worker",
            &["no worker 1"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\nrx_frames = 2000",
            "port[1].rx_frames",
            &["1024"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\nmac = '33:33:00:00:00:01'",
            "port[1].mac",
            &["multicast"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\nmac = 'ee:ee:ee:ee:ee:ee'",
            "port[1].mac",
            &["gateway"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\nmac = 2",
            "port[1].mac",
            &["MAC address"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\naddresses = ['10.244.2.1']",
            "port[1].addresses",
            &["outside 10.244.1.0/24", "node.pod_cidrs"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\naddress = '10.244.1.1'",
            "port[1].address",
            &["did you mean `addresses`?"],
        ),
        Bad(
            "[uplink]\ndevice = 'eth0'\n[[port]]\nname = 'a'\ndevice = 'eth0'",
            "port[1].device",
            &["uplink"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\n[[port]]\nname = 'a'\ndevice = 'vb'",
            "port[2].name",
            &["port[1]", "its own"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\n[[port]]\nname = 'b'\ndevice = 'va'",
            "port[2].device",
            &["va", "port[1]"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\naddresses = ['10.244.1.2']\n\
             [[port]]\nname = 'b'\ndevice = 'vb'\naddresses = ['10.244.1.3', '10.244.1.2']",
            "port[2].addresses",
            &["10.244.1.2", "port[1]"],
        ),
        Bad(
            "[[port]]\nname = 'a'\ndevice = 'va'\nmac = '02:00:00:00:00:01'\n\
             [[port]]\nname = 'b'\ndevice = 'vb'\nmac = '02:00:00:00:00:01'",
            "port[2].mac",
            &["port[1]"],
        ),
        Bad(
            "[ports]\nmax = 1\n[uplink]\ndevice = 'eth0'\n[[port]]\nname = 'a'\ndevice = 'va'",
            "ports.max",
            &["2 ports", "the uplink and the host port included"],
        ),
        Bad(
            "[memory]\nframes = 2048\n[uplink]\ndevice = 'eth0'\n",
            "memory.frames",
            &["2048 frames are too few", "raise memory.frames"],
        ),
    ]);
    let l2 = format!(
        "mode = 'l2'\n{NODE}[[port]]\nname = 'a'\ndevice = 'va'\naddresses = ['10.244.1.255']\n"
    );
    refuse(&l2, "port[1].addresses", &["broadcast"]);
    let l2 = l2.replace(".255", ".1");
    refuse(&l2, "port[1].addresses", &["gateway"]);
    let same_device_elsewhere = "[[port]]\nname = 'a'\ndevice = 'eth0'\nkind = 'tap'\nnetns = 'a'\n\
                                 [[port]]\nname = 'b'\ndevice = 'eth0'\nkind = 'tap'\nnetns = 'b'\n";
    assert!(parse(&format!("{NODE}{same_device_elsewhere}")).is_ok());
}

#[test]
fn every_bad_item_of_a_list_is_told() {
    let text = format!(
        "{NODE}[[port]]\nname = 'a'\ndevice = 'va'\n\
         addresses = ['x', '10.244.2.1', '10.244.1.9', '10.244.2.2', '10.244.1.9']\n\
         [workers]\ncores = ['a', 1, 9, 1]\n"
    );
    let found = problems(&text);
    let of = |key: &str| found.iter().filter(|problem| problem.key == key).count();
    assert_eq!(of("port[1].addresses"), 4, "{found:#?}");
    assert_eq!(of("workers.cores"), 3, "{found:#?}");
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[test]
fn nothing_is_judged_by_what_is_wrong_already() {
    let text = "[node]\naddress = 'x'\npod_cidrs = ['y']\n[workers]\ncores = 'z'\n\
                [ports]\nring = 3\nrx_frames = 5000\n[uplink]\n\
                [[port]]\nname = 'a'\ndevice = 'va'\naddresses = ['10.244.1.2']\nworker = 5\n\
                rx_frames = 4000\n\
                [[route]]\nprefix = '10.244.2.0/24'\nvia = '192.168.50.2'\nencap = 'vxlan'\n";
    let found = problems(text);
    let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
    let wrong = [
        "node.address",
        "node.pod_cidrs",
        "workers.cores",
        "ports.ring",
        "uplink.device",
    ];
    assert_eq!(keys, wrong, "{found:#?}");
}
