//! The fences of sandboxes on this host, and, if asked, whether they hold.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use skep_sandbox::{
    Fence, Host, Profile,
    attack::{self, AttackError, Knock},
};

use super::{Check, check};

/// The program that runs here: it becomes the zygote, and the attacker.
const PROGRAM: &str = "/proc/self/exe";

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    /// In the data folder, so that the disk is the one of sandboxes; the data folder itself is not made.
    fn make(data: &Path) -> io::Result<Self> {
        let beside = if data.is_dir() { data.to_owned() } else { std::env::current_dir()? };
        let folder = beside.join(format!(".skep-doctor-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is a few small files beside the data.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A check for each fence; with `attack`, one for each door.
pub fn look(config: &skep_node::Config, attack: bool) -> Vec<Check> {
    if !config.sandboxes.enabled {
        return vec![check("sandboxes", Ok("turned off in the configuration".to_owned()))];
    }
    let profile = if config.sandboxes.strict { Profile::Strict } else { Profile::Workstation };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let looked = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let scratch = Scratch::make(&config.data).map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let host = attack::fences(Path::new(PROGRAM), &scratch.0).await.map_err(|error| error.to_string())?;
            let knocks = if attack { Some(attack::run(Path::new(PROGRAM), &scratch.0).await) } else { None };
            Ok((host, knocks))
        })
    });
    match looked {
        Err(why) => vec![check("sandboxes", Err(format!("their fences cannot be tried: {why}")))],
        Ok((host, knocks)) => {
            let mut checks = fences(&host, profile);
            checks.extend(skep_node::look_at_chunks(&config.sandboxes, &config.data).map(|found| check("sandboxes, chunks", found)));
            checks.extend(knocks.into_iter().flat_map(doors));
            checks
        }
    }
}

/// What the profile does without is no reason to look; what it demands is.
fn fences(host: &Host, profile: Profile) -> Vec<Check> {
    let one = |fence: Fence, missing: Option<&skep_sandbox::Missing>| {
        let name = serde_json::to_value(fence).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
        let demanded = profile.demands().contains(&fence);
        let (ok, said) = match missing {
            None => (true, "stands".to_owned()),
            Some(missing) if demanded => (false, format!("missing: {}; {}", missing.why, missing.fix)),
            Some(missing) => (true, format!("missing, and the profile does without: {}; {}", missing.why, missing.fix)),
        };
        Check { name: format!("sandboxes, {name}"), ok, said }
    };
    host.standing.iter().map(|standing| one(standing.fence, standing.missing.as_ref())).collect()
}

fn doors(knocked: Result<Vec<Knock>, AttackError>) -> Vec<Check> {
    let one = |knock: Knock| {
        let profile = if knock.profile == Profile::Strict { "strict" } else { "workstation" };
        let name = format!("attack, {profile}, {}", knock.case);
        let (ok, said) = knock.open.map_or((true, "shut".to_owned()), |open| (false, format!("OPEN: {open}")));
        Check { name, ok, said }
    };
    match knocked {
        Ok(knocks) => knocks.into_iter().map(one).collect(),
        Err(error) => vec![check("attack", Err(error.to_string()))],
    }
}
