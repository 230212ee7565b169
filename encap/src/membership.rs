//! What IGMP and MLD say alike: who listens to which group, and who asks (RFC 4541).
//!
//! Source lists are ignored: a listener to some sources of a group is one of the group.

use crate::error::Error;
use crate::extension::ExtensionError;
use crate::field::{read, read_u8, read_u16};

/// Records of a report that are read; one with more is refused.
pub const MAX_RECORDS: usize = 64;

/// Bytes of a record before its group (RFC 3376, section 4.2.4; RFC 3810, section 5.2.5).
const RECORD_HEAD: usize = 4;

/// One piece of news about a group `A`: an IPv4 or an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Membership<A> {
    /// The sender listens to the group.
    Join(A),
    /// The sender no longer listens to the group; others may.
    Leave(A),
    /// Who listens?
    Query {
        /// Source of the query; unspecified from a snooping switch, which is no router (RFC 4541,
        /// section 2.1.1).
        querier: A,
        /// The group asked for; `None` for all.
        group: Option<A>,
    },
}

/// Why a packet says nothing about groups that may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The IP header, or the message, is not sound.
    #[error(transparent)]
    Header(#[from] Error),
    /// The extension headers are not.
    #[error(transparent)]
    Extension(#[from] ExtensionError),
    /// Another protocol, or a type that is none of a query, report or leave.
    #[error("no group membership message")]
    NotMembership,
    /// A fragment: such messages are not fragmented.
    #[error("group membership: fragmented")]
    Fragmented,
    /// TTL or hop limit is not 1, so it may be from another link.
    #[error("group membership: TTL {0}, not 1")]
    BadTtl(u8),
    /// The router alert that MLD demands (RFC 3810, section 5) is missing.
    #[error("MLD: no router alert")]
    NoRouterAlert,
    /// The source is one that may not send this.
    #[error("group membership: a source that cannot be")]
    BadSource,
    /// The checksum is wrong.
    #[error("group membership: wrong checksum")]
    BadChecksum,
    /// A group is no multicast address.
    #[error("group membership: the group is no multicast address")]
    BadGroup,
    /// More than [`MAX_RECORDS`].
    #[error("group membership: {0} records, more than {MAX_RECORDS}")]
    TooMany(u16),
}

mod sealed {
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// An address in a message.
    pub trait Group: Copy + PartialEq {
        /// Bytes.
        const LEN: usize;
        /// Reads [`Self::LEN`] bytes at `at`; zeros where there are none.
        fn read(data: &[u8], at: usize) -> Self;
        fn is_group(self) -> bool;
        fn is_zero(self) -> bool;
    }

    impl Group for Ipv4Addr {
        const LEN: usize = 4;

        fn read(data: &[u8], at: usize) -> Self {
            Self::from(super::read::<4>(data, at..at + 4))
        }

        fn is_group(self) -> bool {
            self.is_multicast()
        }

        fn is_zero(self) -> bool {
            self.is_unspecified()
        }
    }

    impl Group for Ipv6Addr {
        const LEN: usize = 16;

        fn read(data: &[u8], at: usize) -> Self {
            Self::from(super::read::<16>(data, at..at + 16))
        }

        fn is_group(self) -> bool {
            self.is_multicast()
        }

        fn is_zero(self) -> bool {
            self.is_unspecified()
        }
    }
}

pub(crate) use sealed::Group;

/// The news of one message, checked as a whole before the first comes out.
#[derive(Debug, Clone)]
pub struct Memberships<'a, A> {
    single: Option<Membership<A>>,
    records: &'a [u8],
    left: u16,
}

impl<'a, A: Group> Memberships<'a, A> {
    /// A message that names one group.
    pub(crate) fn join(group: A) -> Result<Self, MembershipError> {
        Self::about(group, Membership::Join(group))
    }

    /// As [`Memberships::join`].
    pub(crate) fn leave(group: A) -> Result<Self, MembershipError> {
        Self::about(group, Membership::Leave(group))
    }

    /// A query; `group` is unspecified when it asks for all.
    pub(crate) fn query(querier: A, group: A) -> Result<Self, MembershipError> {
        if group.is_zero() {
            return Ok(Self::single(Membership::Query {
                querier,
                group: None,
            }));
        }
        let group_of = Some(group);
        Self::about(
            group,
            Membership::Query {
                querier,
                group: group_of,
            },
        )
    }

    /// A report of IGMPv3 or MLDv2 from its count of records on, which lies at 6.
    pub(crate) fn records(message: &'a [u8]) -> Result<Self, MembershipError> {
        let count = read_u16(message, 6..8);
        if usize::from(count) > MAX_RECORDS {
            return Err(MembershipError::TooMany(count));
        }
        let records = message.get(8..).unwrap_or_default();
        let mut rest = records;
        for _ in 0..count {
            let (record, behind) = split_record::<A>(rest).ok_or(Error::Truncated {
                what: "membership record",
                need: RECORD_HEAD + A::LEN,
                have: rest.len(),
            })?;
            if !A::read(record, RECORD_HEAD).is_group() {
                return Err(MembershipError::BadGroup);
            }
            rest = behind;
        }
        Ok(Self {
            single: None,
            records,
            left: count,
        })
    }

    fn about(group: A, news: Membership<A>) -> Result<Self, MembershipError> {
        if !group.is_group() {
            return Err(MembershipError::BadGroup);
        }
        Ok(Self::single(news))
    }

    fn single(news: Membership<A>) -> Self {
        Self {
            single: Some(news),
            records: &[],
            left: 0,
        }
    }
}

impl<A: Group> Iterator for Memberships<'_, A> {
    type Item = Membership<A>;

    fn next(&mut self) -> Option<Membership<A>> {
        if let Some(news) = self.single.take() {
            return Some(news);
        }
        while let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            let (record, behind) = split_record::<A>(self.records)?;
            self.records = behind;
            let group = A::read(record, RECORD_HEAD);
            let has_sources = read_u16(record, 2..4) != 0;
            // RFC 3376, section 4.2.12, and RFC 3810, section 5.2.12.
            match (read_u8(record, 0), has_sources) {
                // MODE_IS_INCLUDE, CHANGE_TO_INCLUDE_MODE
                (1 | 3, true) => return Some(Membership::Join(group)),
                (1 | 3, false) => return Some(Membership::Leave(group)),
                // MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE_MODE
                (2 | 4, _) => return Some(Membership::Join(group)),
                // ALLOW_NEW_SOURCES
                (5, true) => return Some(Membership::Join(group)),
                // BLOCK_OLD_SOURCES tells nothing of the rest; unknown types are to be ignored.
                _ => {}
            }
        }
        None
    }
}

/// The first record, with its sources and auxiliary data, and what follows it.
fn split_record<A: Group>(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let auxiliary = usize::from(read_u8(records, 1)) * 4;
    let sources = usize::from(read_u16(records, 2..4)) * A::LEN;
    records.split_at_checked(RECORD_HEAD + A::LEN + sources + auxiliary)
}

/// A version of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryVersion {
    /// IGMPv2 (RFC 2236) or MLDv1 (RFC 2710): every listener answers.
    Old,
    /// IGMPv3 (RFC 3376) or MLDv2 (RFC 3810), robustness 2 and interval 125 s. Heard by older
    /// listeners as well.
    New,
}

/// The fields that the newer queries add (RFC 3376, section 4.1; RFC 3810, section 5.1): S clear,
/// QRV 2, QQIC 125 s, no sources.
pub(crate) const NEW_QUERY_TAIL: [u8; 4] = [2, 125, 0, 0];
