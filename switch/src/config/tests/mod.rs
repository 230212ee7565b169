//! What a configuration must accept and refuse.

mod accepted;
mod dual;
mod guards;
mod host;
mod ports;
mod routes;
mod tables;

use std::path::Path;

use super::*;

const EXAMPLE: &str = include_str!("../../../shunt.example.toml");
const NODE: &str = "[node]\naddress = '192.168.50.1'\npod_cidrs = ['10.244.1.0/24']\n";

/// A node with addresses and pods of both families.
const DUAL: &str = "[node]\naddress = '192.168.50.1'\naddress6 = 'fd00:50::1'\n\
                    pod_cidrs = ['10.244.1.0/24', 'fd00:10:244:1::/64']\n\
                    cluster_cidrs = ['10.244.0.0/16', 'fd00:10:244::/48']\n";

/// Parses for a machine with cores 0 to 3.
fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse_for(text, Path::new("/etc/shunt.toml"), &[0, 1, 2, 3])
}

#[track_caller]
fn accept(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Ok(config) => panic!("accepted: {text}\n{config:#?}"),
        Err(error) => error.problems().to_vec(),
    }
}

/// One bad configuration: what is wrong with [`NODE`] and this text besides, where, and words that
/// the message must have.
struct Bad(&'static str, &'static str, &'static [&'static str]);

/// Each must give exactly one problem, with this key.
#[track_caller]
fn refuse_after_node(cases: &[Bad]) {
    for Bad(text, key, words) in cases {
        refuse(&format!("{NODE}{text}"), key, words);
    }
}

#[track_caller]
fn refuse(text: &str, key: &str, words: &[&str]) {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    assert_eq!(found[0].key, key, "{text}\n{found:#?}");
    assert!(
        found[0].line.is_some() || key.starts_with("node"),
        "no line: {text}\n{found:#?}"
    );
    for word in words {
        assert!(
            found[0].message.contains(word),
            "no `{word}`: {text}\n{found:#?}"
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/shunt.toml")).unwrap_err();
    assert!(error.problems().is_empty());
    let text = error.to_string();
    assert!(
        text.contains("/nonexistent/shunt.toml") && text.contains("--config"),
        "{text}"
    );
}

#[test]
fn bad_toml_is_told_by_line() {
    let found = problems("mode = \"l3\"\n[node\naddress = 1.2.3\n");
    assert_eq!(found[0].line, Some(2), "{found:#?}");
    assert!(
        found
            .iter()
            .all(|problem| problem.message.contains("not valid TOML")),
        "{found:#?}"
    );
    let found = problems("[node]\n[node]\n");
    assert_eq!(found[0].line, Some(2), "{found:#?}");
}

#[test]
fn all_problems_come_together_in_order_with_their_lines() {
    let text = "mode = 'l4'\nsokcet = '/x'\n[workers]\nbatch = 0\n[memory]\nframe_size = 3000\n\
                [[port]]\nname = 'a b'\ndevice = 'veth0'\nmac = '01:00:00:00:00:00'\n";
    let error = parse(text).unwrap_err();
    let found: Vec<_> = error
        .problems()
        .iter()
        .map(|p| (p.line, p.key.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (None, "node.address"),
            (None, "node.pod_cidrs"),
            (Some(1), "mode"),
            (Some(2), "sokcet"),
            (Some(4), "workers.batch"),
            (Some(6), "memory.frame_size"),
            (Some(8), "port[1].name"),
            (Some(10), "port[1].mac"),
        ]
    );
    let text = error.to_string();
    assert_eq!(text.lines().count(), 9, "{text}");
    assert!(
        text.contains("/etc/shunt.toml:4: workers.batch: 0 will not do"),
        "{text}"
    );
    assert!(text.starts_with("the configuration has 8 problems\n/etc/shunt.toml: node.address: "));
}

#[test]
fn survives_every_prefix_of_the_example() {
    let mut refused = 0;
    for end in (0..EXAMPLE.len()).filter(|end| EXAMPLE.is_char_boundary(*end)) {
        if let Err(error) = parse(&EXAMPLE[..end]) {
            assert!(!error.problems().is_empty(), "{end}");
            assert!(error.to_string().contains("\n/etc/shunt.toml:"), "{end}");
            refused += 1;
        }
    }
    assert!(refused > 1000, "{refused}");
}
