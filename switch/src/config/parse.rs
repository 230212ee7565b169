//! Texts that the file and the command line have in common.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_api::RateLimit;

/// Bits, or bits per second: a whole number, alone or with one of the decimal units `kbit`, `Mbit`
/// and `Gbit` right after it.
///
/// # Errors
/// One line with the remedy.
pub fn bits(text: &str) -> Result<u64, String> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit {
        "" => Some(1),
        "kbit" => Some(1_000),
        "Mbit" => Some(1_000_000),
        "Gbit" => Some(1_000_000_000),
        _ => None,
    };
    factor
        .zip(digits.parse::<u64>().ok())
        .and_then(|(factor, count)| count.checked_mul(factor))
        .ok_or_else(|| {
            "not a number of bits: write a whole number such as 100000000, or with a unit \
             (kbit, Mbit, Gbit) such as 100Mbit"
                .to_owned()
        })
}

/// See [`RateLimit::with_burst`].
pub fn rate_limit(rate: u64, burst: Option<u64>) -> RateLimit {
    RateLimit::with_burst(rate, burst)
}

/// A prefix, or an address as the prefix of its full length.
///
/// # Errors
/// One line with the remedy.
pub fn address_or_prefix(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => text.parse().map_err(|_| {
            "neither an IP address nor a prefix: write one such as 10.244.2.7, 10.244.2.0/24 or \
             fd00:10:244:2::/64"
                .to_owned()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_decimal_units() {
        for (text, expected) in [
            ("0", 0),
            ("8000", 8_000),
            ("8kbit", 8_000),
            ("100Mbit", 100_000_000),
            ("1000Gbit", 1_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(bits(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "Mbit",
            "-1",
            "+1",
            "1.5Mbit",
            "1 Mbit",
            "1mbit",
            "1MB",
            "1Mbit/s",
            "1kbitkbit",
            "0x10",
            "١",
            "18446744073709551616",
            "18446744073709552kbit",
            "99999999999Gbit",
        ] {
            let error = bits(text).expect_err(text);
            assert!(error.contains("100Mbit"), "{error}");
        }
    }

    #[test]
    fn a_burst_is_an_eighth_of_a_second_and_128_kib_at_least() {
        let burst = |rate| rate_limit(rate, None).burst;
        assert_eq!(burst(8_000), 1_048_576);
        assert_eq!(burst(8 * 1_048_576), 1_048_576);
        assert_eq!(burst(100_000_000), 12_500_000);
        assert_eq!(burst(u64::MAX), u64::MAX / 8);
        let given = RateLimit { rate: 5, burst: 7 };
        assert_eq!(rate_limit(5, Some(7)), given);
    }

    #[test]
    fn an_address_is_a_prefix_of_full_length() {
        for (text, prefix) in [
            ("10.9.0.1", "10.9.0.1/32"),
            ("fd09::1", "fd09::1/128"),
            ("10.9.0.0/24", "10.9.0.0/24"),
            ("::/0", "::/0"),
        ] {
            let read = address_or_prefix(text).unwrap();
            assert_eq!(read.to_string(), prefix);
        }
        for text in [
            "",
            "pod",
            "10.9.0",
            "10.9.0.0/33",
            "fd09::1/129",
            "fe80::1%eth0",
        ] {
            let error = address_or_prefix(text).expect_err(text);
            assert!(error.contains("10.244.2.7"), "{error}");
        }
    }
}
