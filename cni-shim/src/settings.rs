//! What a pod's attachment shall be like: from the configuration's own keys, from `runtimeConfig`
//! and `args` (CONVENTIONS.md of the CNI project), and from `CNI_ARGS`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shunt_api::{MacAddr, PortKind, RateLimit};

use crate::conf::Conf;
use crate::env::Environment;
use crate::error::{CniError, code};
use crate::result::Dns;

/// How a pod is to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// A veth or a TAP.
    pub(crate) kind: PortKind,
    /// The MTU asked for, in bytes.
    pub(crate) mtu: Option<u32>,
    /// Whether the pod gets default routes.
    pub(crate) default_route: bool,
    /// The MAC address asked for.
    pub(crate) mac: Option<MacAddr>,
    /// Whether the pod's guards are off.
    pub(crate) unguarded: bool,
    /// What the pod may send from beside its own.
    pub(crate) allowed_addresses: Vec<IpNet>,
    /// What the pod may send from beside its own.
    pub(crate) allowed_macs: Vec<MacAddr>,
    /// What the pod may receive.
    pub(crate) ingress: Option<RateLimit>,
    /// What the pod may send.
    pub(crate) egress: Option<RateLimit>,
    /// The name servers asked for.
    pub(crate) dns: Dns,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// Code 2, 4 or 7.
    pub(crate) fn read(conf: &Conf, environment: &Environment) -> Result<Self, CniError> {
        let runtime = Capabilities::of(conf)?;
        let guard = conf.key("guard")?.unwrap_or(true);
        let texts = |name| -> Result<Vec<String>, CniError> {
            conf.key(name).map(Option::unwrap_or_default)
        };
        let allowed_addresses = texts("allowedAddresses")?
            .iter()
            .map(|text| prefix(text))
            .collect::<Result<Vec<_>, _>>()?;
        let allowed_macs = texts("allowedMacs")?
            .iter()
            .map(|text| mac(text).map_err(|what| CniError::config(format!("allowedMacs: {what}"))))
            .collect::<Result<Vec<_>, _>>()?;
        let nothing_allowed = allowed_addresses.is_empty() && allowed_macs.is_empty();
        if !guard && !nothing_allowed {
            return Err(CniError::config(
                "guard is false, and a pod without guard may send from any address: remove \
                 allowedAddresses and allowedMacs, or guard",
            ));
        }
        let mut dns: Dns = conf.key("dns")?.unwrap_or_default();
        dns.overlay(&runtime.dns()?);
        Ok(Self {
            kind: kind(conf)?,
            mtu: conf.key("mtu")?.filter(|mtu| *mtu != 0),
            default_route: conf.key("isDefaultGateway")?.unwrap_or(true),
            mac: wanted_mac(conf, &runtime, environment)?,
            unguarded: !guard,
            allowed_addresses,
            allowed_macs,
            ingress: runtime.limit("ingress")?,
            egress: runtime.limit("egress")?,
            dns,
        })
    }
}

fn kind(conf: &Conf) -> Result<PortKind, CniError> {
    match conf.key::<String>("port")?.as_deref() {
        None | Some("" | "veth") => Ok(PortKind::Afxdp),
        Some("tap") => Ok(PortKind::Tap),
        Some(other) => Err(CniError::new(
            code::UNSUPPORTED,
            "unsupported field in the network configuration",
            format!("port is {other:?}: write \"veth\" or \"tap\""),
        )),
    }
}

fn prefix(text: &str) -> Result<IpNet, CniError> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| {
        CniError::config(format!(
            "allowedAddresses: {text:?} is neither an IP address nor a prefix: write one such as \
             10.9.0.7 or 10.9.0.0/24"
        ))
    })
}

/// A station's address, with colons or dashes.
fn mac(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = match text.replace('-', ":").parse() {
        Ok(mac) => mac,
        Err(error) => return Err(error.to_string()),
    };
    match mac.is_multicast() || mac.is_zero() {
        true => Err(format!("{mac} is no station's: give a unicast address")),
        false => Ok(mac),
    }
}

/// `runtimeConfig` goes first, then `args`, then `CNI_ARGS` (CONVENTIONS.md, "CNI_ARGS").
fn wanted_mac(
    conf: &Conf,
    runtime: &Capabilities,
    environment: &Environment,
) -> Result<Option<MacAddr>, CniError> {
    let args: Map<String, Value> = conf.key("args")?.unwrap_or_default();
    let args = args.get("cni").and_then(|cni| cni.get("mac"));
    let given = runtime.get::<String>("mac")?;
    let structured = match given.filter(|text| !text.is_empty()) {
        Some(text) => Some(("runtimeConfig.mac", text)),
        None => args
            .and_then(Value::as_str)
            .map(|text| ("args.cni.mac", text.to_owned())),
    };
    if let Some((name, text)) = structured.filter(|(_, text)| !text.is_empty()) {
        let read = mac(&text).map_err(|what| CniError::config(format!("{name}: {what}")));
        return read.map(Some);
    }
    environment
        .arg("MAC")
        .map(mac)
        .transpose()
        .map_err(|what| CniError::environment("CNI_ARGS", format!("has a MAC, but {what}")))
}

