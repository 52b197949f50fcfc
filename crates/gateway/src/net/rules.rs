//! What a sandbox may reach: E2B's network fields as a value, and what follows from them for one address. Pure.
//!
//! It resolves nothing and knows no connection: it is told what address is wanted and which names were resolved to it, and says whether that is
//! enough, or which name must be shown first.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    flow::{Decision, Reason},
    name::{Name, Pattern},
    sniff::Shown,
};
use crate::address::{inner, is_public};

/// What may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Whether what no rule speaks of is reached, if it is public.
    pub internet: bool,
    /// Reached whatever `deny` and `internet` say. Not-public addresses are reached only if one of these names them.
    pub allow: Vec<Selector>,
    /// Not reached.
    pub deny: Vec<Selector>,
}

/// Whom a rule means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Selector {
    /// Addresses.
    Net(IpNet),
    /// Names, as they were resolved and are shown by TLS or HTTP.
    Domain(Pattern),
}

/// Why something is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address, no range of addresses (10.0.0.0/8) and no domain (example.com, *.example.com)")]
pub struct SelectorError(String);

/// What follows for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be opened.
    Allow,
    /// It may not.
    Deny(Reason),
    /// It may be opened, but nothing passes to the outside before one of these names is shown: they are allowed and were resolved to the address.
    Prove(Vec<Name>),
    /// It may be opened, but nothing passes to the outside before it is known that no denied name is shown.
    Watch,
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match net {
            Some(net) => Ok(Self::Net(net.trunc())),
            None => text.parse().map(Self::Domain).map_err(|_| SelectorError(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(net) => write!(f, "{net}"),
            Self::Domain(pattern) => write!(f, "{pattern}"),
        }
    }
}

impl Selector {
    fn net(&self) -> Option<&IpNet> {
        match self {
            Self::Net(net) => Some(net),
            Self::Domain(_) => None,
        }
    }

    fn domain(&self) -> Option<&Pattern> {
        match self {
            Self::Domain(pattern) => Some(pattern),
            Self::Net(_) => None,
        }
    }
}

/// Whether a range means this address, or the one inside it. All of one family is all of the other, too: `0.0.0.0/0` is how one writes "everything".
fn means(net: &IpNet, address: IpAddr) -> bool {
    net.prefix_len() == 0 || net.contains(&address) || inner(address).is_some_and(|inner| net.contains(&IpAddr::V4(inner)))
}

/// Whether a range was written for addresses that are not public. One that happens to hold them (`0.0.0.0/0`, `8.0.0.0/5`) was not.
fn names_inside(net: &IpNet) -> bool {
    let narrow = net.prefix_len() >= if net.max_prefix_len() == 32 { 8 } else { 7 };
    narrow && !is_public(net.network()) && !is_public(net.broadcast())
}

impl Default for Rules {
    fn default() -> Self {
        Self::open()
    }
}

impl Rules {
    /// The public Internet.
    #[must_use]
    pub const fn open() -> Self {
        Self { internet: true, allow: Vec::new(), deny: Vec::new() }
    }

    /// Nothing.
    #[must_use]
    pub const fn closed() -> Self {
        Self { internet: false, allow: Vec::new(), deny: Vec::new() }
    }

    /// Rules as E2B's network fields have them.
    ///
    /// # Errors
    /// The first selector that is none, in words for the caller.
    pub fn parse(internet: bool, allow: &[String], deny: &[String]) -> Result<Self, SelectorError> {
        let all = |texts: &[String]| texts.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
        Ok(Self { internet, allow: all(allow)?, deny: all(deny)? })
    }

    /// Whether a connection to an address may be opened; `pinned` are the names that were resolved to it for this sandbox.
    #[must_use]
    pub fn decide(&self, to: IpAddr, pinned: &[Name]) -> Verdict {
        let public = is_public(to);
        if self.allow.iter().filter_map(Selector::net).any(|net| means(net, to) && (public || names_inside(net))) {
            return Verdict::Allow;
        }
        if !public {
            return Verdict::Deny(Reason::NotPublic);
        }
        let refused = if self.deny.iter().filter_map(Selector::net).any(|net| means(net, to)) {
            Reason::Denied
        } else if self.internet {
            let watched = self.deny.iter().any(|selector| selector.domain().is_some());
            return if watched { Verdict::Watch } else { Verdict::Allow };
        } else {
            Reason::NoInternet
        };
        let provable: Vec<Name> = pinned.iter().filter(|name| self.allows_name(name)).cloned().collect();
        if provable.is_empty() { Verdict::Deny(refused) } else { Verdict::Prove(provable) }
    }

