//! `skep version`.

use crate::{Global, failure::Failure, output};

pub fn run(global: &Global) -> Result<(), Failure> {
    let (version, image) = (env!("CARGO_PKG_VERSION"), skep_node::IMAGE_HASH);
    if global.json {
        output::json(&serde_json::json!({ "version": version, "image": image }));
    } else {
        output::line(&format!("skep {version}\nimage {image}"));
    }
    Ok(())
}
