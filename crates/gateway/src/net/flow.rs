//! Flows: everything that a sandbox sends somewhere, with whose it is, where it goes, what was decided, and how much it was.
//!
//! A flow that was refused is one, too. What comes later (method rules, secrets, budgets, audit) looks at flows through [`Inspect`].

use std::{fmt, net::SocketAddr, time::SystemTime};

use serde::Serialize;

use super::name::Name;

/// Whose flows these are: a sandbox's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Owner(pub String);

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Unique among those of a node's life.
    pub id: u64,
    /// Whose it is.
    pub owner: Owner,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it comes from, as the sandbox sees itself.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// The name that it showed, or that was asked for.
    pub name: Option<Name>,
    /// What was decided.
    pub decision: Decision,
    /// Why it did not come about, although it was allowed: what the network said.
    pub failed: Option<String>,
    /// Bytes to the outside.
    pub sent: u64,
    /// Bytes from the outside.
    pub received: u64,
    /// When it began.
    pub began: SystemTime,
}

/// What a flow speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// Datagrams between two addresses.
    Udp,
    /// An ICMP echo.
    Echo,
    /// A question to the resolver.
    Dns,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It passes.
    Allow,
    /// It does not.
    Deny(Reason),
}

/// Why a flow does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The address is not public, and no rule names it.
    NotPublic,
    /// The address is this machine's own.
    ThisMachine,
    /// A rule denies it.
    Denied,
    /// The Internet is off.
    NoInternet,
    /// It shows another name than those that are allowed and were resolved to its address.
    OtherName,
    /// It would have to show a name, and shows none.
    NoName,
    /// QUIC, whose names cannot be seen: clients fall back to TCP.
    Quic,
    /// The sandbox has as many flows as it may have.
    TooMany,
    /// Too many different names below one in too short a time: that is how data leaves by questions.
    Tunnel,
    /// Refused by who inspects.
    Inspected,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPublic => "the address is not public, and no rule names it",
            Self::ThisMachine => "the address is this machine's own",
            Self::Denied => "a rule denies it",
            Self::NoInternet => "the Internet is off",
            Self::OtherName => "it shows a name that is not allowed, or was not resolved to its address",
            Self::NoName => "it shows no name",
            Self::Quic => "QUIC hides its names",
            Self::TooMany => "there are too many flows",
            Self::Tunnel => "too many names were asked for",
            Self::Inspected => "it was refused on inspection",
        })
    }
}

/// Who looks at flows. Called while packets wait: it must not block.
pub trait Inspect: Send + Sync + 'static {
    /// What a flow is, is decided: also those that are refused.
    fn decided(&self, _flow: &Flow) {}

    /// The first bytes of a connection that the rules allow, before any of them passes to the outside. Asked only where [`Inspect::wants`] says so.
    fn first(&self, _flow: &Flow, _bytes: &[u8]) -> Decision {
        Decision::Allow
    }

    /// Whether first bytes are wanted of this connection: it then waits for them.
    fn wants(&self, _flow: &Flow) -> bool {
        false
    }

    /// A flow has ended; its bytes are what they will be.
    fn ended(&self, _flow: &Flow) {}
}

/// Nobody looks.
impl Inspect for () {}
