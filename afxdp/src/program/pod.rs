//! The program of a pod's veth: every frame goes to the socket of its queue.
//!
//! Without a socket behind the map the frame passes to the kernel: a dead daemon is not a dead
//! network.

use super::{BPF_FUNC_REDIRECT_MAP, MAP, XDP_PASS};

/// The program's source.
pub fn source() -> String {
    format!(
        "
        ldxw r2, [r1+16]                ; xdp_md.rx_queue_index
        lddw r1, {MAP}                  ; the XSKMAP
        mov r3, {XDP_PASS}              ; the action when the queue has no socket
        call {BPF_FUNC_REDIRECT_MAP}
        exit
        "
    )
}
