//! Packets of IP: what is in one, and the few that are made by hand: datagrams, echoes, refusals. Pure; what comes in was written by somebody hostile.
//!
//! Connections are made by `tcp.rs`. A packet that is made begins with room for the device's header ([`HEAD`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the device's own header before a packet.
pub(super) const HEAD: usize = 10;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// What may be set in the first segment of a connection: beside SYN, that congestion can be told, and urgency.
pub(super) const FLAGS_OF_OPENING: u8 = SYN | 0xc0 | 8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// A packet, as far as it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// Of a connection.
    Tcp { from: SocketAddr, to: SocketAddr, segment: Segment },
    /// A datagram.
    Udp { from: SocketAddr, to: SocketAddr, payload: &'a [u8] },
    /// An echo that asks for its answer.
    Echo { from: IpAddr, to: IpAddr, number: [u8; 4], payload: &'a [u8] },
    /// Anything else: fragments, other protocols, what routers and neighbours say.
    Other,
}

/// What answers to a segment need of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub flags: u8,
    pub sequence: u32,
    pub acknowledged: u32,
    pub length: u32,
}

/// What is in a packet. `None`: it is none.
pub(super) fn read(packet: &[u8]) -> Option<Seen<'_>> {
    let (from, to, protocol, content): (IpAddr, IpAddr, u8, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let head = packet.get(..20)?;
            let (own, total) = (usize::from(head[0] & 0xf) * 4, usize::from(u16::from_be_bytes([head[2], head[3]])));
            if own < 20 || total < own {
                return None;
            }
            // More fragments, or not the first one.
            if u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0 {
                return Some(Seen::Other);
            }
            let address = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]).into();
            (address(12), address(16), head[9], packet.get(own..total)?)
        }
        6 => {
            let head = packet.get(..40)?;
            let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
            let address = |at: usize| head[at..at + 16].try_into().map(|octets: [u8; 16]| IpAddr::from(Ipv6Addr::from(octets))).ok();
            (address(8)?, address(24)?, head[6], packet.get(40..40 + length)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*content.get(at)?, *content.get(at + 1)?]));
    let number = |at: usize| Some(u32::from_be_bytes(content.get(at..at + 4)?.try_into().ok()?));
    Some(match (protocol, from.is_ipv4()) {
        (TCP, _) => {
            let own = usize::from(content.get(..20)?[12] >> 4) * 4;
            let length = u32::try_from(content.len().checked_sub(own)?).ok()?;
            if own < 20 || port(0)? == 0 || port(2)? == 0 {
                return None;
            }
            let segment = Segment { flags: content[13], sequence: number(4)?, acknowledged: number(8)?, length };
            Seen::Tcp { from: (from, port(0)?).into(), to: (to, port(2)?).into(), segment }
        }
        (UDP, _) => {
            let payload = content.get(8..usize::from(port(4)?))?;
            if port(0)? == 0 || port(2)? == 0 {
                return None;
            }
            Seen::Udp { from: (from, port(0)?).into(), to: (to, port(2)?).into(), payload }
        }
        (ICMP, true) | (ICMP6, false) => match content.get(..8)? {
            [8 | 128, 0, _, _, a, b, c, d] if (content[0] == 8) == from.is_ipv4() => {
                Seen::Echo { from, to, number: [*a, *b, *c, *d], payload: &content[8..] }
            }
            _ => Seen::Other,
        },
        _ => Seen::Other,
    })
}

/// The checksum of the Internet, of bytes and of a sum that was begun.
pub(super) fn checksum(begun: u32, bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum = pairs.iter().fold(u64::from(begun), |sum, pair| sum + u64::from(u16::from_be_bytes(*pair)));
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A packet with this content, whose checksum is made at `sum_at`; longer ones than packets can be are none.
fn packet(from: IpAddr, to: IpAddr, protocol: u8, mut content: Vec<u8>, sum_at: usize) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?;
    let ends = [octets(from), octets(to)].concat();
    // ICMP of IPv4 alone has no pseudo header.
    let begun = if protocol == ICMP {
        0
    } else {
        let sum = ends.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
        sum + u32::from(protocol) + u32::from(length)
    };
    let sum = match checksum(begun, &content) {
        0 if protocol == UDP => 0xffff,
        sum => sum,
    };
    content.get_mut(sum_at..sum_at + 2)?.copy_from_slice(&sum.to_be_bytes());
    let mut made = vec![0; HEAD];
    match from {
        IpAddr::V4(_) => {
            let mut head = vec![0x45, 0];
            head.extend(length.checked_add(20)?.to_be_bytes());
            head.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            head.extend(ends);
            let sum = checksum(0, &head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            made.extend(head);
        }
        IpAddr::V6(_) => {
            made.extend([0x60, 0, 0, 0]);
            made.extend(length.to_be_bytes());
            made.extend([protocol, 64]);
            made.extend(ends);
        }
    }
    made.extend(content);
    Some(made)
}

/// A datagram.
pub(super) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let mut content = from.port().to_be_bytes().to_vec();
    content.extend(to.port().to_be_bytes());
    content.extend(u16::try_from(8 + payload.len()).ok()?.to_be_bytes());
    content.extend([0, 0]);
    content.extend(payload);
    packet(from.ip(), to.ip(), UDP, content, 6)
}

