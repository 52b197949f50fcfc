//! `skep sandbox`: Linux computers of agents, from the command line.

mod copy;
mod image;
mod past;
mod shell;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use skep_api::{
    ErrorCode, NewSandbox, OnTimeout, ResumeSandbox, Sandbox as Shown, SandboxExec, SandboxLimits, SandboxList, SandboxNetwork,
    SandboxOutput, SandboxPorts, SandboxProfile, SandboxState,
};

use crate::{Global, client::Client, failure::Failure, output};

/// Most bytes of standard input that go with a command: they travel in its request.
const STDIN_BYTES_MAX: u64 = 64 << 20;

#[derive(Args)]
#[command(after_help = "Examples:
  id=$(skep sandbox create)                      a computer, which runs until it is removed
  skep sandbox exec $id -- git --version         run a command
  skep sandbox exec $id 'ls -l | wc -l'          run a line of the shell
  skep sandbox shell $id                         a terminal
  skep sandbox cp ./project $id:/home/user/      files in
  skep sandbox cp $id:/home/user/out.txt .       files out
  skep sandbox rm $id

SANDBOX is an id, as `skep sandbox ls` shows it.")]
pub struct Sandbox {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a sandbox and print its id.
    #[command(after_help = "Examples:
  skep sandbox create
  skep sandbox create --timeout 10m --on-timeout pause --auto-resume
  skep sandbox create --env TOKEN=x --metadata project=skep --memory 1024 --cpu 1.5 --no-internet")]
    Create(Create),
    /// All sandboxes of the key.
    #[command(after_help = "Examples:\n  skep sandbox ls\n  skep sandbox ls --json | jq -r '.sandboxes[].id'")]
    Ls,
    /// Show one sandbox.
    #[command(after_help = "Example:\n  skep sandbox show i0123456789abcdefghjk")]
    Show { sandbox: String },
    /// Run a command; its output comes as it is written, its exit code is this program's.
    #[command(after_help = "Examples:
  skep sandbox exec $id -- python3 -c 'print(6 * 7)'
  skep sandbox exec $id 'cat /etc/os-release | head -1'
  skep sandbox exec $id --user root -- apt-get install -y jq
  tar c . | skep sandbox exec $id --stdin 'tar x'")]
    Exec(Exec),
    /// Open a terminal with a shell.
    #[command(after_help = "Examples:\n  skep sandbox shell $id\n  skep sandbox shell $id --user root\n  skep sandbox shell $id top")]
    Shell(Shell),
    /// Copy files and folders in or out: one side is SANDBOX:PATH.
    #[command(after_help = "Examples:
  skep sandbox cp main.py $id:                   into the user's home
  skep sandbox cp ./src $id:/home/user/src       a folder with all that is in it
  skep sandbox cp $id:/home/user/report.pdf .")]
    Cp {
        /// A path, or SANDBOX:PATH.
        from: String,
        /// A path, or SANDBOX:PATH.
        to: String,
        /// With whose rights, within.
        #[arg(long, default_value = "user")]
        user: String,
    },
    /// Ports that something within listens on, and where they answer.
    #[command(after_help = "Example:\n  skep sandbox ports $id")]
    Ports { sandbox: String },
    /// Stand all processes still; memory is kept.
    #[command(after_help = "Example:\n  skep sandbox pause $id")]
    Pause { sandbox: String },
    /// Let a paused sandbox go on, or start a stopped one.
    #[command(after_help = "Examples:\n  skep sandbox resume $id\n  skep sandbox resume $id --timeout 1h")]
    Resume {
        sandbox: String,
        /// How long it runs from now: a number with s, m, h or d.
        #[arg(long, value_name = "TIME")]
        timeout: Option<String>,
    },
    /// Make sandboxes that begin with the files of this one, and print their ids.
    #[command(after_help = "Examples:\n  skep sandbox fork $id\n  skep sandbox fork $id --count 5 --timeout 1h")]
    Fork {
        sandbox: String,
        /// How many: 1 to 100.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// How long each runs: a number with s, m, h or d [default: until it is removed].
        #[arg(long, value_name = "TIME")]
        timeout: Option<String>,
    },
    /// Take the files as they are now, or list and remove what was taken; `skep sandbox create SNAPSHOT` begins with it.
    #[command(after_help = "Examples:
  snapshot=$(skep sandbox snapshot $id --name before-upgrade)
  skep sandbox create $snapshot
  skep sandbox snapshot $id --list")]
    Snapshot {
        sandbox: String,
        /// What to find it by.
        #[arg(long)]
        name: Option<String>,
        /// Show those that were taken.
        #[arg(long, conflicts_with_all = ["name", "rm"])]
        list: bool,
        /// Remove one.
        #[arg(long, value_name = "SNAPSHOT", conflicts_with = "name")]
        rm: Option<String>,
    },
    /// What a sandbox changed of what it began with: A added, M changed, D removed.
    #[command(after_help = "Example:\n  skep sandbox diff $fork")]
    Diff { sandbox: String },
    /// Bring what a fork changed into the sandbox that it is a fork of; what both changed is reported and left.
    #[command(after_help = "Example:\n  skep sandbox commit $fork && skep sandbox rm $fork")]
    Commit { sandbox: String },
    /// Every command that was run: who, what, how it ended, how many files changed.
    #[command(after_help = "Example:\n  skep sandbox history $id --json | jq -r '.commands[] | select(.code != 0) | .argv[-1]'")]
    History { sandbox: String },
    /// What sandboxes begin with: list, make and remove images.
    #[command(subcommand)]
    Image(image::Command),
    /// End all processes; files are kept.
    #[command(after_help = "Example:\n  skep sandbox stop $id")]
    Stop { sandbox: String },
    /// Remove sandboxes with all they have.
    #[command(after_help = "Example:\n  skep sandbox rm $id")]
    Rm {
        #[arg(required = true)]
        sandboxes: Vec<String>,
    },
}

