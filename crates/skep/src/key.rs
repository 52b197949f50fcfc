//! `skep key`. On the node's machine it works on the data folder's file itself, with the node running or not: who may read the file
//! may make keys. With `--url` it asks the node.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use skep_access::{Keys, Scope};
use skep_api::{ErrorCode, KeyList, NewKeyToken};
use skep_id::KeyId;

use crate::{Global, client::Client, failure::Failure, output};

#[derive(Args)]
#[command(after_help = "Examples:
  skep key create --scope deploy,read --label ci --expires 90d
  skep key create --scope sandboxes --e2b --label sdk      a key for E2B's SDKs
  skep key ls
  skep key revoke 2v8k6m1q9x3c7z5b

Scopes: admin (everything), deploy, execute, read, actors, sandboxes. Only admin includes others.")]
pub struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key and print its token, this once.
    Create {
        /// What it may do.
        #[arg(long, value_delimiter = ',', required = true)]
        scope: Vec<String>,
        /// What it is for.
        #[arg(long, default_value = "")]
        label: String,
        /// When it stops working: a number with m, h or d [default: never].
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Print the token as e2b_<hexadecimal>, as E2B's SDKs want it.
        #[arg(long)]
        e2b: bool,
    },
    /// All keys.
    Ls,
    /// Revoke a key, at once.
    Revoke {
        /// The key's id.
        id: KeyId,
    },
}

impl Key {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        match &self.command {
            Command::Create { scope, label, expires, e2b } => {
                let expires_at = expires.as_deref().map(span_ms).transpose()?.map(|span| now() + span);
                let made = create(global, scope, label, expires_at)?;
                if global.json {
                    output::json(&made);
                } else {
                    output::line(if *e2b { &made.e2b } else { &made.token });
                    eprintln!("key {} was made; its token is shown this once", made.key.id);
                }
            }
            Command::Ls => show(&list(global)?, global.json),
            Command::Revoke { id } => {
                match &global.url {
                    Some(_) => Client::new(global)?.delete(&format!("/v1/keys/{id}"))?,
                    None => local(global)?.revoke(id, now()).map_err(|error| failed(&error))?,
                }
                if !global.json {
                    output::line(&format!("key {id} is revoked"));
                }
            }
        }
        Ok(())
    }
}

fn create(global: &Global, scopes: &[String], label: &str, expires_at: Option<i64>) -> Result<NewKeyToken, Failure> {
    let scopes = scopes
        .iter()
        .map(|word| {
            Scope::from_word(word).ok_or_else(|| {
                Failure::wrong(format!("{word:?} is not a scope"), "Scopes are admin, deploy, execute, read, actors and sandboxes.")
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if global.url.is_some() {
        let new = skep_api::NewKey { label: label.to_owned(), scopes: scopes.into_iter().map(wire).collect(), expires_at };
        return Client::new(global)?.post("/v1/keys", &new);
    }
    let new = skep_access::NewKey { label: label.to_owned(), scopes: scopes.into_iter().collect(), expires_at };
    let (key, token) = local(global)?.create(&new, now()).map_err(|error| failed(&error))?;
    Ok(NewKeyToken { key: shown(key), token: token.reveal(), e2b: token.reveal_hexadecimal() })
}

fn list(global: &Global) -> Result<KeyList, Failure> {
    match &global.url {
        Some(_) => Client::new(global)?.get("/v1/keys"),
        None => {
            let keys = local(global)?.list().map_err(|error| failed(&error))?;
            Ok(KeyList { keys: keys.into_iter().map(shown).collect() })
        }
    }
}

fn local(global: &Global) -> Result<Keys, Failure> {
    let file = global.data().join("access.sqlite");
    if !file.exists() {
        return Err(Failure::new(
            ErrorCode::NotFound,
            format!("there is no node's data in {}", global.data().display()),
            "Start a node with `skep up`, or give --data; for a node elsewhere, --url and --key.",
        ));
    }
    Keys::open(&file).map_err(|error| failed(&error))
}

fn failed(error: &skep_access::KeyError) -> Failure {
    let code = match error {
        skep_access::KeyError::Unknown(_) => ErrorCode::NotFound,
        skep_access::KeyError::Invalid(_) => ErrorCode::Invalid,
        _ => ErrorCode::Internal,
    };
    Failure::of(code, error, "")
}

fn wire(scope: Scope) -> skep_api::Scope {
    match scope {
        Scope::Admin => skep_api::Scope::Admin,
        Scope::Deploy => skep_api::Scope::Deploy,
        Scope::Execute => skep_api::Scope::Execute,
        Scope::Read => skep_api::Scope::Read,
        Scope::Actors => skep_api::Scope::Actors,
        Scope::Sandboxes => skep_api::Scope::Sandboxes,
    }
}

fn shown(key: skep_access::Key) -> skep_api::Key {
    skep_api::Key {
        id: key.id,
        label: key.label,
        scopes: key.scopes.iter().map(wire).collect(),
        created_at: key.created_at,
        expires_at: key.expires_at,
        last_used_at: key.last_used_at,
        revoked_at: key.revoked_at,
    }
}

fn show(list: &KeyList, json: bool) {
    if json {
        return output::json(list);
    }
    let rows: Vec<_> = list
        .keys
        .iter()
        .map(|key| {
            let scopes: Vec<String> =
                key.scopes.iter().filter_map(|scope| serde_json::to_value(scope).ok()?.as_str().map(str::to_owned)).collect();
            let state = match (key.revoked_at, key.expires_at) {
                (Some(at), _) => format!("revoked {}", output::ago(at)),
                (None, Some(at)) if at <= now() => format!("expired {}", output::ago(at)),
                (None, Some(at)) => format!("expires {}", output::ago(at)),
                (None, None) => "good".to_owned(),
            };
            let used = key.last_used_at.map_or_else(|| "never".to_owned(), output::ago);
            [key.id.to_string(), scopes.join(","), state, output::ago(key.created_at), used, key.label.clone()]
        })
        .collect();
    output::table(["ID", "SCOPES", "STATE", "MADE", "USED", "LABEL"], &rows);
}

fn span_ms(text: &str) -> Result<i64, Failure> {
    let wrong = || Failure::wrong(format!("{text:?} is not a time"), "Write 30m, 12h or 90d.");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: i64 = number.parse().ok().filter(|number| (1..=36_500).contains(number)).ok_or_else(wrong)?;
    match unit {
        "m" => Ok(number * 60_000),
        "h" => Ok(number * 3_600_000),
        "d" => Ok(number * 86_400_000),
        _ => Err(wrong()),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
