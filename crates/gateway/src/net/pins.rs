//! Which names were resolved to which addresses, for one sandbox: what makes a name in a rule mean something for a packet. Pure: the time is given.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::name::Name;
use crate::address::inner;

/// Addresses that are remembered; the ones that end first are forgotten first.
const MOST_ADDRESSES: usize = 4_096;
/// Names of one address: those of a shared one.
const MOST_NAMES: usize = 32;
const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(3_600);

/// Names of addresses.
#[derive(Debug, Default)]
pub struct Pins {
    names: HashMap<IpAddr, Vec<(Name, Instant)>>,
}

/// How long an answer holds.
#[must_use]
pub fn holds(time_to_live: Duration) -> Duration {
    time_to_live.clamp(LEAST, MOST)
}

impl Pins {
    /// A name was resolved to an address.
    pub fn pin(&mut self, name: &Name, address: IpAddr, time_to_live: Duration, now: Instant) {
        // A client uses an answer until its very end, and then needs a moment.
        let until = now + holds(time_to_live) + Duration::from_secs(5);
        if !self.names.contains_key(&address) && self.names.len() >= MOST_ADDRESSES {
            self.forget(now);
        }
        let names = self.names.entry(address).or_default();
        names.retain(|(old, until)| old != name && *until > now);
        if names.len() >= MOST_NAMES {
            names.remove(0);
        }
        names.push((name.clone(), until));
    }

    /// The names that hold for an address now; mapped addresses are those inside.
    #[must_use]
    pub fn names(&self, address: IpAddr, now: Instant) -> Vec<Name> {
        let address = inner(address).map_or(address, IpAddr::V4);
        let names = self.names.get(&address).into_iter().flatten();
        names.filter(|(_, until)| *until > now).map(|(name, _)| name.clone()).collect()
    }

    fn forget(&mut self, now: Instant) {
        self.names.retain(|_, names| names.iter().any(|(_, until)| *until > now));
        if self.names.len() >= MOST_ADDRESSES {
            let last = |names: &Vec<(Name, Instant)>| names.iter().map(|(_, until)| *until).max();
            let first = self.names.iter().min_by_key(|(_, names)| last(names)).map(|(address, _)| *address);
            first.and_then(|address| self.names.remove(&address));
        }
    }
}

/// How many different names below one are asked for: data leaves by questions where nothing else does.
#[derive(Debug, Default)]
pub struct Questions {
    asked: HashMap<String, (Instant, HashSet<Name>)>,
}

/// Different names below one parent within [`WINDOW`].
pub const MOST_QUESTIONS: usize = 64;
const WINDOW: Duration = Duration::from_secs(60);
const MOST_PARENTS: usize = 1_024;

impl Questions {
    /// Whether a name may be asked for now. Names that were asked for before may be asked for again.
    pub fn ask(&mut self, name: &Name, now: Instant) -> bool {
        if self.asked.len() >= MOST_PARENTS {
            self.asked.retain(|_, (began, _)| now.duration_since(*began) < WINDOW);
            if self.asked.len() >= MOST_PARENTS && !self.asked.contains_key(name.parent()) {
                return false;
            }
        }
        let (began, names) = self.asked.entry(name.parent().to_owned()).or_insert_with(|| (now, HashSet::new()));
        if now.duration_since(*began) >= WINDOW {
            (*began, *names) = (now, HashSet::new());
        }
        names.contains(name) || (names.len() < MOST_QUESTIONS && names.insert(name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_pin_holds_for_its_time() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        let address: IpAddr = "93.184.216.34".parse().unwrap();
        pins.pin(&name("a.org"), address, Duration::from_secs(0), now);
        pins.pin(&name("b.org"), address, Duration::from_secs(999_999), now);
        assert_eq!(pins.names(address, now), [name("a.org"), name("b.org")]);
        assert_eq!(pins.names("::ffff:93.184.216.34".parse().unwrap(), now).len(), 2);
        assert_eq!(pins.names(address, now + Duration::from_secs(70)), [name("b.org")]);
        assert!(pins.names(address, now + Duration::from_secs(3_700)).is_empty());
    }

    #[test]
    fn pins_are_bounded() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        for n in 0..10_000u32 {
            pins.pin(&name(&format!("a{n}.org")), IpAddr::V4(n.into()), LEAST, now + Duration::from_millis(n.into()));
            pins.pin(&name(&format!("a{n}.org")), IpAddr::V4(1.into()), MOST, now);
        }
        assert!(pins.names.len() <= MOST_ADDRESSES && pins.names(IpAddr::V4(1.into()), now).len() <= MOST_NAMES);
    }

    #[test]
    fn a_tunnel_of_names_is_cut() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        let passed = (0..1_000).filter(|n| questions.ask(&name(&format!("d{n}.x.evil.org")), now)).count();
        assert_eq!(passed, MOST_QUESTIONS);
        assert!(questions.ask(&name("d1.x.evil.org"), now), "known names go on");
        assert!(questions.ask(&name("good.org"), now), "others are not concerned");
        assert!(questions.ask(&name("new.evil.org"), now + WINDOW));
        for n in 0..5_000 {
            questions.ask(&name(&format!("a.d{n}.org")), now);
        }
        assert!(questions.asked.len() <= MOST_PARENTS);
    }
}
