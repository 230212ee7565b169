//! Which UDP datagrams only a DHCP server or relay sends, by their ports: what a guard stops.
//!
//! A client listens at its port for whoever sends there; neither RFC 2131 nor RFC 8415 binds it to
//! look at the source port. So the destination port alone decides where a client listens.

/// Servers and relays for IPv4 (RFC 2131, section 4.1).
pub const SERVER_V4: u16 = 67;
/// Clients for IPv4.
pub const CLIENT_V4: u16 = 68;
/// Clients for IPv6 (RFC 8415, section 7.2).
pub const CLIENT_V6: u16 = 546;
/// Servers and relays for IPv6.
pub const SERVER_V6: u16 = 547;

/// True for UDP over IPv4 to a client's port, from whatever port, and from a server's to a relay's
/// (67 to 67; a relay to its server looks the same).
#[inline]
#[must_use]
pub const fn is_dhcp_server_v4(src_port: u16, dst_port: u16) -> bool {
    dst_port == CLIENT_V4 || (src_port == SERVER_V4 && dst_port == SERVER_V4)
}

/// True for UDP over IPv6 to a client's port, from whatever port (547 from servers that keep to
/// custom).
#[inline]
#[must_use]
pub const fn is_dhcp_server_v6(_src_port: u16, dst_port: u16) -> bool {
    dst_port == CLIENT_V6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_clients() {
        for (src, dst, server) in [
            (67, 68, true),
            (67, 67, true),
            (1234, 68, true),
            (68, 67, false),
            (1234, 67, false),
            (67, 1234, false),
            (546, 547, false),
        ] {
            assert_eq!(is_dhcp_server_v4(src, dst), server, "{src} to {dst}");
        }
        for (src, dst, server) in [
            (547, 546, true),
            (1234, 546, true),
            (546, 547, false),
            (547, 547, false),
            (67, 68, false),
        ] {
            assert_eq!(is_dhcp_server_v6(src, dst), server, "{src} to {dst}");
        }
    }
}
