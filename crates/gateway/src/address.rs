//! Which addresses may be reached. Pure: it resolves and opens nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Where `fetch()` may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Egress {
    /// Nowhere.
    None,
    /// Public addresses only: not this machine, not its network, not a cloud's metadata service. The default.
    Public,
    /// Anywhere. For development and for networks that are guarded otherwise.
    Any,
}

impl Egress {
    /// Whether a connection to this very address may be opened.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Public => is_public(address),
            Self::None => false,
        }
    }
}

/// Whether an address is somebody on the Internet, and not this machine, its network, or its provider.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// The IPv4 address that is reached by way of this one: mapped, 6to4, NAT64.
pub(crate) fn inner(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, .., y, z] = address.segments();
    let joined = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b) {
        (0x64, 0xff9b) => Some(joined(y, z)),
        (0x2002, _) => Some(joined(b, c)),
        _ => address.to_ipv4_mapped(),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_documentation();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99);
    !(special || shared || benchmark || protocol || a == 0 || a >= 224)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let last_four = || {
        let [.., c, d] = address.segments();
        let ([w, x], [y, z]) = (c.to_be_bytes(), d.to_be_bytes());
        Ipv4Addr::new(w, x, y, z)
    };
    match (a, b) {
        // Translated: the IPv4 address inside is what is reached.
        (0x64, 0xff9b) => is_public_v4(last_four()),
        (0x2002, high) => {
            let ([w, x], [y, z]) = (high.to_be_bytes(), address.segments()[2].to_be_bytes());
            is_public_v4(Ipv4Addr::new(w, x, y, z))
        }
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        // Mapped IPv4 lies in 0::/8; only 2000::/3 is given out to the public.
        (0, 0) => address.to_ipv4_mapped().is_some_and(is_public_v4),
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_inside_of_an_address_is_found() {
        for (outer, inner) in [
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("64:ff9b::a00:1", Some("10.0.0.1")),
            ("2002:a00:1::1", Some("10.0.0.1")),
            ("2606:4700::1111", None),
            ("1.1.1.1", None),
        ] {
            assert_eq!(super::inner(outer.parse().unwrap()), inner.map(|inner| inner.parse().unwrap()), "{outer}");
        }
    }

    #[test]
    fn only_public_addresses_are_public() {
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(super::is_public(public.parse().unwrap()), "{public}");
        }
        let inside = [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::7f00:1",
            "2001:db8::1",
        ];
        for inside in inside {
            assert!(!super::is_public(inside.parse().unwrap()), "{inside}");
        }
    }
}
