//! `skep actors`.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::Value;
use skep_api::{
    Actor, ActorDetails, ActorList, ActorRows, ActorSql, ActorState, ErrorCode, ForkActor, Point, Receipt, RewindActor, Rewound,
};

use crate::{Global, client::Client, failure::Failure, output};

/// Widest cell of a table of rows, in characters.
const CELL_CHARS_MAX: usize = 80;

#[derive(Args)]
#[command(after_help = "Examples:
  skep actors ls --worker app --class Room
  skep actors show app/Room/lobby
  skep actors sql app/Room/lobby 'SELECT * FROM message ORDER BY id DESC LIMIT 10'
  skep actors sql app/Room/lobby 'SELECT count(*) FROM message' --as-of 2h
  skep actors checkpoint app/Room/lobby
  skep actors fork app/Room/lobby --name lobby-copy
  skep actors rewind app/Room/lobby 10m
  skep actors export app/Room/lobby lobby.sqlite
  skep actors delete app/Room/lobby

An ACTOR is <worker>/<class>/<name>, or an id of 64 hexadecimal digits. A POINT in its past is a time ago (30s, 10m, 2h, 3d), a time in
ms since the epoch, or a bookmark (`skep actors show` prints the present one).")]
pub struct Actors {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List actors.
    #[command(after_help = "Examples:
  skep actors ls
  skep actors ls --worker app --class Room --prefix user-
  skep actors ls --all --json | jq '.actors | length'")]
    Ls {
        /// Only actors of this worker's classes.
        #[arg(long)]
        worker: Option<String>,
        /// Only actors of this class.
        #[arg(long)]
        class: Option<String>,
        /// Only actors whose name begins so.
        #[arg(long)]
        prefix: Option<String>,
        /// Go on where an earlier page ended.
        #[arg(long)]
        cursor: Option<String>,
        /// Most actors of the page: 1 to 1,000.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// All pages.
        #[arg(long, conflicts_with = "cursor")]
        all: bool,
    },
    /// Show one actor: its state, alarms, bookmark, and what happened to it.
    #[command(after_help = "Example:\n  skep actors show app/Room/lobby --json | jq -r .bookmark")]
    Show { actor: String },
    /// Ask an actor's database, now or in its past. Nothing can be changed by it.
    #[command(after_help = "Examples:
  skep actors sql app/Room/lobby 'SELECT name, sql FROM sqlite_schema'
  skep actors sql app/Room/lobby 'SELECT count(*) FROM message' --as-of 2h")]
    Sql {
        actor: String,
        /// One SQL statement.
        query: String,
        /// The point in its past to ask.
        #[arg(long, value_name = "POINT")]
        as_of: Option<String>,
    },
    /// Write heap and database down together, and print the receipt.
    #[command(after_help = "Example:\n  skep actors checkpoint app/Room/lobby --json")]
    Checkpoint { actor: String },
    /// Make a new actor from one as it is or was.
    #[command(after_help = "Examples:
  skep actors fork app/Room/lobby --name lobby-copy
  skep actors fork app/Room/lobby --as-of 1d --alarms")]
    Fork {
        actor: String,
        /// The new actor's name, which no actor has yet [default: none, with an id that nobody can guess].
        #[arg(long)]
        name: Option<String>,
        /// The point in its past to begin from.
        #[arg(long, value_name = "POINT")]
        as_of: Option<String>,
        /// Give it the alarms too.
        #[arg(long)]
        alarms: bool,
    },
    /// Bring an actor's database back to a point in its past. Prints the bookmark that undoes it.
    #[command(after_help = "Example:\n  skep actors rewind app/Room/lobby 10m")]
    Rewind {
        actor: String,
        /// Where to.
        point: String,
    },
    /// Write an actor's database to a SQLite file.
    #[command(after_help = "Examples:
  skep actors export app/Room/lobby lobby.sqlite
  skep actors export app/Room/lobby yesterday.sqlite --as-of 1d")]
    Export {
        actor: String,
        /// The file, which must not exist yet.
        file: PathBuf,
        /// The point in its past to export.
        #[arg(long, value_name = "POINT")]
        as_of: Option<String>,
    },
    /// Delete an actor with all it has, its past included.
    #[command(after_help = "Example:\n  skep actors delete app/Room/lobby", visible_alias = "rm")]
    Delete { actor: String },
}

