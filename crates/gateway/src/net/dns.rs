//! Messages of DNS, as far as a resolver for address questions needs them. Pure; both sides may be hostile.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::name::Name;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    const fn kind(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// A question, as a sandbox asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Returned in the answer.
    pub id: u16,
    /// The name.
    pub name: Name,
    /// `None`: not for addresses.
    pub family: Option<Family>,
    /// The type, as it was asked.
    kind: u16,
    /// The name's bytes, as they were asked: capitals are returned.
    asked: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, for this long; there may be none.
    Found(Vec<IpAddr>, Duration),
    /// There is no such name.
    NoName,
    /// It is not answered here.
    Refused,
    /// It could not be found out.
    Failed,
}

const CNAME: u16 = 5;
const INTERNET: u16 = 1;
/// Addresses of one answer.
const MOST_ADDRESSES: usize = 32;
const MOST_ALIASES: usize = 16;

/// Reads a question. `None`: it is none that is answered at all, not even by a refusal.
#[must_use]
pub fn question(message: &[u8]) -> Option<Question> {
    let (head, _) = message.split_at_checked(12)?;
    let number = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    // A standard query, with one question.
    if head[2] & 0xf8 != 0 || number(4) != 1 {
        return None;
    }
    let (name, at) = name_at(message, 12)?;
    let [high, low, class_high, class_low] = *message.get(at..at + 4)? else { return None };
    let kind = u16::from_be_bytes([high, low]);
    if u16::from_be_bytes([class_high, class_low]) != INTERNET {
        return None;
    }
    let family = [Family::V4, Family::V6].into_iter().find(|family| family.kind() == kind);
    Some(Question { id: number(0), name, family, kind, asked: message.get(12..at)?.to_vec() })
}

/// The message that answers a question; at most 512 bytes.
#[must_use]
pub fn answer(question: &Question, answer: &Answer) -> Vec<u8> {
    let code = match answer {
        Answer::Found(..) => 0,
        Answer::Failed => 2,
        Answer::NoName => 3,
        Answer::Refused => 5,
    };
    let none = (&[][..], Duration::ZERO);
    let (addresses, time_to_live) = if let Answer::Found(addresses, time) = answer { (&addresses[..], *time) } else { none };
    let fitting: Vec<&IpAddr> =
        addresses.iter().filter(|address| Some(address.is_ipv4()) == question.family.map(|it| it == Family::V4)).take(12).collect();
    let mut message = question.id.to_be_bytes().to_vec();
    // An answer, recursion wanted and available.
    message.extend([0x81, 0x80 | code, 0, 1]);
    message.extend(u16::try_from(fitting.len()).unwrap_or(0).to_be_bytes());
    message.extend([0; 4]);
    message.extend(&question.asked);
    message.extend(question.kind.to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    for address in fitting {
        // The name is the one at byte 12.
        message.extend([0xc0, 12]);
        message.extend(question.kind.to_be_bytes());
        message.extend(INTERNET.to_be_bytes());
        message.extend(u32::try_from(time_to_live.as_secs()).unwrap_or(0).to_be_bytes());
        match address {
            IpAddr::V4(address) => message.extend([&[0, 4][..], &address.octets()].concat()),
            IpAddr::V6(address) => message.extend([&[0, 16][..], &address.octets()].concat()),
        }
    }
    message
}

/// A question to a server.
#[must_use]
pub fn ask(id: u16, name: &Name, family: Family) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.as_str().split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(family.kind().to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    message
}

/// What a server said to [`ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An answer.
    Answer(Answer),
    /// It did not fit: it is to be asked for over TCP.
    Truncated,
}