#[derive(Args)]
struct Create {
    /// What it begins with: `base`, an image, or a snapshot.
    #[arg(default_value = "base")]
    template: String,
    /// One user, no capability, every fence demanded.
    #[arg(long)]
    strict: bool,
    /// How long it runs: a number with s, m, h or d [default: until it is removed].
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// What happens then.
    #[arg(long, value_parser = ["remove", "pause", "stop"], default_value = "remove")]
    on_timeout: String,
    /// A request to one of its ports wakes it.
    #[arg(long)]
    auto_resume: bool,
    /// A variable of every command.
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// What to find it by.
    #[arg(long, value_name = "NAME=VALUE")]
    metadata: Vec<String>,
    /// Memory, MiB.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Cores.
    #[arg(long, value_name = "CORES")]
    cpu: Option<f64>,
    /// Processes and threads.
    #[arg(long)]
    pids: Option<u32>,
    /// What it keeps on the disk, MiB.
    #[arg(long, value_name = "MIB")]
    disk: Option<u64>,
    /// Nothing outside is reached but what --allow names.
    #[arg(long)]
    no_internet: bool,
    /// An address, range or name that is reached whatever is denied.
    #[arg(long, value_name = "PLACE")]
    allow: Vec<String>,
    /// An address, range or name that is not reached.
    #[arg(long, value_name = "PLACE")]
    deny: Vec<String>,
    /// Its ports answer only those who show a token.
    #[arg(long)]
    private_ports: bool,
}

#[derive(Args)]
struct Exec {
    sandbox: String,
    /// Program and arguments; a single one is a line for the shell.
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
    /// Who it runs as: `user`, `root` or a number.
    #[arg(long, short, default_value = "user")]
    user: String,
    /// Where it begins [default: the user's home].
    #[arg(long)]
    cwd: Option<String>,
    /// A variable.
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Take a snapshot first.
    #[arg(long)]
    snapshot_before: bool,
    /// Note in the history which files change.
    #[arg(long)]
    changes: bool,
    /// Give it this program's standard input.
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Kill it after this time: a number with s, m, h or d.
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
}

