//! `skep doctor`: looks at the machine, the data folder and the node, and says what is amiss.

#[cfg(target_os = "linux")]
mod sandboxes;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use skep_api::{ErrorCode, NodeStatus};
use skep_bundle::{Compiler, CompilerConfig, Fence};
use skep_node::{LogError, OpenError};

use crate::{
    Global,
    client::Client,
    failure::{Failure, with_causes},
    output,
};

/// Connections, files and databases of a busy node.
const FILES_WANTED: u64 = 4_096;

/// Each warm isolate takes a few mappings.
const MAPPINGS_WANTED: u64 = 65_530;

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    said: String,
}

#[derive(Args)]
#[command(after_help = "Examples:
  skep doctor
  skep doctor --attack         try known ways out of a sandbox on this host, in both profiles, and say which doors are open
  skep doctor --repair         repair files of actors from their log and history, go on without what these have not, and say what that is

Files of actors are looked at while no node runs on the data folder.")]
pub struct Doctor {
    /// Repair files of actors, as far as can be; what cannot is given up, and named.
    #[arg(long)]
    repair: bool,
    /// Knock at every door of real sandboxes on this host; takes seconds, and root.
    #[arg(long)]
    attack: bool,
    /// The node's configuration file, where it has settings for actors.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Doctor {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let mut config = crate::up::File::read(self.config.as_deref())?.node;
        config.data = global.data.clone().unwrap_or(config.data);
        examine(global, &config, self.repair, self.attack)
    }
}

fn examine(global: &Global, config: &skep_node::Config, repair: bool, attack: bool) -> Result<(), Failure> {
    let mut checks = vec![data_folder(&config.data), open_files(), mappings()];
    checks.extend(actors(config, repair));
    checks.extend(compile_fences());
    checks.extend(sandboxes_of(config, attack));
    checks.push(node(global));
    if global.json {
        output::json(&checks);
    } else {
        for Check { name, ok, said } in &checks {
            output::line(&format!("{} {name}: {said}", if *ok { "ok  " } else { "LOOK" }));
        }
    }
    if checks.iter().all(|check| check.ok) { Ok(()) } else { Err(Failure::silent(ErrorCode::Unavailable)) }
}

fn check(name: &str, found: Result<String, String>) -> Check {
    Check { name: name.to_owned(), ok: found.is_ok(), said: found.unwrap_or_else(|said| said) }
}

fn data_folder(data: &Path) -> Check {
    let shown = data.display();
    let try_it = || {
        if !data.exists() {
            return Ok(format!("{shown} does not exist yet; `skep up` makes it"));
        }
        let probe = data.join("doctor.probe");
        let written = fs::File::create(&probe).and_then(|mut file| file.write_all(b"x").and_then(|()| file.sync_all()));
        let _ = fs::remove_file(&probe);
        written.map(|()| format!("{shown} can be written")).map_err(|error| format!("{shown} cannot be written: {error}"))
    };
    check("data folder", try_it())
}

/// One check for all that is sound, and one for each thing that is not.
fn actors(config: &skep_node::Config, repair: bool) -> Vec<Check> {
    let looked =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|error| error.to_string()).and_then(
            |runtime| match runtime.block_on(skep_node::inspect_actors(config, repair)) {
                Err(OpenError::InUse(_)) => Ok(None),
                Err(error) if !repair && may_be_repaired(&error) => {
                    Err(format!("{}; `skep doctor --repair` goes on without what is lost", with_causes(&error)))
                }
                other => other.map(Some).map_err(|error| with_causes(&error)),
            },
        );
    let found = match looked {
        Err(why) => return vec![check("actors", Err(why))],
        Ok(None) => return vec![check("actors", Ok("a node runs; their files are looked at when it has stopped".to_owned()))],
        Ok(Some(found)) => found,
    };
    if found.findings.is_empty() {
        return vec![check("actors", Ok(format!("the files of {} actors are sound", found.actors)))];
    }
    let one = |said: String| Check { name: "actors".to_owned(), ok: !found.amiss, said };
    let mut checks: Vec<Check> = found.findings.iter().cloned().map(one).collect();
    if found.amiss && !repair {
        checks.push(one("`skep doctor --repair` repairs what the log has, and says what is lost".to_owned()));
    }
    checks
}

/// Whether it is damage, which `--repair` is for.
pub fn may_be_repaired(error: &OpenError) -> bool {
    match error {
        OpenError::Log(LogError::Damaged { .. }) => true,
        OpenError::Actors(error) => error.is_damaged(),
        OpenError::Inspection(error) => error.is_of_damaged_directory(),
        _ => false,
    }
}

fn open_files() -> Check {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let found = if most >= FILES_WANTED {
        Ok(format!("up to {most}"))
    } else {
        Err(format!("at most {most}, and a busy node wants {FILES_WANTED}; raise it with `ulimit -n`"))
    };
    check("open files", found)
}

fn mappings() -> Check {
    let most = fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let found = match most {
        Some(most) if most < MAPPINGS_WANTED => {
            Err(format!("vm.max_map_count is {most}, and {MAPPINGS_WANTED} is usual; raise it with sysctl"))
        }
        Some(most) => Ok(format!("vm.max_map_count is {most}")),
        None => Ok("not limited on this system".to_owned()),
    };
    check("memory mappings", found)
}

/// Asked of a compile child, which is the one that knows.
fn compile_fences() -> Vec<Check> {
    let asked = || -> Result<Vec<Fence>, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let config = CompilerConfig {
            program,
            args: vec!["compile-child".to_owned()],
            children_max: 1,
            timeout: Duration::from_secs(10),
            fences_required: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(async { Compiler::new(config).fences().await }).map_err(|error| error.to_string())
    };
    match asked() {
        Ok(fences) => {
            fences.into_iter().map(|f| Check { name: format!("compile child, {}", f.name), ok: f.standing, said: f.said }).collect()
        }
        Err(why) => vec![check("compile child", Err(why))],
    }
}

#[cfg(target_os = "linux")]
fn sandboxes_of(config: &skep_node::Config, attack: bool) -> Vec<Check> {
    sandboxes::look(config, attack)
}

#[cfg(not(target_os = "linux"))]
fn sandboxes_of(_: &skep_node::Config, _: bool) -> Vec<Check> {
    vec![check("sandboxes", Ok("this system has none: they need Linux".to_owned()))]
}

fn node(global: &Global) -> Check {
    let asked = Client::new(global).and_then(|client| client.get::<NodeStatus>("/v1/node").map(|status| (client, status)));
    let found = match asked {
        Err(failure) => Err(failure.message().to_owned()),
        Ok((client, status)) if status.version != env!("CARGO_PKG_VERSION") => {
            Err(format!("{} is skep {}, and this is {}", client.url(), status.version, env!("CARGO_PKG_VERSION")))
        }
        Ok((client, status)) => {
            Ok(format!("{} answers, {} workers, image {}", client.url(), status.workers, status.image.get(..12).unwrap_or_default()))
        }
    };
    check("node", found)
}