/// Reads a server's answer. `None`: it is not to this question, whoever sent it.
#[must_use]
pub fn heard(message: &[u8], id: u16, name: &Name, family: Family) -> Option<Heard> {
    let (head, _) = message.split_at_checked(12)?;
    let number = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    if number(0) != id || head[2] & 0x80 == 0 || number(4) != 1 {
        return None;
    }
    let (asked, mut at) = name_at(message, 12)?;
    if asked != *name || message.get(at..at + 2)? != family.kind().to_be_bytes() {
        return None;
    }
    at += 4;
    if head[2] & 2 != 0 {
        return Some(Heard::Truncated);
    }
    Some(Heard::Answer(match head[3] & 0xf {
        0 => records(message, at, number(6), name, family).unwrap_or(Answer::Failed),
        3 => Answer::NoName,
        _ => Answer::Failed,
    }))
}

/// Addresses of the name, by way of its aliases; records of other names are passed over.
fn records(message: &[u8], mut at: usize, count: u16, name: &Name, family: Family) -> Option<Answer> {
    let (mut aliases, mut found, mut least) = (Vec::new(), Vec::new(), u32::MAX);
    for _ in 0..count {
        let (owner, kind_at) = match name_at(message, at) {
            Some((owner, at)) => (Some(owner), at),
            // A name that no host has, of a record that is not asked for.
            None => (None, skip_name(message, at)?),
        };
        let head = message.get(kind_at..kind_at + 10)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let time = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let data_at = kind_at + 10;
        at = data_at + usize::from(u16::from_be_bytes([head[8], head[9]]));
        let data = message.get(data_at..at)?;
        match owner {
            Some(owner) if kind == CNAME && aliases.len() < MOST_ALIASES => {
                aliases.push((owner, name_at(message, data_at)?.0, time));
            }
            Some(owner) if kind == family.kind() && found.len() < MOST_ADDRESSES => found.push((owner, address(data)?, time)),
            _ => {}
        }
    }
    let mut known = vec![name.clone()];
    for _ in 0..MOST_ALIASES {
        let last = known.last()?;
        let Some((_, target, time)) = aliases.iter().find(|(owner, ..)| owner == last) else { break };
        least = least.min(*time);
        known.push(target.clone());
    }
    let of_it: Vec<_> = found.iter().filter(|(owner, ..)| known.contains(owner)).collect();
    let least = of_it.iter().map(|(.., time)| *time).fold(least, u32::min);
    let least = if least == u32::MAX { 0 } else { least };
    Some(Answer::Found(of_it.iter().map(|(_, address, _)| *address).collect(), Duration::from_secs(least.into())))
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(data) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(data).ok().map(|six| Ipv6Addr::from(six).into())
}

