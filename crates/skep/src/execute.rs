//! `skep execute`.

use std::{fs, io::Read};

use clap::Args;
use skep_api::{ErrorCode, Executed, Outcome};

use crate::{Global, client::Client, deploy::Settings, failure::Failure, output};

#[derive(Args)]
#[command(after_help = "Examples:
  skep execute -e '6 * 7'
  skep execute job.ts --input '{\"n\": 3}' --binding NAME=x --limit cpu_ms=100
  echo 'return await (await fetch(input)).text()' | skep execute - --input '\"https://example.com\"' --network

The code is a module with `export default`, a function of (input, env), a function's body, or an expression.
The result goes to standard output as JSON, the log to standard error.")]
pub struct Execute {
    /// The file with the code; `-` is standard input.
    #[arg(value_name = "FILE", required_unless_present = "code", conflicts_with = "code")]
    file: Option<String>,
    /// The code itself (TypeScript is fine).
    #[arg(short = 'e', value_name = "CODE")]
    code: Option<String>,
    /// `js`, `ts`, `tsx` or `jsx` [default: by the file's name; `ts` otherwise].
    #[arg(long)]
    language: Option<String>,
    /// The function's first argument, JSON.
    #[arg(long, default_value = "null", value_name = "JSON")]
    input: String,
    #[command(flatten)]
    settings: Settings,
    /// Let fetch() leave the isolate.
    #[arg(long)]
    network: bool,
}

impl Execute {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let (code, guess) = self.source()?;
        let input = serde_json::from_str(&self.input).map_err(|error| Failure::wrong(format!("--input is not JSON: {error}"), ""))?;
        let mut bindings = self.settings.bindings()?;
        self.settings.add_props(&mut bindings)?;
        let body = skep_api::Execute {
            code,
            language: self.language.clone().unwrap_or(guess),
            input,
            bindings,
            limits: self.settings.limits()?,
            network: self.network,
            ..skep_api::Execute::default()
        };
        let executed: Executed = Client::new(global)?.post("/v1/execute", &body)?;
        if global.json {
            output::json(&executed);
        } else {
            show(&executed);
        }
        if executed.outcome == Outcome::Ok { Ok(()) } else { Err(Failure::silent(ErrorCode::WorkerFailed)) }
    }

    fn source(&self) -> Result<(String, String), Failure> {
        let unreadable = |name: &str, error: std::io::Error| Failure::wrong(format!("cannot read {name}: {error}"), "");
        match (&self.code, self.file.as_deref()) {
            (Some(code), _) => Ok((code.clone(), "ts".to_owned())),
            (None, Some("-") | None) => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable("standard input", error))?;
                Ok((text, "ts".to_owned()))
            }
            (None, Some(file)) => {
                let text = fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
                let language = match file.rsplit_once('.').map(|(_, ending)| ending) {
                    Some("js" | "mjs") => "js",
                    Some("tsx") => "tsx",
                    Some("jsx") => "jsx",
                    _ => "ts",
                };
                Ok((text, language.to_owned()))
            }
        }
    }
}

fn show(executed: &Executed) {
    for line in &executed.logs {
        eprintln!("{:5} {}", line.level, line.text);
    }
    if executed.logs_lost > 0 {
        eprintln!("… {} more lines were not kept", executed.logs_lost);
    }
    match &executed.error {
        None => output::json(&executed.result),
        Some(error) => {
            eprintln!("error: {}: {}", error.name, error.message);
            if !error.stack.is_empty() {
                eprintln!("{}", error.stack);
            }
        }
    }
}