impl Actors {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let (client, json) = (Client::new(global)?, global.json);
        match &self.command {
            Command::Ls { worker, class, prefix, cursor, limit, all } => {
                let limit = limit.to_string();
                let fixed = [("worker", worker), ("class", class), ("prefix", prefix), ("limit", &Some(limit))];
                list(&client, &query(fixed), cursor.clone(), *all, json)
            }
            Command::Show { actor } => show(&client.get(&path(actor)?)?, json),
            Command::Sql { actor, query, as_of } => {
                let body = ActorSql { query: query.clone(), as_of: as_of.as_deref().map(point).transpose()? };
                rows(&client.post(&format!("{}/sql", path(actor)?), &body)?, json)
            }
            Command::Checkpoint { actor } => receipt(&client.post(&format!("{}/checkpoint", path(actor)?), &serde_json::json!({}))?, json),
            Command::Fork { actor, name, as_of, alarms } => {
                let body = ForkActor { name: name.clone(), as_of: as_of.as_deref().map(point).transpose()?, alarms: *alarms };
                let made: Actor = client.post(&format!("{}/fork", path(actor)?), &body)?;
                said(&made, &format!("{} is a fork of {actor}", shown(&made)), json)
            }
            Command::Rewind { actor, point: to } => {
                let rewound: Rewound = client.post(&format!("{}/rewind", path(actor)?), &RewindActor { to: point(to)? })?;
                said(&rewound, &format!("{actor} is back; to undo it:\n  skep actors rewind {actor} {}", rewound.undo), json)
            }
            Command::Export { actor, file, as_of } => export(&client, actor, file, as_of.as_deref(), json),
            Command::Delete { actor } => {
                client.delete(&path(actor)?)?;
                if !json {
                    output::line(&format!("{actor} is deleted"));
                }
                Ok(())
            }
        }
    }
}

/// The path of an actor: its id, or worker, class and name, each slash of them encoded.
fn path(actor: &str) -> Result<String, Failure> {
    let parts: Vec<&str> = actor.splitn(3, '/').collect();
    let known = parts.len() == 3 && parts.iter().all(|part| !part.is_empty()) || actor.parse::<skep_id::ActorId>().is_ok();
    if known {
        Ok(format!("/v1/actors/{}", encoded(actor)))
    } else {
        Err(Failure::wrong(format!("{actor:?} names no actor"), "Write <worker>/<class>/<name>, or an id of 64 hexadecimal digits."))
    }
}

/// A text as one part of a path or query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn query<const N: usize>(given: [(&str, &Option<String>); N]) -> String {
    let given = given.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
    given.collect::<Vec<_>>().join("&")
}

/// A point in the past as people write it.
fn point(text: &str) -> Result<Point, Failure> {
    if let Ok(time) = text.parse() {
        return Ok(Point::Time(time));
    }
    let unit = match text.as_bytes().last() {
        Some(b's') => 1_000,
        Some(b'm') => 60_000,
        Some(b'h') => 3_600_000,
        Some(b'd') => 86_400_000,
        _ => 0,
    };
    let number: Option<i64> = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse().ok());
    match number.filter(|number| unit > 0 && *number >= 0) {
        Some(number) => Ok(Point::Time(output::now_ms().saturating_sub(number.saturating_mul(unit)))),
        None if text.is_empty() => Err(Failure::wrong("a point in the past is missing", "Write 10m, 2h, 3d, or a bookmark.")),
        None => Ok(Point::Bookmark(text.to_owned())),
    }
}

fn list(client: &Client, fixed: &str, mut cursor: Option<String>, all: bool, json: bool) -> Result<(), Failure> {
    let mut list = ActorList { actors: Vec::new(), cursor: None };
    loop {
        let from = cursor.map(|cursor| format!("&cursor={}", encoded(&cursor))).unwrap_or_default();
        let page: ActorList = client.get(&format!("/v1/actors?{fixed}{from}"))?;
        list.actors.extend(page.actors);
        cursor = page.cursor;
        if !all || cursor.is_none() {
            break;
        }
    }
    list.cursor = cursor;
    if json {
        output::json(&list);
        return Ok(());
    }
    let row = |actor: &Actor| {
        let wakes = actor.wakes_at.map(output::ago).unwrap_or_default();
        [shown(actor), state(actor.state).to_owned(), output::bytes(actor.database_bytes), output::ago(actor.active_at), wakes]
    };
    let rows: Vec<_> = list.actors.iter().map(row).collect();
    output::table(["ACTOR", "STATE", "DATABASE", "ACTIVE", "WAKES"], &rows);
    if let Some(cursor) = &list.cursor {
        output::line(&format!("… and more: --all, or --cursor {cursor}"));
    }
    Ok(())
}

/// An actor as it is named on the command line.
fn shown(actor: &Actor) -> String {
    match &actor.name {
        Some(name) => format!("{}/{}/{}", actor.worker, actor.class, plain(name)),
        None => actor.id.to_string(),
    }
}

fn state(state: ActorState) -> &'static str {
    match state {
        ActorState::Asleep => "asleep",
        ActorState::Waking => "waking",
        ActorState::Awake => "awake",
        ActorState::FallingAsleep => "falling asleep",
    }
}

