//! Policy routing: `RTM_NEWRULE`, `RTM_DELRULE` and `RTM_GETRULE` of rtnetlink(7),
//! include/uapi/linux/fib_rules.h.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::super::messages::{self, Message};
use super::super::{Netlink, NetlinkError};

/// Size of `struct fib_rule_hdr`: family, prefix lengths, TOS, table, reserved, action, flags.
const FIB_RULE_HDR: usize = 12;
/// `FR_ACT_TO_TBL`: look the destination up in a table.
const FR_ACT_TO_TBL: u8 = 1;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;

/// A policy rule: packets that came in by `iifname` are looked up in `table`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Of IPv6; else of IPv4.
    pub ipv6: bool,
    /// The name of the link that they came in by.
    pub iifname: String,
    /// The routing table to look in.
    pub table: u32,
    /// Rules are asked in ascending order: 0 is that of the host's own addresses, 32766 that of
    /// the main table.
    pub priority: u32,
    /// Who made it: [`RTPROT_SHUNT`](super::RTPROT_SHUNT).
    pub protocol: u8,
}

impl Rule {
    /// Reads an `RTM_NEWRULE`; None for other messages, and for rules without an incoming link, or
    /// with other actions.
    fn parse(message: &Message<'_>) -> Option<Self> {
        if message.kind != libc::RTM_NEWRULE
            || messages::u8_at(message.payload, 7)? != FR_ACT_TO_TBL
        {
            return None;
        }
        let attribute = |kind| message.attribute(FIB_RULE_HDR, kind);
        let table = u32::from(messages::u8_at(message.payload, 4)?);
        Some(Self {
            ipv6: i32::from(messages::u8_at(message.payload, 0)?) == libc::AF_INET6,
            iifname: attribute(FRA_IIFNAME).and_then(messages::string)?,
            table: attribute(FRA_TABLE)
                .and_then(messages::number)
                .unwrap_or(table),
            priority: attribute(FRA_PRIORITY)
                .and_then(messages::number)
                .unwrap_or(0),
            protocol: attribute(FRA_PROTOCOL)
                .and_then(|value| messages::u8_at(value, 0))
                .unwrap_or(0),
        })
    }

    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family(self.ipv6);
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Iifname(self.iifname.clone()),
            RuleAttribute::Table(self.table),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(RouteProtocol::from(self.protocol)),
        ];
        message
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} `iif {} lookup {} pref {}`",
            if self.ipv6 { "IPv6" } else { "IPv4" },
            self.iifname,
            self.table,
            self.priority
        )
    }
}

impl Netlink {
    /// Adds a rule. False when there is one that asks the same.
    ///
    /// # Errors
    /// See [`NetlinkError`]: EAFNOSUPPORT when the kernel has no policy routing.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<bool, NetlinkError> {
        self.change(
            &format!("RTM_NEWRULE {rule}"),
            RouteNetlinkMessage::NewRule(rule.message()),
            NLM_F_CREATE | NLM_F_EXCL,
            &[libc::EEXIST],
            &[(
                libc::EAFNOSUPPORT,
                "the kernel needs CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES",
            )],
        )
    }

    /// Deletes a rule. False when there is none.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<bool, NetlinkError> {
        self.change(
            &format!("RTM_DELRULE {rule}"),
            RouteNetlinkMessage::DelRule(rule.message()),
            0,
            &[libc::ENOENT, libc::EAFNOSUPPORT],
            &[],
        )
    }

    /// The rules of one protocol for what comes in by the link `iifname`, of both families.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub fn rules_of(&mut self, iifname: &str, protocol: u8) -> Result<Vec<Rule>, NetlinkError> {
        let mut found = Vec::new();
        for ipv6 in [false, true] {
            let mut request = RuleMessage::default();
            request.header.family = family(ipv6);
            let request = RouteNetlinkMessage::GetRule(request);
            match self.dump("RTM_GETRULE", &request, |message| {
                Rule::parse(message).filter(|rule| {
                    rule.ipv6 == ipv6 && rule.iifname == iifname && rule.protocol == protocol
                })
            }) {
                Ok(rules) => found.extend(rules),
                // A kernel without IPv6 or without policy routing has no rules.
                Err(error)
                    if matches!(error.refusal(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}
