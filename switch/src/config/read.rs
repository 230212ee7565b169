//! Reading one TOML table key by key, so that one bad value does not hide the next.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;
use shunt_api::MacAddr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Report;
use super::parse::{address_or_prefix, bits};
use super::similar::did_you_mean;

/// A table of the file, or the absence of one.
pub(super) struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    path: String,
    /// Every key asked for: what remains is unknown.
    asked: RefCell<Vec<&'static str>>,
}

/// What a text in the file can be read as, and how to write one.
pub(super) trait Text: Sized {
    /// As in "... is not an IP address".
    const KIND: &'static str;
    const EXAMPLE: &'static str;
    fn read(text: &str) -> Option<Self>;
}

macro_rules! texts {
    ($($type:ty, $kind:literal, $example:literal;)*) => {$(
        impl Text for $type {
            const KIND: &'static str = $kind;
            const EXAMPLE: &'static str = $example;
            fn read(text: &str) -> Option<Self> {
                Self::from_str(text).ok()
            }
        }
    )*};
}

texts! {
    std::net::IpAddr, "an IP address", "192.168.50.1";
    std::net::Ipv4Addr, "an IPv4 address", "169.254.1.1";
    std::net::Ipv6Addr, "an IPv6 address", "fd00:50::1";
    IpNet, "an IP prefix", "10.244.1.0/24";
    MacAddr, "a MAC address", "02:00:00:00:00:01";
    String, "a text", "eth0";
}

/// A prefix, or an address that stands for the prefix of its full length.
pub(super) struct AddressOrPrefix(pub(super) IpNet);

impl Text for AddressOrPrefix {
    const KIND: &'static str = "an IP address or prefix";
    const EXAMPLE: &'static str = "10.9.0.1/32";
    fn read(text: &str) -> Option<Self> {
        address_or_prefix(text).ok().map(Self)
    }
}

impl<'a> Section<'a> {
    /// The file as a whole.
    pub(super) fn root(table: &'a DeTable<'a>) -> Self {
        Self {
            table: Some(table),
            path: String::new(),
            asked: RefCell::default(),
        }
    }

