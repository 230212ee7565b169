//! How far a flow has come, and how long it may be idle.

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Bounds of a [`FlowTable`](super::FlowTable). Times are in seconds without a packet in either
/// direction; the defaults are those with which kube-proxy and the kernel run conntrack
/// (`net/netfilter/nf_conntrack_proto_{tcp,udp,generic}.c`), since an entry is of use as long as
/// conntrack has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowLimits {
    /// Entries at most, those for fragments included.
    pub max: usize,
    /// An established TCP flow: 86,400.
    pub tcp_idle: u32,
    /// A TCP flow with a FIN from one side: 3,600 (kube-proxy's `tcpCloseWaitTimeout`).
    pub tcp_half_closed: u32,
    /// A TCP flow with a FIN from both sides, or an RST: 120.
    pub tcp_closing: u32,
    /// A TCP flow whose handshake has not been seen complete: 120.
    pub tcp_opening: u32,
    /// Every other flow, and the entries for fragments: 180.
    pub idle: u32,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            max: 65_536,
            tcp_idle: 86_400,
            tcp_half_closed: 3600,
            tcp_closing: 120,
            tcp_opening: 120,
            idle: 180,
        }
    }
}

impl FlowLimits {
    /// How long an entry in `phase` may be idle.
    pub(super) fn of(&self, phase: Phase) -> u32 {
        match phase {
            Phase::Other => self.idle,
            Phase::Opening | Phase::Answered | Phase::Acked => self.tcp_opening,
            Phase::Established => self.tcp_idle,
            Phase::FinForward | Phase::FinReply => self.tcp_half_closed,
            Phase::Closed => self.tcp_closing,
        }
    }
}

/// How far a flow has come, as it is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowState {
    /// TCP: the handshake has not been seen complete.
    Opening,
    /// TCP: open in both directions.
    Established,
    /// TCP: one or both sides have sent a FIN, or one an RST.
    Closing,
    /// No TCP, or the entry for fragments.
    Other,
}

/// The way of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// From the client, through the node's stack.
    Forward,
    /// From the endpoint.
    Reply,
}

/// How far a flow has come. The numbers are those in a slot's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Phase {
    /// Not followed.
    Other = 2,
    /// The client's SYN.
    Opening = 3,
    /// And the endpoint's answer.
    Answered = 4,
    /// A client's packet behind its SYN, and no answer yet: taken up in mid-flow, or forged.
    Acked = 5,
    /// Both sides have spoken and the client has gone on: no one flooding with forged segments
    /// gets here.
    Established = 6,
    /// The client has sent its FIN.
    FinForward = 7,
    /// The endpoint has sent its FIN.
    FinReply = 8,
    /// Over.
    Closed = 9,
}

impl Phase {
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            2 => Self::Other,
            3 => Self::Opening,
            4 => Self::Answered,
            5 => Self::Acked,
            6 => Self::Established,
            7 => Self::FinForward,
            8 => Self::FinReply,
            9 => Self::Closed,
            _ => return None,
        })
    }

    /// The phase after the client's first packet that was seen.
    pub(super) fn first(tcp_flags: Option<u8>) -> Self {
        match tcp_flags {
            None => Self::Other,
            Some(_) => Self::Opening.next(Way::Forward, tcp_flags),
        }
    }

    /// The phase after a packet.
    #[inline]
    pub(super) fn next(self, way: Way, tcp_flags: Option<u8>) -> Self {
        use Phase::{Acked, Answered, Closed, Established, FinForward, FinReply, Opening, Other};
        let Some(flags) = tcp_flags.filter(|_| self != Other) else {
            return self;
        };
        if flags & RST != 0 {
            return Closed;
        }
        if self == Closed {
            // The client uses its port again.
            let again = way == Way::Forward && flags & (SYN | ACK | FIN) == SYN;
            return if again { Opening } else { Closed };
        }
        let open = match (self, way) {
            (Opening, Way::Forward) if flags & SYN == 0 => Acked,
            (Opening, Way::Reply) => Answered,
            (Answered, Way::Forward) if flags & SYN == 0 => Established,
            (Acked, Way::Reply) => Established,
            _ => self,
        };
        if flags & FIN == 0 {
            return open;
        }
        match (open, way) {
            (Established | FinForward, Way::Forward) => FinForward,
            (Established | FinReply, Way::Reply) => FinReply,
            // The second FIN, or one before the flow was open.
            _ => Closed,
        }
    }
}