fn show(details: &ActorDetails, json: bool) -> Result<(), Failure> {
    if json {
        output::json(details);
        return Ok(());
    }
    let actor = &details.actor;
    output::line(&shown(actor));
    let fact = |name: &str, value: String| output::line(&format!("  {name:10}{value}"));
    fact("id", actor.id.to_string());
    fact("class", format!("{}/{}", actor.worker, actor.class));
    if let Some(parent) = &actor.parent {
        fact("parent", parent.to_string());
    }
    fact("state", format!("{}, active {}", state(actor.state), output::ago(actor.active_at)));
    fact("made", output::ago(actor.created_at));
    fact("database", output::bytes(actor.database_bytes));
    fact("place", format!("record {} in epoch {}", details.seq, details.epoch));
    fact("bookmark", details.bookmark.clone());
    for (name, at) in &details.alarms {
        fact("alarm", format!("{}{}", output::ago(*at), if name.is_empty() { String::new() } else { format!("  {}", plain(name)) }));
    }
    for (name, bookmark) in &details.snapshots {
        fact("snapshot", format!("{bookmark}  {}", plain(name)));
    }
    for line in &details.log {
        fact("log", format!("{}  {}", output::ago(line.at), plain(&line.text)));
    }
    Ok(())
}

fn rows(rows: &ActorRows, json: bool) -> Result<(), Failure> {
    if json {
        output::json(rows);
        return Ok(());
    }
    let cells: Vec<Vec<String>> = rows.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let head: Vec<String> = rows.columns.iter().map(|name| plain(name)).collect();
    output::grid(&head, &cells);
    Ok(())
}

/// Text that others chose, on one line, with nothing that moves the cursor of a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

/// A value in a table.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(tagged) => match (tagged.get("integer").or(tagged.get("real")), tagged.get("base64")) {
            (Some(Value::String(digits)), _) => digits.clone(),
            (_, Some(Value::String(base64))) => {
                format!("({} bytes)", base64.len() / 4 * 3 - base64.bytes().rev().take_while(|b| *b == b'=').count())
            }
            _ => value.to_string(),
        },
        other => other.to_string(),
    };
    let plain = plain(&text);
    if plain.chars().count() <= CELL_CHARS_MAX {
        return plain;
    }
    plain.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

fn receipt(receipt: &Receipt, json: bool) -> Result<(), Failure> {
    let Receipt { actor, epoch, seq, tier } = receipt;
    said(receipt, &format!("receipt: record {seq} in epoch {epoch} of actor {actor}, {tier}"), json)
}

fn said<T: serde::Serialize>(value: &T, text: &str, json: bool) -> Result<(), Failure> {
    if json {
        output::json(value)
    } else {
        output::line(text)
    }
    Ok(())
}

/// Written aside and renamed: a file of that name is a whole database.
fn export(client: &Client, actor: &str, file: &Path, as_of: Option<&str>, json: bool) -> Result<(), Failure> {
    let as_of = as_of.map(point).transpose()?.map(|point| match point {
        Point::Time(time) => time.to_string(),
        Point::Bookmark(bookmark) => bookmark,
    });
    let failed = |error: &io::Error| Failure::new(ErrorCode::Invalid, format!("cannot write {}: {error}", file.display()), "");
    if file.exists() {
        return Err(Failure::wrong(format!("{} exists already", file.display()), "Name a new file."));
    }
    let aside = file.with_extension("part");
    let answer = client.open(&format!("{}/export?{}", path(actor)?, query([("as_of", &as_of)])))?;
    let mut to = File::create_new(&aside).map_err(|error| failed(&error))?;
    let copied = io::copy(&mut answer.into_body().into_reader(), &mut to);
    let whole = copied.and_then(|bytes| to.sync_all().and_then(|()| fs::rename(&aside, file)).map(|()| bytes));
    let bytes = whole.map_err(|error| {
        let _ = fs::remove_file(&aside);
        failed(&error)
    })?;
    said(&serde_json::json!({ "file": file, "bytes": bytes }), &format!("{}: {}", file.display(), output::bytes(bytes)), json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_one_part_of_the_path() {
        assert_eq!(path("app/Room/a b/../c?x#y").unwrap(), "/v1/actors/app%2FRoom%2Fa%20b%2F..%2Fc%3Fx%23y");
        let id = "00".repeat(32);
        assert_eq!(path(&id).unwrap(), format!("/v1/actors/{id}"));
        for wrong in ["", "app", "app/Room", "app//x", "/Room/x", "../x"] {
            assert!(path(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn points_are_spans_times_and_bookmarks() {
        assert_eq!(point("1700000000000").unwrap(), Point::Time(1_700_000_000_000));
        let Point::Time(then) = point("2h").unwrap() else { panic!("not a time") };
        assert!((output::now_ms() - 7_200_000 - then).abs() < 5_000);
        assert_eq!(point("0000-01").unwrap(), Point::Bookmark("0000-01".to_owned()));
        assert!(point("").is_err());
    }

    #[test]
    fn a_row_cannot_steer_the_terminal() {
        assert_eq!(cell(&Value::String("a\u{1b}[2Jb\n".to_owned())), "a·[2Jb·");
        assert_eq!(cell(&serde_json::json!({ "base64": "AAECAw==" })), "(4 bytes)");
        assert_eq!(cell(&serde_json::json!({ "integer": "9223372036854775807" })), "9223372036854775807");
        assert_eq!(cell(&Value::String("x".repeat(200))).chars().count(), CELL_CHARS_MAX);
    }
}