    /// The full name of one of its keys.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Whether the table is there.
    pub(super) fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A table within.
    pub(super) fn section(&self, key: &'static str, report: &mut Report) -> Section<'a> {
        let path = self.key(key);
        let table = self
            .value(key, report)
            .and_then(|value| match value.get_ref() {
                DeValue::Table(table) => Some(table),
                _ => {
                    report.fault(&path, format!("must be a table: write [{path}]"));
                    None
                }
            });
        Section {
            table,
            path,
            asked: RefCell::default(),
        }
    }

    /// The tables written `[[key]]`.
    pub(super) fn sections(&self, key: &'static str, report: &mut Report) -> Vec<Section<'a>> {
        let path = self.key(key);
        let wrong = format!("must be a list of tables: write [[{path}]] above each");
        let Some(value) = self.value(key, report) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            report.fault(path, wrong);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let path = format!("{path}[{}]", i + 1);
            report.seen(&path, item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section {
                        table: Some(table),
                        path,
                        asked: RefCell::default(),
                    });
                }
                _ => report.fault(path, wrong.as_str()),
            }
        }
        sections
    }

    /// A whole number within a range; `unit` is what it counts.
    pub(super) fn number<N>(
        &self,
        key: &'static str,
        range: RangeInclusive<N>,
        unit: &str,
        report: &mut Report,
    ) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let value = self.value(key, report)?;
        let number = match value.get_ref() {
            DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix()).ok(),
            _ => None,
        };
        match number
            .and_then(|n| N::try_from(n).ok())
            .filter(|n| range.contains(n))
        {
            Some(number) => Some(number),
            None => {
                let written = written(value.get_ref());
                let (low, high) = (range.start(), range.end());
                let remedy = format!("write a whole number from {low} to {high} ({unit})");
                report.fault(self.key(key), format!("{written} will not do: {remedy}"));
                None
            }
        }
    }

    /// Bits, or bits per second: a number, or a text with a unit.
    pub(super) fn bits(&self, key: &'static str, report: &mut Report) -> Option<u64> {
        let value = self.value(key, report)?;
        let number = match value.get_ref() {
            DeValue::Integer(i) => u64::from_str_radix(i.as_str(), i.radix()).ok(),
            DeValue::String(text) => bits(text).ok(),
            _ => None,
        };
        if number.is_none() {
            let written = written(value.get_ref());
            let message = format!(
                "{written} is not a number of bits: write one such as 100000000, or in quotes \
                 with a unit (kbit, Mbit, Gbit) such as \"100Mbit\""
            );
            report.fault(self.key(key), message);
        }
        number
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &'static str, report: &mut Report) -> Option<bool> {
        let value = self.value(key, report)?;
        if let DeValue::Boolean(truth) = value.get_ref() {
            return Some(*truth);
        }
        let written = written(value.get_ref());
        report.fault(
            self.key(key),
            format!("{written} will not do: write true or false, without quotes"),
        );
        None
    }

    /// A text that stands for something.
    pub(super) fn text<T: Text>(&self, key: &'static str, report: &mut Report) -> Option<T> {
        let value = self.value(key, report)?;
        text(&self.key(key), value, report)
    }

    /// As [`Section::text`], and reported when absent.
    pub(super) fn required<T: Text>(&self, key: &'static str, report: &mut Report) -> Option<T> {
        if !self.has(key) {
            self.missing::<T>(key, report);
        }
        self.text(key, report)
    }

    /// A list of texts; bad ones are reported and left out.
    pub(super) fn texts<T: Text>(&self, key: &'static str, report: &mut Report) -> Option<Vec<T>> {
        let items = self.list(key, T::EXAMPLE, true, report)?;
        let path = self.key(key);
        Some(
            items
                .iter()
                .filter_map(|item| text(&path, item, report))
                .collect(),
        )
    }

    /// A list of numbers; bad ones are reported and left out.
    pub(super) fn numbers(&self, key: &'static str, report: &mut Report) -> Option<Vec<usize>> {
        let items = self.list(key, "1", false, report)?;
        let mut numbers = Vec::with_capacity(items.len());
        for item in items {
            let number = match item.get_ref() {
                DeValue::Integer(i) => usize::from_str_radix(i.as_str(), i.radix()).ok(),
                _ => None,
            };
            match number {
                Some(number) => numbers.push(number),
                None => {
                    let written = written(item.get_ref());
                    let message = format!("{written} will not do: write whole numbers, as in [1]");
                    report.fault(self.key(key), message);
                }
            }
        }
        Some(numbers)
    }

    /// One word of a few.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        report: &mut Report,
    ) -> Option<T> {
        let value = self.value(key, report)?;
        let word = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            _ => "",
        };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*choice);
        }
        let names: Vec<String> = choices
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let hint = did_you_mean(word, choices.iter().map(|(name, _)| *name));
        let message = format!(
            "{} will not do: write {}{hint}",
            written(value.get_ref()),
            names.join(" or ")
        );
        report.fault(self.key(key), message);
        None
    }

    /// The raw value, remembered as known and with its line.
    pub(super) fn value(
        &self,
        key: &'static str,
        report: &mut Report,
    ) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key);
        let (name, value) = self.table?.get_key_value(key)?;
        report.seen(&self.key(key), name.span().start);
        Some(value)
    }

    /// Reports an absent key that the switch cannot do without.
    pub(super) fn missing<T: Text>(&self, key: &str, report: &mut Report) {
        let example = T::EXAMPLE;
        let message = format!("missing: write {key} = \"{example}\" with your own value");
        report.fault(self.key(key), message);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self, report: &mut Report) {
        let Some(table) = self.table else { return };
        let asked = self.asked.borrow();
        for name in table.keys() {
            let text = name.get_ref().as_ref();
            if !asked.contains(&text) {
                let key = self.key(text);
                report.seen(&key, name.span().start);
                let hint = did_you_mean(text, asked.iter().copied());
                let known = asked.join(", ");
                let remedy = if hint.is_empty() {
                    ": remove it"
                } else {
                    &hint
                };
                report.fault(key, format!("unknown key{remedy} (known here: {known})"));
            }
        }
    }

    fn list(
        &self,
        key: &'static str,
        example: &str,
        quoted: bool,
        report: &mut Report,
    ) -> Option<&'a [Spanned<DeValue<'a>>]> {
        let value = self.value(key, report)?;
        if let DeValue::Array(items) = value.get_ref() {
            return Some(items);
        }
        let quote = if quoted { "\"" } else { "" };
        let remedy = format!("write a list, as in [{quote}{example}{quote}]");
        report.fault(
            self.key(key),
            format!("{} will not do: {remedy}", written(value.get_ref())),
        );
        None
    }
}

fn text<T: Text>(key: &str, value: &Spanned<DeValue<'_>>, report: &mut Report) -> Option<T> {
    let read = match value.get_ref() {
        DeValue::String(text) => T::read(text),
        _ => None,
    };
    if read.is_none() {
        let written = written(value.get_ref());
        let message = format!(
            "{written} is not {}: write one in quotes, as in \"{}\"",
            T::KIND,
            T::EXAMPLE
        );
        report.fault(key, message);
    }
    read
}

/// The value as the file has it, or its type where that would be long.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