impl From<Phase> for FlowState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Other => Self::Other,
            Phase::Opening | Phase::Answered | Phase::Acked => Self::Opening,
            Phase::Established => Self::Established,
            Phase::FinForward | Phase::FinReply | Phase::Closed => Self::Closing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(packets: &[(Way, u8)]) -> Phase {
        let Some(((Way::Forward, first), rest)) = packets.split_first() else {
            panic!("the client begins");
        };
        rest.iter()
            .fold(Phase::first(Some(*first)), |phase, (way, flags)| {
                phase.next(*way, Some(*flags))
            })
    }

    #[test]
    fn follows_a_connection_from_syn_to_the_last_fin() {
        use Way::{Forward, Reply};
        let packets = [
            (Forward, SYN, Phase::Opening),
            (Forward, SYN, Phase::Opening),
            (Reply, SYN | ACK, Phase::Answered),
            (Reply, SYN | ACK, Phase::Answered),
            (Forward, ACK, Phase::Established),
            (Reply, ACK, Phase::Established),
            (Forward, ACK | FIN, Phase::FinForward),
            (Forward, ACK | FIN, Phase::FinForward),
            (Reply, ACK, Phase::FinForward),
            (Reply, ACK | FIN, Phase::Closed),
            (Forward, ACK, Phase::Closed),
            (Forward, SYN, Phase::Opening),
        ];
        let mut phase = Phase::first(Some(SYN));
        for (n, (way, flags, expected)) in packets.into_iter().enumerate() {
            phase = phase.next(way, Some(flags));
            assert_eq!(phase, expected, "packet {n}");
        }
    }

    #[test]
    fn either_side_may_close_first() {
        use Way::{Forward, Reply};
        let open = [(Forward, SYN), (Reply, SYN | ACK), (Forward, ACK)];
        for (first, half) in [(Forward, Phase::FinForward), (Reply, Phase::FinReply)] {
            let second = if first == Forward { Reply } else { Forward };
            let one = [&open[..], &[(first, FIN | ACK)]].concat();
            assert_eq!(after(&one), half);
            let both = [&one[..], &[(second, FIN | ACK)]].concat();
            assert_eq!(after(&both), Phase::Closed);
            let reset = [&one[..], &[(second, RST)]].concat();
            assert_eq!(after(&reset), Phase::Closed);
        }
        // Data and FIN with the handshake's last ACK.
        let short = [(Forward, SYN), (Reply, SYN | ACK), (Forward, ACK | FIN)];
        assert_eq!(after(&short), Phase::FinForward);
    }

    #[test]
    fn only_an_answered_flow_is_established() {
        use Way::{Forward, Reply};
        assert_eq!(after(&[(Forward, ACK)]), Phase::Acked);
        assert_eq!(after(&[(Forward, SYN), (Forward, ACK)]), Phase::Acked);
        assert_eq!(after(&[(Forward, ACK), (Reply, ACK)]), Phase::Established);
        assert_eq!(after(&[(Forward, ACK), (Reply, RST)]), Phase::Closed);
        assert_eq!(after(&[(Forward, SYN), (Reply, RST | ACK)]), Phase::Closed);
        assert_eq!(after(&[(Forward, FIN)]), Phase::Closed);
        assert_eq!(after(&[(Forward, 0xff)]), Phase::Closed);
    }

    #[test]
    fn other_protocols_have_one_phase() {
        assert_eq!(Phase::first(None), Phase::Other);
        for flags in [None, Some(RST), Some(FIN)] {
            assert_eq!(Phase::Other.next(Way::Reply, flags), Phase::Other);
        }
        assert_eq!(
            Phase::Established.next(Way::Reply, None),
            Phase::Established
        );
    }

    #[test]
    fn bits_and_phases_agree() {
        let phases: Vec<_> = (0..16).filter_map(Phase::from_bits).collect();
        assert_eq!(phases.len(), 8);
        for phase in phases {
            assert_eq!(Phase::from_bits(phase as u64), Some(phase));
        }
    }
}