#[derive(Args)]
struct Shell {
    sandbox: String,
    /// A line to run instead of asking for some.
    line: Option<String>,
    /// Who it runs as: `user`, `root` or a number.
    #[arg(long, short, default_value = "user")]
    user: String,
    /// Where it begins [default: the user's home].
    #[arg(long)]
    cwd: Option<String>,
}

impl Sandbox {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let (client, json) = (Client::new(global)?, global.json);
        match &self.command {
            Command::Create(create) => {
                let made: Shown = client.post("/v1/sandboxes", &create.asked()?)?;
                said(&made, made.id.as_str(), json)
            }
            Command::Ls => list(&client, json),
            Command::Show { sandbox } => show(&client.get(&path(sandbox)?)?, json),
            Command::Exec(exec) => exec.run(&client, json),
            Command::Shell(shell) => shell::run(&client, &path(&shell.sandbox)?, shell.line.as_deref(), &shell.user, shell.cwd.as_deref()),
            Command::Cp { from, to, user } => copy::run(&client, from, to, user, json),
            Command::Ports { sandbox } => ports(&client.get(&format!("{}/ports", path(sandbox)?))?, json),
            Command::Pause { sandbox } => step(&client, sandbox, "pause", &ResumeSandbox::default(), json),
            Command::Resume { sandbox, timeout } => {
                let timeout_ms = timeout.as_deref().map(span_ms).transpose()?;
                step(&client, sandbox, "resume", &ResumeSandbox { timeout_ms }, json)
            }
            Command::Fork { sandbox, count, timeout } => {
                past::fork(&client, sandbox, *count, timeout.as_deref().map(span_ms).transpose()?, json)
            }
            Command::Snapshot { sandbox, list: true, .. } => past::snapshots(&client, sandbox, json),
            Command::Snapshot { sandbox, rm: Some(snapshot), .. } => {
                client.delete(&format!("{}/snapshots/{}", path(sandbox)?, encoded(snapshot)))
            }
            Command::Snapshot { sandbox, name, .. } => past::snapshot(&client, sandbox, name.clone(), json),
            Command::Diff { sandbox } => past::diff(&client, sandbox, json),
            Command::Commit { sandbox } => past::commit(&client, sandbox, json),
            Command::History { sandbox } => past::history(&client, sandbox, json),
            Command::Image(command) => image::run(&client, command, json),
            Command::Stop { sandbox } => step(&client, sandbox, "stop", &ResumeSandbox::default(), json),
            Command::Rm { sandboxes } => {
                for sandbox in sandboxes {
                    client.delete(&path(sandbox)?)?;
                    if !json {
                        output::line(&format!("{sandbox} is removed"));
                    }
                }
                Ok(())
            }
        }
    }
}

impl Create {
    fn asked(&self) -> Result<NewSandbox, Failure> {
        let cpu_millis = match self.cpu {
            Some(cores) if !(0.01..=1_024.0).contains(&cores) => {
                return Err(Failure::wrong(format!("{cores} is no number of cores"), "Write 0.5, 1 or 2."));
            }
            cores => cores.map(|cores| (cores * 1_000.0).round() as u32),
        };
        Ok(NewSandbox {
            template: Some(self.template.clone()),
            profile: self.strict.then_some(SandboxProfile::Strict),
            timeout_ms: self.timeout.as_deref().map(span_ms).transpose()?,
            on_timeout: match self.on_timeout.as_str() {
                "pause" => OnTimeout::Pause,
                "stop" => OnTimeout::Stop,
                _ => OnTimeout::Remove,
            },
            auto_resume: self.auto_resume,
            limits: SandboxLimits { memory_mb: self.memory, cpu_millis, pids: self.pids, disk_mb: self.disk, inodes: None },
            metadata: pairs(&self.metadata)?,
            env: pairs(&self.env)?,
            network: SandboxNetwork {
                internet: self.no_internet.then_some(false),
                allow: self.allow.clone(),
                deny: self.deny.clone(),
                private_ports: self.private_ports,
            },
        })
    }
}

