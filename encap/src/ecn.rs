//! ECN and DSCP across tunnels (RFC 3168, RFC 6040, RFC 2983).

use crate::error::Error;

/// The ECN field: the lower two bits of IPv4's TOS and of IPv6's traffic class (RFC 3168,
/// section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// 00: the transport does not take part.
    NotEct = 0b00,
    /// 01: ECT(1).
    Ect1 = 0b01,
    /// 10: ECT(0).
    Ect0 = 0b10,
    /// 11: congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// The ECN field of a TOS octet or traffic class.
    #[inline]
    pub const fn from_tos(tos: u8) -> Self {
        match tos & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The TOS octet with this ECN field and the DSCP of `tos`.
    #[inline]
    pub const fn into_tos(self, tos: u8) -> u8 {
        tos & !0b11 | self as u8
    }
}

/// Where the outer DSCP comes from (RFC 2983). The ECN field is always copied from the inner
/// header: the normal mode of RFC 6040, section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DscpPolicy {
    /// The inner header's: the uniform model.
    #[default]
    Copy,
    /// One for the tunnel, 0 to 63: the pipe model.
    Fixed(u8),
}

impl DscpPolicy {
    /// The outer TOS is `inner & mask | fixed`. Fails with [`Error::BadDscp`].
    pub(crate) fn mask_and_fixed(self) -> Result<(u8, u8), Error> {
        match self {
            Self::Copy => Ok((0xff, 0)),
            Self::Fixed(dscp) if dscp < 64 => Ok((0b11, dscp << 2)),
            Self::Fixed(dscp) => Err(Error::BadDscp(dscp)),
        }
    }
}

/// The packet must be dropped at the tunnel's exit: the outer header says that congestion was met
/// and the inner transport could not be told (RFC 6040, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("outer header is marked CE and the inner packet is Not-ECT: RFC 6040 asks to drop it")]
pub struct EcnError;

/// The ECN field with which a packet leaves a tunnel: RFC 6040, figure 4.
///
/// | inner \ outer | Not-ECT | ECT(0) | ECT(1) | CE |
/// |---|---|---|---|---|
/// | Not-ECT | Not-ECT | Not-ECT | Not-ECT | drop |
/// | ECT(0) | ECT(0) | ECT(0) | ECT(1) | CE |
/// | ECT(1) | ECT(1) | ECT(1) | ECT(1) | CE |
/// | CE | CE | CE | CE | CE |
#[inline]
pub const fn decap_ecn(outer: Ecn, inner: Ecn) -> Result<Ecn, EcnError> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => Err(EcnError),
        (Ecn::NotEct, _) => Ok(Ecn::NotEct),
        (_, Ecn::Ce) => Ok(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Ok(Ecn::Ect1),
        (inner, _) => Ok(inner),
    }
}

/// As [`decap_ecn`] on whole TOS octets; the DSCP stays the inner one.
#[inline]
pub const fn decap_tos(outer_tos: u8, inner_tos: u8) -> Result<u8, EcnError> {
    match decap_ecn(Ecn::from_tos(outer_tos), Ecn::from_tos(inner_tos)) {
        Ok(ecn) => Ok(ecn.into_tos(inner_tos)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6040, figure 4, transcribed: rows are the inner field, columns the outer one, in the
    /// order Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn figure_4() {
        const ORDER: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];
        let not = Some(Ecn::NotEct);
        let (ect0, ect1, ce) = (Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce));
        let figure = [
            [not, not, not, None],
            [ect0, ect0, ect1, ce],
            [ect1, ect1, ect1, ce],
            [ce, ce, ce, ce],
        ];
        for (inner, row) in ORDER.into_iter().zip(figure) {
            for (outer, expected) in ORDER.into_iter().zip(row) {
                assert_eq!(
                    decap_ecn(outer, inner),
                    expected.ok_or(EcnError),
                    "outer {outer:?}, inner {inner:?}"
                );
            }
        }
    }

    #[test]
    fn decap_keeps_the_inner_dscp() {
        assert_eq!(decap_tos(0xff, 0b1011_1010), Ok(0b1011_1011));
        assert_eq!(decap_tos(0xfc, 0b0000_0001), Ok(0b0000_0001));
        assert_eq!(decap_tos(0x03, 0xfc), Err(EcnError));
    }

    #[test]
    fn codepoints_survive_the_octet() {
        for tos in 0..=255u8 {
            assert_eq!(Ecn::from_tos(tos).into_tos(tos), tos);
            assert_eq!(Ecn::from_tos(tos) as u8, tos & 3);
        }
    }
}
