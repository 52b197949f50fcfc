//! The attack corpus: what known escapes begin with, tried from within a real sandbox.
//!
//! Each case says which door it knocks at and asserts that the door is shut: the call refused, the file out of reach. None carries an exploit. The
//! program itself is copied into the sandbox and started there with [`ARGUMENT`] and the name of a case ([`inside`]); tests do that for both
//! profiles, and so does `skep doctor --attack` on an operator's own host.

mod bounds;
mod doors;
mod run;

use std::{io::Write, process::ExitCode};

pub use doors::CASES;
pub use run::{AttackError, Knock, fences, run};

use crate::profile::Profile;

/// What the second argument of this program is when it is to attack; the third is the profile, the fourth the case.
pub const ARGUMENT: &str = "sandbox-attack";

/// One door.
pub struct Case {
    /// The advisory or the mechanism, in the words of a test's name.
    pub name: &'static str,
    /// Knocks; an error's text says which door is open.
    pub(crate) knock: fn(Profile) -> Result<(), String>,
}

/// If this process is to attack, does so: the exit code is that of a shut door.
pub(crate) fn inside() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(ARGUMENT) {
        return None;
    }
    let profile = match arguments.next().as_deref() {
        Some("workstation") => Profile::Workstation,
        _ => Profile::Strict,
    };
    let name = arguments.next().unwrap_or_default();
    let knocked = match CASES.iter().find(|case| case.name == name) {
        Some(case) => (case.knock)(profile),
        None => Err(format!("there is no case {name:?}")),
    };
    Some(match knocked {
        Ok(()) => ExitCode::SUCCESS,
        Err(open) => {
            let _ = writeln!(std::io::stdout(), "{open}");
            ExitCode::FAILURE
        }
    })
}