/// A name and where it ends. Pointers lead backwards only, so that they end.
fn name_at(message: &[u8], start: usize) -> Option<(Name, usize)> {
    let (mut text, mut at, mut end, mut before) = (String::new(), start, None, start);
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => break,
            1..=63 => {
                let label = message.get(at + 1..=at + length)?;
                // A dot within a label is none between labels.
                if label.contains(&b'.') || text.len() > 253 {
                    return None;
                }
                text.push_str(std::str::from_utf8(label).ok()?);
                text.push('.');
                at += 1 + length;
            }
            0xc0.. => {
                let to = (length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                if to >= before {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, before) = (to, to);
            }
            _ => return None,
        }
    }
    Some((text.parse().ok()?, end.unwrap_or(at + 1)))
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn asked(text: &str, family: Family) -> Question {
        question(&ask(7, &name(text), family)).unwrap()
    }

    #[test]
    fn a_question_and_its_answer_arrive() {
        let question = asked("Example.com", Family::V4);
        assert_eq!((question.id, question.name.as_str(), question.family), (7, "example.com", Some(Family::V4)));
        let addresses = vec!["1.2.3.4".parse().unwrap(), "5.6.7.8".parse().unwrap()];
        let found = Answer::Found(addresses, Duration::from_secs(300));
        let message = answer(&question, &found);
        assert_eq!(heard(&message, 7, &name("example.com"), Family::V4), Some(Heard::Answer(found)));
        for other in [Answer::NoName, Answer::Failed] {
            assert_eq!(heard(&answer(&question, &other), 7, &name("example.com"), Family::V4), Some(Heard::Answer(other)));
        }
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let message = answer(&asked("good.org", Family::V4), &Answer::Found(vec!["1.2.3.4".parse().unwrap()], Duration::ZERO));
        assert_eq!(heard(&message, 8, &name("good.org"), Family::V4), None, "another number");
        assert_eq!(heard(&message, 7, &name("evil.org"), Family::V4), None, "another name");
        assert_eq!(heard(&message, 7, &name("good.org"), Family::V6), None, "another type");
        assert_eq!(heard(&ask(7, &name("good.org"), Family::V4), 7, &name("good.org"), Family::V4), None, "a question");
    }

    /// Adds a record to a message that ends with its records.
    fn record(message: &mut Vec<u8>, owner: &str, kind: u16, data: &[u8]) {
        let plain = ask(0, &name(owner), Family::V4);
        message.extend(&plain[12..plain.len() - 4]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
        message[7] += 1;
    }

    #[test]
    fn aliases_are_followed_and_strangers_are_not() {
        let mut message = answer(&asked("www.good.org", Family::V4), &Answer::Found(vec![], Duration::ZERO));
        let target = ask(0, &name("edge.cdn.net"), Family::V4);
        record(&mut message, "evil.org", 1, &[6, 6, 6, 6]);
        record(&mut message, "www.good.org", CNAME, &target[12..target.len() - 4]);
        record(&mut message, "edge.cdn.net", 1, &[1, 2, 3, 4]);
        let found = Answer::Found(vec!["1.2.3.4".parse().unwrap()], Duration::from_secs(60));
        assert_eq!(heard(&message, 7, &name("www.good.org"), Family::V4), Some(Heard::Answer(found)));
        let mut circle = answer(&asked("a.org", Family::V4), &Answer::Found(vec![], Duration::ZERO));
        let own = ask(0, &name("a.org"), Family::V4);
        record(&mut circle, "a.org", CNAME, &own[12..own.len() - 4]);
        assert!(matches!(heard(&circle, 7, &name("a.org"), Family::V4), Some(Heard::Answer(Answer::Found(none, _))) if none.is_empty()));
    }

    #[test]
    fn pointers_in_circles_end() {
        let mut message = ask(7, &name("a.org"), Family::V4);
        message.truncate(12);
        message.extend([0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(question(&message), None);
        let mut dotted = ask(7, &name("a.org"), Family::V4);
        dotted[13] = b'.';
        assert_eq!(question(&dotted), None);
    }

    #[test]
    fn other_types_are_known_as_such() {
        let mut text = ask(7, &name("a.org"), Family::V4);
        let at = text.len() - 3;
        text[at] = 16;
        let question = question(&text).unwrap();
        assert_eq!(question.family, None);
        let empty = answer(&question, &Answer::Found(vec!["1.2.3.4".parse().unwrap()], Duration::ZERO));
        assert_eq!((empty[3] & 0xf, &empty[6..8]), (0, &[0, 0][..]));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fall_over(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(question) = question(&bytes) {
                prop_assert!(answer(&question, &Answer::Refused).len() <= 512);
            }
            let mut reply = ask(7, &name("a.org"), Family::V4);
            reply[2] |= 0x80;
            reply[7] = 3;
            reply.extend(&bytes);
            let _ = heard(&reply, 7, &name("a.org"), Family::V4);
            let _ = heard(&bytes, 7, &name("a.org"), Family::V4);
        }

        #[test]
        fn answers_survive(four in prop::collection::vec(any::<u32>(), 0..12), seconds in 0u32..1_000_000) {
            let addresses: Vec<IpAddr> = four.iter().map(|four| Ipv4Addr::from(*four).into()).collect();
            let seconds = if addresses.is_empty() { 0 } else { seconds };
            let found = Answer::Found(addresses, Duration::from_secs(seconds.into()));
            let message = answer(&asked("a.b.c.org", Family::V4), &found);
            prop_assert!(message.len() <= 512);
            prop_assert_eq!(heard(&message, 7, &name("a.b.c.org"), Family::V4), Some(Heard::Answer(found)));
        }
    }
}
