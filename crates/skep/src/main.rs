//! skep: an agent cloud that you run yourself. This is the binary: it reads the command line, loads the configuration, wires, runs
//! and drains. One file per subcommand; no logic of its own.

#![warn(missing_docs)]

mod actors;
mod client;
mod compile_child;
mod deploy;
mod doctor;
mod execute;
mod failure;
mod key;
mod openapi;
mod output;
mod sandbox;
mod secret;
mod tail;
mod up;
mod version;
mod workers;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "skep", version, about = "An agent cloud that you run yourself", max_term_width = 110)]
#[command(after_help = "Examples:
  skep up                                start a node on http://127.0.0.1:7117
  skep deploy hello.ts                   put a worker on it
  curl http://hello.localhost:7117/      call the worker
  skep tail hello                        watch it
  skep execute -e '6 * 7'                run a snippet

Exit codes: 0 good · 1 fault of skep · 2 asked wrongly · 3 denied · 4 not found · 5 the code is at fault · 6 not reachable or busy")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Args)]
struct Global {
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    /// The node to speak to [default: the one that runs on the data folder].
    #[arg(long, global = true, env = "SKEP_URL", value_name = "URL")]
    url: Option<String>,
    /// The API key [default: the admin key in the data folder].
    #[arg(long, global = true, env = "SKEP_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// The data folder [default: .skep].
    #[arg(long, global = true, env = "SKEP_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
}

impl Global {
    fn data(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| PathBuf::from(".skep"))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Start a node and serve until told to stop.
    Up(up::Up),
    /// Bundle a file or folder and deploy it as a worker.
    Deploy(deploy::Deploy),
    /// List workers and versions, roll back, delete.
    Workers(workers::Workers),
    /// List actors, look into them, checkpoint, fork, rewind, export, delete.
    Actors(actors::Actors),
    /// Linux computers of agents: make, run commands in, copy files, pause, resume, remove.
    Sandbox(sandbox::Sandbox),
    /// Watch a worker's logs, exceptions and outcomes.
    Tail(tail::Tail),
    /// Run a snippet once and print its result.
    Execute(execute::Execute),
    /// Make, list and revoke API keys.
    Key(key::Key),
    /// Set, list and delete secrets that workers use without seeing them.
    Secret(secret::Secret),
    /// Look for what would keep a node from running well.
    Doctor(doctor::Doctor),
    /// Print the OpenAPI document.
    Openapi,
    /// Print the version and the hash of the isolate image.
    Version,
    /// Parse and compile what nobody vouches for; started by the node.
    #[command(hide = true)]
    CompileChild,
}

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(code) = skep_sandbox::child() {
        return code;
    }
    let cli = Cli::parse();
    let global = &cli.global;
    let done = match cli.command {
        Command::Up(command) => command.run(global),
        Command::Deploy(command) => command.run(global),
        Command::Workers(command) => command.run(global),
        Command::Actors(command) => command.run(global),
        Command::Sandbox(command) => command.run(global),
        Command::Tail(command) => command.run(global),
        Command::Execute(command) => command.run(global),
        Command::Key(command) => command.run(global),
        Command::Secret(command) => command.run(global),
        Command::Doctor(command) => command.run(global),
        Command::Openapi => openapi::run(),
        Command::Version => version::run(global),
        Command::CompileChild => compile_child::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(global.json),
    }
}
