//! The program of the pods' devices: every frame goes to the socket of its device and queue.
//!
//! One program serves all of them, because a program that is new to the kernel's XDP dispatcher costs
//! a grace period (`kernel/bpf/dispatcher.c`). So it first asks a hash map where the device's sockets
//! are in the XSKMAP: the slot of queue 0, and the number of queues.
//!
//! A frame of another device or queue, and one without a socket behind its slot, passes to the
//! kernel: a dead daemon is not a dead network. A slot that was given to another device meanwhile
//! does no harm: the kernel hands a socket only frames of the device and queue that it is bound to
//! (`xsk_rcv_check` in `net/xdp/xsk.c`).

use super::{BPF_FUNC_MAP_LOOKUP_ELEM, BPF_FUNC_REDIRECT_MAP, PLACES, XDP_PASS, XSKMAP};

/// The program's source.
pub fn source() -> String {
    format!(
        "
        mov r6, r1                      ; r6 = struct xdp_md
        ldxw r2, [r6+12]                ; xdp_md.ingress_ifindex
        stxw [r10-4], r2
        mov r2, r10
        add r2, -4
        lddw r1, {PLACES:#x}             ; device to place
        call {BPF_FUNC_MAP_LOOKUP_ELEM}
        jeq r0, 0, pass
        ldxw r2, [r6+16]                ; xdp_md.rx_queue_index
        ldxw r3, [r0+4]                 ; queues
        jge r2, r3, pass
        ldxw r3, [r0+0]                 ; slot of queue 0
        add r2, r3
        lddw r1, {XSKMAP:#x}             ; slot to socket
        mov r3, {XDP_PASS}              ; the action when the slot has no socket
        call {BPF_FUNC_REDIRECT_MAP}
        exit

    pass:
        mov r0, {XDP_PASS}
        exit
        "
    )
}
