//! Figures that only the inside of a process can show: `skep-bench isolates --json [--quick]` prints one JSON object per
//! metric. Driven by `bench/run.mjs`, which sets the peer's figures beside them; not a load generator.

mod isolates;
mod memory;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|a| a == "--quick");
    let json = args.iter().any(|a| a == "--json");
    let only = args.iter().position(|a| a == "--only").and_then(|i| args.get(i + 1)).cloned();
    match args.first().map(String::as_str) {
        Some("isolates") => {
            // One thread: the figures are per core.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(isolates::run(quick, only.as_deref(), &|metric, value, unit| match json {
                true => println!("{{\"metric\":\"{metric}\",\"value\":{value},\"unit\":\"{unit}\"}}"),
                false => println!("{metric:32} {value:>14.2} {unit}"),
            }))
        }
        _ => bail!("usage: skep-bench isolates [--json] [--quick] [--only start|memory|churn|snapshot]"),
    }
}
