//! Whether a pod fits beside those there are: asked before anything is made for it.

use shunt_api::{ApiError, ErrorCode};

use crate::control::error::refuse;

/// What is taken and what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Ports attached.
    pub(super) ports: usize,
    /// Ports being attached.
    pub(super) under_way: usize,
    /// Ports at most.
    pub(super) max_ports: usize,
    /// Frames set aside for ports, and for those being attached.
    pub(super) reserved: u32,
    /// Frames that ports may have together.
    pub(super) frames: u32,
}

/// Refuses a pod that needs `needed` frames where they, or a port, are missing.
///
/// # Errors
/// [`ErrorCode::Exhausted`]; it names what is short, by how much, and the remedy.
pub(super) fn admit(pod: &str, room: Room, needed: u32) -> Result<(), ApiError> {
    let taken = room.ports.saturating_add(room.under_way);
    if taken >= room.max_ports {
        return Err(refuse(
            ErrorCode::Exhausted,
            format!(
                "pod {pod}: no port is left on this node: {} are attached and {} being attached, \
                 of {} at most: raise ports.max, or remove pods",
                room.ports, room.under_way, room.max_ports
            ),
        ));
    }
    let left = room.frames.saturating_sub(room.reserved);
    if needed > left {
        return Err(refuse(
            ErrorCode::Exhausted,
            format!(
                "pod {pod}: too little packet memory is left on this node: its port needs \
                 {needed} frames, {} more than the {left} left of {} for ports: raise memory.frames, lower \
                 ports.rx_frames, or remove pods",
                needed - left,
                room.frames
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room {
        ports: 10,
        under_way: 5,
        max_ports: 16,
        reserved: 900,
        frames: 1000,
    };

    #[test]
    fn the_last_place_is_given_and_no_more() {
        assert!(admit("a", ROOM, 100).is_ok());
        let error = admit("a", ROOM, 101).expect_err("one frame short");
        assert_eq!(error.code, ErrorCode::Exhausted);
        assert!(
            error
                .message
                .contains("1 more than the 100 left of 1000 for ports")
                && error.message.contains("memory.frames"),
            "{error}"
        );
    }

    #[test]
    fn those_under_way_count() {
        let full = Room {
            under_way: 6,
            ..ROOM
        };
        let error = admit("web-0", full, 1).expect_err("no port");
        assert_eq!(error.code, ErrorCode::Exhausted);
        assert!(
            error.message.contains("web-0") && error.message.contains("6 being attached, of 16"),
            "{error}"
        );
        let overdrawn = Room {
            reserved: 2000,
            ..ROOM
        };
        assert!(admit("a", overdrawn, 1).is_err());
    }
}