/// `runtimeConfig`, with keys in lower case: some runtimes send Go's names.
struct Capabilities(Map<String, Value>);

impl Capabilities {
    fn of(conf: &Conf) -> Result<Self, CniError> {
        let runtime: Map<String, Value> = conf.key("runtimeConfig")?.unwrap_or_default();
        Ok(Self(in_lower_case(runtime)))
    }

    fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CniError> {
        read(&self.0, name, "runtimeConfig")
    }

    fn dns(&self) -> Result<Dns, CniError> {
        let dns = in_lower_case(self.get("dns")?.unwrap_or_default());
        let list = |name| read(&dns, name, "runtimeConfig.dns").map(Option::unwrap_or_default);
        Ok(Dns {
            nameservers: list("servers")?,
            domain: String::new(),
            search: list("searches")?,
            options: list("options")?,
        })
    }

    /// The limit to a direction. A rate of 0 is none. A burst of 0 is the default, and so is the
    /// largest number of 31 or 32 bits: runtimes send it for pods' annotations, which have no burst.
    fn limit(&self, direction: &str) -> Result<Option<RateLimit>, CniError> {
        let bandwidth = in_lower_case(self.get("bandwidth")?.unwrap_or_default());
        let number = |what: &str| {
            let name = format!("{direction}{what}");
            let number = read::<u64>(&bandwidth, &name, "runtimeConfig.bandwidth")?;
            Ok(number.filter(|number| *number != 0))
        };
        const NOT_GIVEN: [u64; 2] = [i32::MAX as u64, u32::MAX as u64];
        let (rate, burst) = (number("rate")?, number("burst")?);
        let burst = burst.filter(|burst| !NOT_GIVEN.contains(burst));
        let Some(rate) = rate else {
            return Ok(None);
        };
        let limit = RateLimit::with_burst(rate, burst);
        for (what, unit, value, range) in [
            ("Rate", "bit/s", limit.rate, RateLimit::RATES),
            ("Burst", "bits", limit.burst, RateLimit::BURSTS),
        ] {
            if !range.contains(&value) {
                let (low, high) = range.into_inner();
                return Err(CniError::config(format!(
                    "runtimeConfig.bandwidth.{direction}{what} is {value} {unit}: it may be from \
                     {low} to {high}"
                )));
            }
        }
        Ok(Some(limit))
    }
}

fn in_lower_case(keys: Map<String, Value>) -> Map<String, Value> {
    let lower = |(name, value): (String, Value)| (name.to_lowercase(), value);
    keys.into_iter().map(lower).collect()
}