    /// What follows from the first bytes of a connection whose verdict was `verdict`.
    #[must_use]
    pub fn shown(&self, verdict: &Verdict, port: u16, shown: &Shown) -> Decision {
        match (verdict, shown) {
            (Verdict::Deny(reason), _) => Decision::Deny(*reason),
            (Verdict::Allow, _) => Decision::Allow,
            (Verdict::Prove(names), Shown::Name(name)) if names.contains(name) => Decision::Allow,
            (Verdict::Prove(_), Shown::Name(_)) => Decision::Deny(Reason::OtherName),
            // A protocol without names, to an address of a name that is allowed: SSH, a database. The Web's own ports speak the Web's protocols.
            (Verdict::Prove(_), Shown::Opaque) if !matches!(port, 80 | 443) => Decision::Allow,
            (Verdict::Prove(_), _) => Decision::Deny(Reason::NoName),
            (Verdict::Watch, Shown::Name(name)) if self.denies_name(name) => Decision::Deny(Reason::Denied),
            (Verdict::Watch, _) => Decision::Allow,
        }
    }

    /// Whether a name is resolved: questions go to the outside, too, so only names that could be reached are asked for.
    #[must_use]
    pub fn resolves(&self, name: &Name) -> bool {
        let everything = |selectors: &[Selector]| selectors.iter().filter_map(Selector::net).any(|net| net.prefix_len() == 0);
        let open = everything(&self.allow) || (self.internet && !everything(&self.deny));
        self.allows_name(name) || (open && !self.denies_name(name))
    }

    fn allows_name(&self, name: &Name) -> bool {
        self.allow.iter().filter_map(Selector::domain).any(|pattern| pattern.matches(name))
    }

