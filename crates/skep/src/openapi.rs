//! `skep openapi`.

use crate::{failure::Failure, output};

pub fn run() -> Result<(), Failure> {
    output::line(skep_api::openapi_json().trim_end());
    Ok(())
}
