//! Takes the image that `cargo xtask image` made into this crate, with its hash. It builds nothing itself: making the
//! image needs a C compiler for Wasm and npm packages, which a person asks for by `make`.
//!
//! Without an image the crate still compiles (xtask, which makes the image, shares a workspace with it and is built
//! with it, so that dependencies are compiled once) but loads no image at run time.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn main() {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/image/isolate.wasm");
    println!("cargo::rerun-if-changed={}", image.display());
    let (path, hash) = match std::fs::read(&image) {
        Ok(wasm) => (image, Sha256::digest(&wasm).iter().map(|b| format!("{b:02x}")).collect()),
        Err(_) => {
            let empty = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("no-image");
            if let Err(e) = std::fs::write(&empty, []) {
                println!("cargo::error=cannot write {}: {e}", empty.display());
            }
            (empty, "none: run `make image`, then build again".to_owned())
        }
    };
    println!("cargo::rustc-env=SKEP_IMAGE_HASH={hash}");
    println!("cargo::rustc-env=SKEP_IMAGE_PATH={}", path.display());
}
