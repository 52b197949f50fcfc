//! `skep tail`.

use std::io::{BufRead, BufReader};

use clap::Args;
use skep_api::{ErrorCode, TailEvent, Trigger};
use skep_id::RequestId;

use crate::{Global, client::Client, failure::Failure, output, workers::path};

#[derive(Args)]
#[command(after_help = "Examples:
  skep tail hello
  skep tail hello --json | jq 'select(.type == \"outcome\") | .meter.cpu_us'")]
pub struct Tail {
    /// The worker.
    name: String,
}

impl Tail {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        let answer = client.open(&format!("{}/tail", path(&self.name)?))?;
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line =
                line.map_err(|error| Failure::of(ErrorCode::Unavailable, &error, "The node ended the stream; run the command again."))?;
            let Some(data) = line.strip_prefix("data:") else { continue };
            if global.json {
                output::line(data.trim());
            } else if let Ok(event) = serde_json::from_str(data) {
                show(&event);
            }
        }
        Ok(())
    }
}

/// The end of a request's id, which tells the requests of one screen apart; a dot for what belongs to none.
fn of(request: Option<&RequestId>) -> String {
    request.map_or_else(|| format!("{:6}", "·"), |id| id.as_str()[20..].to_owned())
}

fn show(event: &TailEvent) {
    match event {
        TailEvent::Log { request, line } => output::line(&format!("{} {:5} {}", of(request.as_ref()), line.level, line.text)),
        TailEvent::Exception { request, error, .. } => {
            output::line(&format!("{} uncaught {}: {}", of(request.as_ref()), error.name, error.message));
            if !error.stack.is_empty() {
                output::line(&error.stack);
            }
        }
        TailEvent::Outcome { request, version, trigger: Trigger::Fetch { method, url, status }, outcome, error, meter, .. } => {
            let status = status.map_or_else(|| "–".to_owned(), |status| status.to_string());
            let word = serde_json::to_value(outcome).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
            let took = format!("{:.1} ms wall, {:.1} ms cpu", meter.wall_us as f64 / 1e3, meter.cpu_us as f64 / 1e3);
            output::line(&format!("{} {status} {method} {url}  {word}, {took}, {version}", of(Some(request))));
            if let Some(error) = error {
                output::line(&format!("      {}: {}", error.name, error.message));
                if !error.stack.is_empty() {
                    output::line(&error.stack);
                }
            }
        }
        TailEvent::Lost { count } => output::line(&format!("… {count} events lost: this reader was too slow")),
    }
}