    fn denies_name(&self, name: &Name) -> bool {
        self.deny.iter().filter_map(Selector::domain).any(|pattern| pattern.matches(name)) && !self.allows_name(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(internet: bool, allow: &[&str], deny: &[&str]) -> Rules {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Rules::parse(internet, &own(allow), &own(deny)).unwrap()
    }

    fn decide(rules: &Rules, to: &str, pinned: &[&str]) -> Verdict {
        let pinned: Vec<Name> = pinned.iter().map(|name| name.parse().unwrap()).collect();
        rules.decide(to.parse().unwrap(), &pinned)
    }

    const INSIDE: [&str; 9] = [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
    ];

    #[test]
    fn allowed_beats_denied() {
        let all_but_one = rules(true, &["1.1.1.1"], &["0.0.0.0/0"]);
        assert_eq!(decide(&all_but_one, "1.1.1.1", &[]), Verdict::Allow);
        assert_eq!(decide(&all_but_one, "8.8.8.8", &[]), Verdict::Deny(Reason::Denied));
        assert_eq!(decide(&all_but_one, "2606:4700::1111", &[]), Verdict::Deny(Reason::Denied), "everything is everything");
        assert_eq!(decide(&rules(false, &[], &[]), "1.1.1.1", &[]), Verdict::Deny(Reason::NoInternet));
        assert_eq!(decide(&rules(true, &[], &["8.8.8.8"]), "8.8.8.8", &[]), Verdict::Deny(Reason::Denied));
        assert_eq!(decide(&rules(true, &[], &["8.8.8.8"]), "::ffff:8.8.8.8", &[]), Verdict::Deny(Reason::Denied), "in disguise");
        assert_eq!(decide(&rules(true, &[], &["8.8.8.8"]), "64:ff9b::808:808", &[]), Verdict::Deny(Reason::Denied), "translated");
        assert_eq!(decide(&rules(false, &["0.0.0.0/0"], &[]), "8.8.8.8", &[]), Verdict::Allow);
    }

    #[test]
    fn inside_is_reached_only_if_an_address_or_range_names_it() {
        for inside in INSIDE {
            for open in [rules(true, &[], &[]), rules(true, &["0.0.0.0/0", "::/0", "*", "*.evil.org", "evil.org", "8.0.0.0/5"], &[])] {
                assert_eq!(decide(&open, inside, &["evil.org"]), Verdict::Deny(Reason::NotPublic), "{inside}");
            }
        }
        assert_eq!(decide(&rules(false, &["10.1.0.0/16"], &["0.0.0.0/0"]), "10.1.2.3", &[]), Verdict::Allow);
        assert_eq!(decide(&rules(true, &["169.254.169.254"], &[]), "169.254.169.254", &[]), Verdict::Allow);
        assert_eq!(decide(&rules(true, &["10.1.0.0/16"], &[]), "10.2.2.3", &[]), Verdict::Deny(Reason::NotPublic));
    }

    #[test]
    fn a_name_opens_the_addresses_it_was_resolved_to_and_must_be_shown() {
        let one = rules(true, &["*.good.org"], &["0.0.0.0/0"]);
        assert_eq!(decide(&one, "1.1.1.1", &[]), Verdict::Deny(Reason::Denied), "an address literal");
        assert_eq!(decide(&one, "1.1.1.1", &["evil.org"]), Verdict::Deny(Reason::Denied));
        let verdict = decide(&one, "1.1.1.1", &["evil.org", "a.good.org"]);
        let name = |text: &str| Shown::Name(text.parse().unwrap());
        let decision = |port, shown| one.shown(&verdict, port, &shown);
        assert_eq!(decision(443, name("a.good.org")), Decision::Allow);
        assert_eq!(decision(443, name("evil.org")), Decision::Deny(Reason::OtherName), "the other name of a shared address");
        assert_eq!(decision(443, name("b.good.org")), Decision::Deny(Reason::OtherName), "allowed, but not resolved to this address");
        assert_eq!(decision(443, Shown::Opaque), Decision::Deny(Reason::NoName));
        assert_eq!(decision(8443, Shown::Hidden), Decision::Deny(Reason::NoName));
        assert_eq!(decision(22, Shown::Opaque), Decision::Allow);
    }

    #[test]
    fn denied_names_are_neither_resolved_nor_spoken_to() {
        let most = rules(true, &[], &["*.evil.org"]);
        assert!(!most.resolves(&"a.evil.org".parse().unwrap()) && most.resolves(&"good.org".parse().unwrap()));
        let verdict = decide(&most, "1.1.1.1", &[]);
        assert_eq!(most.shown(&verdict, 443, &Shown::Name("a.evil.org".parse().unwrap())), Decision::Deny(Reason::Denied));
        assert_eq!(most.shown(&verdict, 443, &Shown::Name("good.org".parse().unwrap())), Decision::Allow);
    }

    #[test]
    fn only_what_could_be_reached_is_resolved() {
        let resolves = |rules: &Rules, name: &str| rules.resolves(&name.parse().unwrap());
        assert!(resolves(&Rules::open(), "x.org") && !resolves(&Rules::closed(), "x.org"));
        let one = rules(true, &["good.org", "1.1.1.1"], &["0.0.0.0/0"]);
        assert!(resolves(&one, "good.org") && !resolves(&one, "secret.evil.org"));
    }

    #[test]
    fn selectors_are_told_as_they_were_written() {
        for text in ["1.1.1.1", "10.0.0.0/8", "example.com", "*.example.com", "*", "fd00::/8"] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        for wrong in ["", "10.0.0.0/33", "1.2.3", "http://x", "*.", "a*.com", "256.1.1.1"] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
        let text = r#"{"internet":false,"allow":["*.a.org","1.1.1.1"],"deny":["0.0.0.0/0"]}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Rules>(text).unwrap()).unwrap(), text);
    }

    fn selector() -> impl Strategy<Value = Selector> {
        prop_oneof![
            (any::<u32>(), 0u8..=32).prop_map(|(net, bits)| format!("{}/{bits}", std::net::Ipv4Addr::from(net)).parse().unwrap()),
            (any::<u128>(), 0u8..=128).prop_map(|(net, bits)| format!("{}/{bits}", std::net::Ipv6Addr::from(net)).parse().unwrap()),
            "[a-c]\\.(org|com)".prop_map(|name| name.parse().unwrap()),
            Just("*".parse().unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn no_name_ever_opens_the_inside(
            allow in prop::collection::vec(selector(), 0..6),
            deny in prop::collection::vec(selector(), 0..6),
            internet: bool,
            inside in prop::sample::select(&INSIDE[..]),
        ) {
            let rules = Rules { internet, allow: allow.clone(), deny };
            let to: IpAddr = inside.parse().unwrap();
            let names: Vec<Name> = ["a.org", "b.com"].iter().map(|name| name.parse().unwrap()).collect();
            let named = allow.iter().filter_map(Selector::net).any(|net| net.prefix_len() >= 7 && means(net, to));
            if !named {
                prop_assert_eq!(rules.decide(to, &names), Verdict::Deny(Reason::NotPublic));
            }
            let text = serde_json::to_string(&rules).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rules>(&text).unwrap(), rules);
        }
    }
}
