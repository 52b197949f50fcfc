//! `skep workers`.

use clap::{Args, Subcommand};
use skep_api::{Deployed, Rollback, VersionList, WorkerList};
use skep_id::VersionId;

use crate::{Global, client::Client, failure::Failure, output};

#[derive(Args)]
#[command(after_help = "Examples:
  skep workers ls
  skep workers versions hello
  skep workers rollback hello          return to the version that answered before
  skep workers rollback hello v3
  skep workers rm hello
  skep workers rm app --actors delete  delete its actors too")]
pub struct Workers {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All workers.
    Ls,
    /// A worker's versions.
    Versions {
        /// The worker.
        name: String,
    },
    /// Return to an earlier version.
    Rollback {
        /// The worker.
        name: String,
        /// The version [default: the one that answered before].
        version: Option<VersionId>,
    },
    /// Delete a worker with all its versions.
    Rm {
        /// The worker.
        name: String,
        /// What becomes of the actors of its classes: `delete` them with all they have, or `keep` them for a worker of the same name to
        /// come. Without it, a worker that has actors stays.
        #[arg(long, value_parser = ["delete", "keep"])]
        actors: Option<String>,
    },
}

impl Workers {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match &self.command {
            Command::Ls => list(&client, global.json),
            Command::Versions { name } => versions(&client, &path(name)?, global.json),
            Command::Rollback { name, version } => {
                let body = Rollback { version: *version };
                let deployed: Deployed = client.post(&format!("{}/rollback", path(name)?), &body)?;
                if global.json {
                    output::json(&deployed);
                } else {
                    output::line(&format!("{} is now {}", deployed.worker, deployed.version));
                }
                Ok(())
            }
            Command::Rm { name, actors } => {
                let what = actors.as_ref().map(|what| format!("?actors={what}")).unwrap_or_default();
                client.delete(&format!("{}{what}", path(name)?))?;
                if !global.json {
                    output::line(&format!("{name} is deleted"));
                }
                Ok(())
            }
        }
    }
}

/// The name is checked before it becomes part of a path.
pub fn path(name: &str) -> Result<String, Failure> {
    let name: skep_id::WorkerName = name.parse().map_err(|error: skep_id::ParseError| Failure::wrong(error.to_string(), ""))?;
    Ok(format!("/v1/workers/{name}"))
}

fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let list: WorkerList = client.get("/v1/workers")?;
    if json {
        output::json(&list);
        return Ok(());
    }
    let rows: Vec<_> = list
        .workers
        .iter()
        .map(|worker| {
            let url = worker.urls.first().cloned().unwrap_or_default();
            [worker.name.to_string(), worker.version.to_string(), output::ago(worker.active_since), url]
        })
        .collect();
    output::table(["NAME", "VERSION", "SINCE", "URL"], &rows);
    Ok(())
}

fn versions(client: &Client, path: &str, json: bool) -> Result<(), Failure> {
    let list: VersionList = client.get(&format!("{path}/versions"))?;
    if json {
        output::json(&list);
        return Ok(());
    }
    let rows: Vec<_> = list
        .versions
        .iter()
        .map(|version| {
            let mark = if version.active { "*" } else { "" };
            let size = format!("{} KiB", version.size.div_ceil(1024));
            let hash = version.hash.chars().take(12).collect();
            let message = version.message.clone().unwrap_or_default();
            [format!("{}{mark}", version.version), output::ago(version.created_at), version.created_by.clone(), size, hash, message]
        })
        .collect();
    output::table(["VERSION", "DEPLOYED", "BY", "SIZE", "HASH", "MESSAGE"], &rows);
    Ok(())
}
