//! The alias that tells whose a veth is: `shunt:NETWORK/CONTAINER/IFNAME`. `ip link` shows it.

use shunt_api::AttachmentKey;

use super::PodLinkError;
use crate::sys::interface::is_valid_name;

const PREFIX: &str = "shunt:";

/// The kernel's limit in bytes (`IFALIASZ` with the NUL, include/uapi/linux/if.h).
const ALIAS_MAX: usize = 255;

/// The alias for links of `key`.
pub(super) fn of(key: &AttachmentKey) -> Result<String, PodLinkError> {
    if !is_valid(key) {
        return Err(PodLinkError::Invalid(format!(
            "`{key}` is no attachment: network and container take letters, digits, `_`, `.` and \
             `-`, a letter or digit first; an interface takes 1 to 15 bytes without `/`, `:`, `%` \
             and white space"
        )));
    }
    let alias = format!("{PREFIX}{key}");
    if alias.len() > ALIAS_MAX {
        return Err(PodLinkError::Invalid(format!(
            "`{key}` is too long: network, container and interface together take at most {} \
             bytes, for the kernel keeps them with the link",
            ALIAS_MAX - PREFIX.len() - 2
        )));
    }
    Ok(alias)
}

/// Whose the alias says that a link is; `None` for what [`of`] would not have made.
pub(super) fn parse(alias: &str) -> Option<AttachmentKey> {
    let mut parts = alias.strip_prefix(PREFIX)?.split('/');
    let mut part = || parts.next().map(str::to_owned);
    let key = AttachmentKey {
        network: part()?,
        container_id: part()?,
        ifname: part()?,
    };
    (parts.next().is_none() && alias.len() <= ALIAS_MAX && is_valid(&key)).then_some(key)
}

fn is_valid(key: &AttachmentKey) -> bool {
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    word(&key.network) && word(&key.container_id) && is_valid_name(&key.ifname)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(network: &str, container_id: &str, ifname: &str) -> AttachmentKey {
        AttachmentKey {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        }
    }

    proptest! {
        #[test]
        fn an_alias_parses_back(
            network in "[A-Za-z0-9][A-Za-z0-9_.-]{0,60}",
            container in "[A-Za-z0-9][A-Za-z0-9_.-]{0,90}",
            ifname in "[a-z0-9_.@-]{3,15}",
        ) {
            let key = key(&network, &container, &ifname);
            let alias = of(&key).unwrap();
            prop_assert!(alias.len() <= 255);
            prop_assert_eq!(parse(&alias), Some(key));
        }

        #[test]
        fn what_parses_is_what_was_made(alias in "shunt:[a-z/ .]{0,12}|[ -~]{0,20}") {
            if let Some(key) = parse(&alias) {
                prop_assert_eq!(of(&key).unwrap(), alias);
            }
        }
    }

    #[test]
    fn others_aliases_are_not_ours() {
        for alias in [
            "",
            "uplink to rack 7",
            "shunt:",
            "shunt:a/b",
            "shunt:a/b/eth0/x",
            "shunt:a/b/",
            "shunt:a//eth0",
            "shunt:../b/eth0",
            "shunt:a/b/an-interface-too-long",
            "Shunt:a/b/eth0",
        ] {
            assert_eq!(parse(alias), None, "{alias}");
        }
        assert_eq!(parse("shunt:a/b/eth0"), Some(key("a", "b", "eth0")));
    }

    #[test]
    fn the_longest_key_fits_and_a_longer_one_is_told_so() {
        let longest = 255 - "shunt:n//eth0".len();
        assert_eq!(
            of(&key("n", &"c".repeat(longest), "eth0")).unwrap().len(),
            255
        );
        let error = of(&key("n", &"c".repeat(longest + 1), "eth0")).unwrap_err();
        assert!(error.to_string().contains("at most 247 bytes"), "{error}");
        for wrong in [
            key("", "c", "eth0"),
            key("n", "a/b", "eth0"),
            key("n", "c", "eth 0"),
        ] {
            let error = of(&wrong).unwrap_err();
            assert_eq!(error.code(), shunt_api::ErrorCode::Invalid, "{error}");
        }
    }
}
