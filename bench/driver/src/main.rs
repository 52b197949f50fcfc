//! Figures that only the inside of a process can show: `skep-bench isolates --json [--quick]`, `skep-bench actors …` and `skep-bench network …` print one
//! JSON object per metric. Driven by `bench/run.mjs`, which sets the peer's figures beside them; not a load generator.

mod actors;
mod isolates;
mod memory;
mod neighbour;
#[cfg(target_os = "linux")]
mod network;

use anyhow::{Result, bail};

fn main() -> Result<std::process::ExitCode> {
    #[cfg(target_os = "linux")]
    if let Some(code) = skep_sandbox::child().or_else(network::child) {
        return Ok(code);
    }
    measure().map(|()| std::process::ExitCode::SUCCESS)
}

fn measure() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|a| a == "--quick");
    let json = args.iter().any(|a| a == "--json");
    let only = args.iter().position(|a| a == "--only").and_then(|i| args.get(i + 1)).cloned();
    let image = args.iter().position(|a| a == "--image").and_then(|i| args.get(i + 1)).map(std::path::PathBuf::from);
    let print = |metric: &str, value: f64, unit: &str| match json {
        true => println!("{{\"metric\":\"{metric}\",\"value\":{value},\"unit\":\"{unit}\"}}"),
        false => println!("{metric:32} {value:>14.2} {unit}"),
    };
    // One thread: the figures are per core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.first().map(String::as_str) {
        Some("actors") => runtime.block_on(actors::run(quick, only.as_deref(), &print)),
        Some("isolates") => {
            if only.as_deref() != Some("neighbour") {
                runtime.block_on(isolates::run(quick, only.as_deref(), image.as_deref(), &print))?;
            }
            if only.as_deref().is_none_or(|o| o == "neighbour") {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                runtime.block_on(neighbour::run(image.as_deref(), quick, &print))?;
                runtime.shutdown_background();
            }
            Ok(())
        }
        #[cfg(target_os = "linux")]
        Some("network") => network::run(quick, only.as_deref(), &print),
        _ => bail!(
            "usage: skep-bench isolates [--json] [--quick] [--only start|warm|memory|churn|snapshot|neighbour] [--image FILE]\n       \
             skep-bench actors [--json] [--quick] [--only rusqlite|log]\n       \
             skep-bench network [--json] [--quick] [--only sandbox|veth]"
        ),
    }
}
