//! `skep secret`.

use std::{fs, io::Read, path::PathBuf};

use clap::{Args, Subcommand};
use skep_api::{ErrorCode, PutSecret, SecretList};

use crate::{Global, client::Client, failure::Failure, output};

#[derive(Args)]
#[command(after_help = "Examples:
  skep secret set API_KEY --host api.example.com < key.txt
  skep deploy app.ts --secret KEY=API_KEY
  skep secret ls

A worker never holds a secret: env.KEY is a placeholder. In the headers of requests to the secret's hosts, the node puts the secret
in its place; everywhere else the placeholder stays what it is.")]
pub struct Secret {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set a secret. Its value is read from standard input, never from the command line, which others can see.
    Set {
        /// Its name.
        name: String,
        /// A host that it may be sent to; may be given more than once. api.example.com, *.example.com, with :port where it is not 443,
        /// with http:// before it where TLS is not spoken.
        #[arg(long = "host", required = true, value_name = "HOST")]
        hosts: Vec<String>,
        /// A file with the value, instead of standard input.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List secrets and their hosts.
    Ls,
    /// Delete a secret, effective at once.
    Rm {
        /// Its name.
        name: String,
    },
}

impl Secret {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match &self.command {
            Command::Set { name, hosts, file } => {
                let value = value(file.as_ref())?;
                let set: skep_api::Secret = client.put(&path(name)?, &PutSecret { value, hosts: hosts.clone() })?;
                if global.json {
                    output::json(&set);
                } else {
                    output::line(&format!("secret {} is set, for {}", set.name, set.hosts.join(", ")));
                }
            }
            Command::Ls => show(&client.get("/v1/secrets")?, global.json),
            Command::Rm { name } => {
                client.delete(&path(name)?)?;
                if !global.json {
                    output::line(&format!("secret {name} is deleted"));
                }
            }
        }
        Ok(())
    }
}

/// One newline at the end is the editor's, not the secret's.
fn value(file: Option<&PathBuf>) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| Failure::of(ErrorCode::Invalid, &error, "");
    let mut text = String::new();
    match file {
        Some(file) => text = fs::read_to_string(file).map_err(unreadable)?,
        None => drop(std::io::stdin().read_to_string(&mut text).map_err(unreadable)?),
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    Ok(value.strip_suffix('\r').unwrap_or(value).to_owned())
}

fn path(name: &str) -> Result<String, Failure> {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    match plain {
        true => Ok(format!("/v1/secrets/{name}")),
        false => Err(Failure::wrong(format!("{name:?} is not a name for a secret"), "Use letters, digits and `_`, `-`, `.`.")),
    }
}

fn show(list: &SecretList, json: bool) {
    if json {
        return output::json(list);
    }
    let rows: Vec<_> =
        list.secrets.iter().map(|secret| [secret.name.clone(), secret.hosts.join(", "), output::ago(secret.updated_at)]).collect();
    output::table(["NAME", "HOSTS", "SET"], &rows);
}
