//! What a port may send, and how fast.

use shunt_api::{MacAddr, RateLimit};

use super::*;

const POD: &str = "[[port]]\nname = 'a'\ndevice = 'va'\n";

#[test]
fn ports_are_guarded_and_limited_as_written() {
    let config = accept(&format!(
        "{DUAL}{POD}allowed_addresses = ['10.9.0.1', 'fd09::/64', '10.244.1.0/24', 'fd09::1']\n\
         allowed_macs = ['00:00:5e:00:01:07']\n\
         ingress_rate = '100Mbit'\ningress_burst = '1Mbit'\negress_rate = 8_000\n\
         [[port]]\nname = 'b'\ndevice = 'vb'\nguard = false\n\
         egress_rate = 1_000_000_000_000\negress_burst = 72144\n"
    ));
    let [a, b] = config.port.as_slice() else {
        panic!("{config:?}");
    };
    let allowed: Vec<_> = a
        .allowed_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        allowed,
        ["10.9.0.1/32", "fd09::/64", "10.244.1.0/24", "fd09::1/128"]
    );
    assert_eq!(a.allowed_macs, [MacAddr([0, 0, 0x5e, 0, 1, 7])]);
    assert!(!a.unguarded && b.unguarded);
    let limit = |rate, burst| Some(RateLimit { rate, burst });
    assert_eq!(a.ingress, limit(100_000_000, 1_000_000));
    assert_eq!(a.egress, limit(8_000, 1_048_576));
    assert_eq!(b.ingress, None);
    assert_eq!(b.egress, limit(1_000_000_000_000, 72_144));

    let guarded = accept(&format!("{DUAL}{POD}guard = true\n"));
    assert!(!guarded.port[0].unguarded);
}

#[test]
fn refuses_bad_guards_and_limits() {
    let address = "allowed_addresses";
    for (text, field, words) in [
        (
            "allowed_addresses = ['0.0.0.0/0']",
            address,
            &["0.0.0.0/0", "guard = false"][..],
        ),
        ("allowed_addresses = ['::/0']", address, &["guard = false"]),
        (
            "allowed_addresses = ['10.9.0.1/24']",
            address,
            &["write 10.9.0.0/24"],
        ),
        ("allowed_addresses = ['224.0.0.0/8']", address, &["unicast"]),
        ("allowed_addresses = ['ff02::1']", address, &["unicast"]),
        (
            "allowed_addresses = ['pod']",
            address,
            &["\"pod\"", "10.9.0.1/32"],
        ),
        ("allowed_addresses = '10.9.0.1'", address, &["write a list"]),
        (
            "allowed_addresses = ['169.254.1.1']",
            address,
            &["169.254.1.1", "gateway's"],
        ),
        (
            "allowed_addresses = ['192.168.50.1']",
            address,
            &["node.address"],
        ),
        (
            "allowed_addresses = ['fd00:50::1/128']",
            address,
            &["node.address6"],
        ),
        (
            "allowed_macs = ['01:00:5e:00:00:01']",
            "allowed_macs",
            &["multicast"],
        ),
        (
            "allowed_macs = ['ee:ee:ee:ee:ee:ee']",
            "allowed_macs",
            &["gateway's"],
        ),
        ("guard = 'off'", "guard", &["true or false"]),
        (
            "guard = false\nallowed_addresses = ['10.9.0.1']",
            "guard",
            &["remove", "allowed_addresses"],
        ),
        (
            "guard = false\nallowed_macs = ['02:00:00:00:00:09']",
            "guard",
            &["allowed_macs"],
        ),
        ("ingress_rate = 7999", "ingress_rate", &["7999", "8kbit"]),
        ("egress_rate = '1001Gbit'", "egress_rate", &["1000Gbit"]),
        ("egress_rate = -5", "egress_rate", &["-5", "number of bits"]),
        (
            "egress_rate = '5MB'",
            "egress_rate",
            &["\"5MB\"", "100Mbit"],
        ),
        (
            "ingress_rate = '1Mbit'\ningress_burst = 72143",
            "ingress_burst",
            &["72143", "72144"],
        ),
        (
            "ingress_rate = '1Mbit'\ningress_burst = '1001Gbit'",
            "ingress_burst",
            &["1000Gbit"],
        ),
        (
            "ingress_rate = '1Mbit'\ningress_burst = true",
            "ingress_burst",
            &["true", "number of bits"],
        ),
        (
            "ingress_burst = '1Mbit'",
            "ingress_burst",
            &["no rate", "ingress_rate"],
        ),
        (
            "ingress_rate = '1Mbit'\negress_burst = '1Mbit'",
            "egress_burst",
            &["egress_rate"],
        ),
    ] {
        let text = format!("{DUAL}{POD}{text}\n");
        refuse(&text, &format!("port[1].{field}"), words);
    }
    let found = problems(&format!(
        "{DUAL}{POD}allowed_addresses = ['x', '10.9.0.1/24', '0.0.0.0/0', '10.9.0.0/24']\n"
    ));
    assert_eq!(found.len(), 3, "{found:#?}");
}