/// The answer to an echo.
pub(super) fn echoed(from: IpAddr, to: IpAddr, number: [u8; 4], payload: &[u8]) -> Option<Vec<u8>> {
    let (protocol, kind) = if from.is_ipv4() { (ICMP, 0) } else { (ICMP6, 129) };
    let mut content = vec![kind, 0, 0, 0];
    content.extend(number);
    content.extend(payload);
    packet(from, to, protocol, content, 2)
}

/// Ends a connection that there is not, or not to be: the answer to this segment of it.
pub(super) fn reset(from: SocketAddr, to: SocketAddr, segment: &Segment) -> Option<Vec<u8>> {
    let counted = segment.length + u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
    let (sequence, acknowledged, flags) =
        if segment.flags & ACK != 0 { (segment.acknowledged, 0, RST) } else { (0, segment.sequence.wrapping_add(counted), RST | ACK) };
    let mut content = to.port().to_be_bytes().to_vec();
    content.extend(from.port().to_be_bytes());
    content.extend(sequence.to_be_bytes());
    content.extend(acknowledged.to_be_bytes());
    content.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    packet(to.ip(), from.ip(), TCP, content, 16)
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// Nobody listens: programs take it for an immediate refusal.
    Port,
    /// There is no way there.
    Host,
    /// Not allowed.
    Prohibited,
}

/// Tells the sender of a packet that it goes nowhere.
pub(super) fn unreachable(original: &[u8], why: Unreachable) -> Option<Vec<u8>> {
    let (four, six) = match why {
        Unreachable::Port => (3, 4),
        Unreachable::Host => (1, 3),
        Unreachable::Prohibited => (13, 1),
    };
    let (from, to): (IpAddr, IpAddr) = match original.first()? >> 4 {
        4 => {
            let head: &[u8; 20] = original.get(..20)?.try_into().ok()?;
            (Ipv4Addr::new(head[12], head[13], head[14], head[15]).into(), Ipv4Addr::new(head[16], head[17], head[18], head[19]).into())
        }
        _ => {
            let address = |at: usize| original.get(at..at + 16)?.try_into().map(|octets: [u8; 16]| IpAddr::from(octets)).ok();
            (address(8)?, address(24)?)
        }
    };
    let (protocol, kind, code, most) = if from.is_ipv4() { (ICMP, 3, four, 548) } else { (ICMP6, 1, six, 1_184) };
    let mut content = vec![kind, code, 0, 0, 0, 0, 0, 0];
    content.extend(&original[..original.len().min(most)]);
    packet(to, from, protocol, content, 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(six: bool) -> (SocketAddr, SocketAddr) {
        let (from, to) = if six { ("[fd00::2]:4000", "[2606::1]:53") } else { ("10.100.0.2:4000", "1.1.1.1:53") };
        (from.parse().unwrap(), to.parse().unwrap())
    }

    #[test]
    fn what_is_made_is_read() {
        for six in [false, true] {
            let (from, to) = ends(six);
            let made = udp(from, to, b"hello").unwrap();
            assert_eq!(read(&made[HEAD..]), Some(Seen::Udp { from, to, payload: b"hello" }));
            let syn = Segment { flags: SYN, sequence: 7, acknowledged: 0, length: 0 };
            let made = reset(from, to, &syn).unwrap();
            let answer = Segment { flags: RST | ACK, sequence: 0, acknowledged: 8, length: 0 };
            assert_eq!(read(&made[HEAD..]), Some(Seen::Tcp { from: to, to: from, segment: answer }));
            let refused = unreachable(&udp(from, to, &[1; 3_000]).unwrap()[HEAD..], Unreachable::Port).unwrap();
            assert_eq!(read(&refused[HEAD..]), Some(Seen::Other));
            assert!(refused.len() < 1_300);
            let echo = echoed(from.ip(), to.ip(), [0, 1, 0, 2], b"x").unwrap();
            assert_eq!(read(&echo[HEAD..]), Some(Seen::Other), "an answer asks for none");
        }
        assert_eq!(udp(ends(false).0, ends(false).1, &[0; 65_530]), None);
    }

    #[test]
    fn the_checksum_is_the_standard_s() {
        // The example of RFC 1071.
        assert_eq!(checksum(0, &[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let made = udp(ends(false).0, ends(false).1, b"odd").unwrap();
        assert_eq!(checksum(0, &made[HEAD..HEAD + 20]), 0);
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_none() {
        for six in [false, true] {
            let (from, to) = ends(six);
            let made = udp(from, to, b"hello").unwrap();
            let whole = &made[HEAD..];
            for cut in 0..whole.len() {
                assert_eq!(read(&whole[..cut]), None, "{cut}");
            }
            let at = if six { 44 } else { 24 };
            for lie in [0u16, 7, 14, 0xffff] {
                let mut lying = whole.to_vec();
                lying[at..at + 2].copy_from_slice(&lie.to_be_bytes());
                assert_eq!(read(&lying), None, "{lie}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fall_over(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in prop::sample::select(vec![0x45u8, 0x60, 0x4f, 0])) {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            if let Some(Seen::Tcp { from, to, segment }) = read(&bytes) {
                prop_assert!(reset(from, to, &segment).is_some());
            }
            let _ = unreachable(&bytes, Unreachable::Host);
        }
    }
}