fn read<T: DeserializeOwned>(
    keys: &Map<String, Value>,
    name: &str,
    place: &str,
) -> Result<Option<T>, CniError> {
    let value = keys.get(name).cloned().unwrap_or_default();
    serde_json::from_value(value)
        .map_err(|error| CniError::config(format!("{place}.{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Verb;
    use serde_json::json;
    use std::ffi::OsString;

    /// Of a configuration with these keys, and `CNI_ARGS`.
    fn settings_with(keys: Value, args: &str) -> Result<Settings, CniError> {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "pods"});
        for (name, value) in keys.as_object().expect("keys") {
            conf[name] = value.clone();
        }
        let conf = Conf::parse(conf.to_string().into_bytes()).expect("a configuration");
        let environment = Environment::read(Verb::Add, &|name| {
            let value = match name {
                "CNI_ARGS" => args,
                "CNI_NETNS" => "/run/netns/a",
                _ => "a",
            };
            Some(OsString::from(value))
        });
        Settings::read(&conf, &environment.expect("an environment"))
    }

    fn settings(keys: Value) -> Result<Settings, CniError> {
        settings_with(keys, "")
    }

    #[track_caller]
    fn refused(keys: Value, code: u32, about: &str) {
        let error = settings(keys).expect_err(about);
        assert_eq!(error.code, code, "{error}");
        assert!(error.details.contains(about), "{error}");
    }

    #[test]
    fn a_pod_is_a_guarded_veth_with_default_routes() {
        let plain = settings(json!({})).expect("fine");
        assert_eq!(plain.kind, PortKind::Afxdp);
        assert!(plain.default_route && !plain.unguarded);
        assert_eq!((plain.mtu, plain.mac), (None, None));
        assert_eq!((plain.ingress, plain.egress), (None, None));
        assert!(plain.dns.is_empty());
        assert_eq!(settings(json!({"mtu": 0, "port": "veth"})), Ok(plain));
    }

    #[test]
    fn own_keys_are_read() {
        let read = settings(json!({
            "port": "tap", "mtu": 1400, "isDefaultGateway": false,
            "allowedAddresses": ["10.9.0.7", "fd09::/64"],
            "allowedMacs": ["00:00:5E:00:01:07"],
        }))
        .expect("fine");
        assert_eq!((read.kind, read.mtu), (PortKind::Tap, Some(1400)));
        assert!(!read.default_route);
        let prefixes = read.allowed_addresses.map_text();
        assert_eq!(prefixes, ["10.9.0.7/32", "fd09::/64"]);
        assert_eq!(read.allowed_macs.len(), 1);
        assert!(settings(json!({"guard": false})).expect("fine").unguarded);
    }

    trait MapText {
        fn map_text(&self) -> Vec<String>;
    }

    impl MapText for Vec<IpNet> {
        fn map_text(&self) -> Vec<String> {
            self.iter().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn own_keys_are_checked() {
        refused(json!({"port": "sriov"}), 2, "port is \"sriov\"");
        refused(json!({"mtu": "big"}), 7, "mtu");
        refused(json!({"mtu": -1}), 7, "mtu");
        refused(json!({"guard": "no"}), 7, "guard");
        refused(json!({"allowedAddresses": ["10.9"]}), 7, "allowedAddresses");
        refused(json!({"allowedMacs": ["01:00:00:00:00:00"]}), 7, "unicast");
        refused(
            json!({"guard": false, "allowedAddresses": ["10.9.0.7"]}),
            7,
            "guard",
        );
        refused(json!({"runtimeConfig": []}), 7, "runtimeConfig");
    }

    #[test]
    fn bandwidth_is_read_in_any_case() {
        let go = json!({"bandwidth": {"IngressRate": 1_000_000, "IngressBurst": 2_000_000,
                                      "EgressRate": 100_000_000, "EgressBurst": 0}});
        let camel = json!({"Bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 2_000_000,
                                         "egressRate": 100_000_000,
                                         "egressBurst": 4_294_967_295u64}});
        for runtime in [go, camel] {
            let read = settings(json!({"runtimeConfig": runtime})).expect("fine");
            let ingress = RateLimit {
                rate: 1_000_000,
                burst: 2_000_000,
            };
            assert_eq!(read.ingress, Some(ingress));
            assert_eq!(read.egress, Some(RateLimit::with_burst(100_000_000, None)));
        }
    }

    #[test]
    fn bandwidth_that_the_switch_cannot_keep_is_refused() {
        let with = |bandwidth| json!({"runtimeConfig": {"bandwidth": bandwidth}});
        let none = settings(with(json!({"ingressRate": 0, "ingressBurst": 5}))).expect("fine");
        assert_eq!(none.ingress, None);
        refused(with(json!({"ingressRate": 7_999})), 7, "from 8000 to");
        refused(
            with(json!({"egressRate": 1_000_000_000_001u64})),
            7,
            "egressRate",
        );
        refused(
            with(json!({"egressRate": 8_000, "egressBurst": 1})),
            7,
            "from 72144",
        );
        refused(with(json!({"ingressRate": -5})), 7, "ingressrate");
        refused(with(json!({"ingressRate": "fast"})), 7, "ingressrate");
        refused(with(json!("fast")), 7, "bandwidth");
    }

    #[test]
    fn the_mac_comes_from_the_runtime_first() {
        let [a, b, c] = [
            "02:00:00:00:00:0a",
            "02-00-00-00-00-0B",
            "02:00:00:00:00:0c",
        ];
        let all = json!({"runtimeConfig": {"Mac": a}, "args": {"cni": {"mac": b}}});
        let args = json!({"args": {"cni": {"mac": b}}});
        let text = format!("IgnoreUnknown=1;MAC={c}");
        for (keys, last) in [(all, 0x0a), (args, 0x0b), (json!({}), 0x0c)] {
            let mac = settings_with(keys, &text).expect("fine").mac;
            assert_eq!(mac, Some(MacAddr([2, 0, 0, 0, 0, last])));
        }
        refused(
            json!({"runtimeConfig": {"mac": "02:00"}}),
            7,
            "runtimeConfig.mac",
        );
        refused(
            json!({"args": {"cni": {"mac": "ff:ff:ff:ff:ff:ff"}}}),
            7,
            "args.cni.mac",
        );
        let error = settings_with(json!({}), "MAC=zz").expect_err("no MAC");
        assert!(error.code == 4 && error.msg.contains("CNI_ARGS"), "{error}");
    }

    #[test]
    fn the_runtimes_dns_goes_over_the_networks() {
        let read = settings(json!({
            "dns": {"nameservers": ["10.0.0.1"], "domain": "cluster.local", "search": ["a"]},
            "runtimeConfig": {"dns": {"Servers": ["10.0.0.2"], "Searches": null, "Options": ["x"]}},
        }))
        .expect("fine");
        assert_eq!(read.dns.nameservers, ["10.0.0.2"]);
        assert_eq!(read.dns.search, ["a"]);
        assert_eq!(read.dns.options, ["x"]);
        assert_eq!(read.dns.domain, "cluster.local");
        refused(
            json!({"runtimeConfig": {"dns": {"servers": "x"}}}),
            7,
            "dns.servers",
        );
        refused(json!({"dns": "10.0.0.1"}), 7, "dns");
    }
}
