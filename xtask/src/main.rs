//! Automation that outgrew a Makefile line. Driven by the Makefile and CI; never by a running node.
//!
//! `cargo xtask image` makes `target/image/isolate.wasm`, which `crates/isolate` embeds.

mod image;
mod quickjs;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("image") => image::build(),
        _ => bail!("usage: cargo xtask image"),
    }
}