impl Exec {
    fn run(&self, client: &Client, json: bool) -> Result<(), Failure> {
        let (argv, line) = match &self.command[..] {
            [line] => (Vec::new(), Some(line.clone())),
            argv => (argv.to_vec(), None),
        };
        let body = SandboxExec {
            argv,
            line,
            env: pairs(&self.env)?,
            cwd: self.cwd.clone(),
            user: Some(self.user.clone()),
            snapshot_before: self.snapshot_before,
            changes: self.changes,
            stdin: if self.stdin { Some(stdin()?) } else { None },
            timeout_ms: self.timeout.as_deref().map(span_ms).transpose()?,
        };
        let answer = client.post_open(&format!("{}/exec", path(&self.sandbox)?), &body)?;
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for line in lines {
            let broken =
                |error: &dyn std::error::Error| Failure::of(ErrorCode::Unavailable, error, "The node stopped, or the sandbox ended.");
            let line = line.map_err(|error| broken(&error))?;
            match serde_json::from_str(&line).map_err(|error| broken(&error))? {
                SandboxOutput::Started { .. } => {}
                SandboxOutput::Stdout(text) => show_piece(&text, &mut stdout, json, &mut io::stdout())?,
                SandboxOutput::Stderr(text) => show_piece(&text, &mut stderr, json, &mut io::stderr())?,
                SandboxOutput::Exited { code, signal } => {
                    if json {
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        output::json(
                            &serde_json::json!({ "code": code, "signal": signal, "stdout": text(&stdout), "stderr": text(&stderr) }),
                        );
                    }
                    return Failure::exit(code);
                }
                SandboxOutput::Lost(why) => {
                    return Err(Failure::new(ErrorCode::Unavailable, format!("how the command ended is not known: {why}"), ""));
                }
            }
        }
        Err(Failure::new(
            ErrorCode::Unavailable,
            "the connection broke off before the command ended",
            "The node stopped, or the sandbox ended.",
        ))
    }
}

fn show_piece(text: &str, kept: &mut Vec<u8>, keep: bool, to: &mut impl Write) -> Result<(), Failure> {
    let bytes = STANDARD.decode(text).map_err(|error| Failure::of(ErrorCode::Internal, &error, ""))?;
    if keep {
        kept.extend(bytes);
    } else {
        // A reader that has gone (`| head`) is no error.
        let _ = to.write_all(&bytes).and_then(|()| to.flush());
    }
    Ok(())
}

fn stdin() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::wrong("standard input is a terminal", "Use `skep sandbox shell`, or pipe something in."));
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::of(ErrorCode::Invalid, &error, ""))?;
    if bytes.len() as u64 > STDIN_BYTES_MAX {
        let most = output::bytes(STDIN_BYTES_MAX);
        return Err(Failure::wrong(format!("standard input has more than {most}"), "Copy it in with `skep sandbox cp` first."));
    }
    Ok(STANDARD.encode(bytes))
}

/// The path of a sandbox. Only ids: a text that is none never becomes a part of a path.
fn path(sandbox: &str) -> Result<String, Failure> {
    match sandbox.parse::<skep_id::SandboxId>() {
        Ok(id) => Ok(format!("/v1/sandboxes/{id}")),
        Err(error) => Err(Failure::wrong(error.to_string(), "`skep sandbox ls` shows what there is.")),
    }
}

fn step(client: &Client, sandbox: &str, what: &str, body: &ResumeSandbox, json: bool) -> Result<(), Failure> {
    let now: Shown = client.post(&format!("{}/{what}", path(sandbox)?), body)?;
    said(&now, &format!("{sandbox} is {}", state(&now)), json)
}

fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let list: SandboxList = client.get("/v1/sandboxes")?;
    if json {
        output::json(&list);
        return Ok(());
    }
    let row = |shown: &Shown| {
        let ends = shown.ends_at.map(output::ago).unwrap_or_default();
        let metadata: Vec<String> = shown.metadata.iter().map(|(name, value)| format!("{}={}", plain(name), plain(value))).collect();
        [shown.id.to_string(), state(shown), plain(&shown.template), output::ago(shown.started_at), ends, metadata.join(" ")]
    };
    let rows: Vec<_> = list.sandboxes.iter().map(row).collect();
    output::table(["SANDBOX", "STATE", "TEMPLATE", "STARTED", "ENDS", "METADATA"], &rows);
    Ok(())
}

fn show(shown: &Shown, json: bool) -> Result<(), Failure> {
    if json {
        output::json(shown);
        return Ok(());
    }
    output::line(shown.id.as_str());
    let fact = |name: &str, value: String| output::line(&format!("  {name:10}{value}"));
    fact("state", state(shown));
    fact("template", plain(&shown.template));
    fact("profile", if shown.profile == SandboxProfile::Strict { "strict" } else { "workstation" }.to_owned());
    fact("made", output::ago(shown.created_at));
    fact("started", output::ago(shown.started_at));
    if let Some(ends) = shown.ends_at {
        fact("ends", output::ago(ends));
    }
    fact("memory", output::bytes(shown.limits.memory_mb.unwrap_or_default() << 20));
    fact("ports", shown.url.clone());
    for (name, value) in &shown.metadata {
        fact("metadata", format!("{}={}", plain(name), plain(value)));
    }
    Ok(())
}

fn ports(ports: &SandboxPorts, json: bool) -> Result<(), Failure> {
    if json {
        output::json(ports);
        return Ok(());
    }
    let rows: Vec<_> = ports.ports.iter().map(|port| [port.port.to_string(), port.url.clone()]).collect();
    output::table(["PORT", "URL"], &rows);
    Ok(())
}

fn state(shown: &Shown) -> String {
    let word = match shown.state {
        SandboxState::Starting => "starting",
        SandboxState::Running => "running",
        SandboxState::Paused => "paused",
        SandboxState::Stopped => "stopped",
        SandboxState::Removing => "removing",
    };
    shown.why.as_ref().map_or_else(|| word.to_owned(), |why| format!("{word} ({})", plain(why)))
}

fn said<T: serde::Serialize>(value: &T, text: &str, json: bool) -> Result<(), Failure> {
    if json {
        output::json(value)
    } else {
        output::line(text)
    }
    Ok(())
}

fn pairs(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::wrong(format!("{text:?} is not NAME=VALUE"), "")),
    };
    texts.iter().map(pair).collect()
}

/// A time as people write it, in milliseconds.
fn span_ms(text: &str) -> Result<u64, Failure> {
    let wrong = || Failure::wrong(format!("{text:?} is not a time"), "Write 30s, 10m, 2h or 7d.");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().ok().filter(|number| *number <= 31_536_000).ok_or_else(wrong)?;
    match unit {
        "s" => Ok(number * 1_000),
        "m" => Ok(number * 60_000),
        "h" => Ok(number * 3_600_000),
        "d" => Ok(number * 86_400_000),
        _ => Err(wrong()),
    }
}

/// Text that others chose, with nothing that moves the cursor of a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

/// A text as one part of a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_becomes_a_path() {
        assert_eq!(path("i0123456789abcdefghjk").unwrap(), "/v1/sandboxes/i0123456789abcdefghjk");
        for not in ["", "../keys", "i0123456789abcdefghjk/exec", "i0123456789abcdefghjk?x"] {
            assert!(path(not).is_err(), "{not}");
        }
    }

    #[test]
    fn times_and_pairs_are_read() {
        assert_eq!(span_ms("90s").unwrap(), 90_000);
        assert_eq!(span_ms("2h").unwrap(), 7_200_000);
        assert!(span_ms("").is_err() && span_ms("h").is_err() && span_ms("1é").is_err() && span_ms("99999999999d").is_err());
        assert_eq!(pairs(&["A=b=c".to_owned()]).unwrap()["A"], "b=c");
        assert!(pairs(&["=x".to_owned()]).is_err());
    }
}
