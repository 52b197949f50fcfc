//! What a node knows of a sandbox beside what the core does. Values only; a row holds them as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_sandbox::{Limits, OnTimeout, Profile};

/// What is kept of a sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The key that made it.
    pub owner: String,
    /// What it was made from, as its maker named it.
    pub template: String,
    /// What its owner wants to find it by.
    pub metadata: BTreeMap<String, String>,
    /// Variables of every command.
    pub env: BTreeMap<String, String>,
    /// How tight it is.
    pub profile: Profile,
    /// What it may use.
    pub limits: Limits,
    /// How long it runs after a start or a wake, in milliseconds. `None`: until it is told otherwise.
    pub timeout_ms: Option<u64>,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// Whether traffic wakes it.
    pub auto_resume: bool,
    /// What calls to its envd must show. `None`: nothing, because its maker said so.
    pub envd_token: Option<String>,
    /// What requests to its ports must show, where they are not public.
    pub traffic_token: Option<String>,
    /// What it may reach and who may reach it.
    pub reach: Reach,
    /// What its template says of how it is used.
    #[serde(default)]
    pub setup: Setup,
    /// When it was made, ms since the epoch.
    pub created_ms: i64,
    /// When it last started or woke, ms since the epoch.
    pub started_ms: i64,
}

/// What a template says of how its sandboxes are used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Setup {
    /// Who commands run as, where nobody says. `None`: `user`.
    pub user: Option<String>,
    /// Where commands begin, and paths, where nobody says. `None`: the user's home.
    pub workdir: Option<String>,
    /// A line for the shell that is run whenever its processes begin anew.
    pub start: Option<String>,
    /// A line that ends well once what was started is ready.
    pub ready: Option<String>,
}

/// What a sandbox may reach, and who may reach it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reach {
    /// Whether it reaches the internet where no rule says otherwise. `None`: nobody said; it does.
    pub internet: Option<bool>,
    /// Addresses, ranges and names that it reaches whatever `deny` says.
    pub allow: Vec<String>,
    /// Addresses, ranges and names that it does not reach.
    pub deny: Vec<String>,
    /// Whether its ports answer only those who show the traffic token.
    pub private_ports: bool,
    /// What its servers see as `Host`; `${PORT}` stands for the port. `None`: what the client sent.
    pub mask_host: Option<String>,
}
