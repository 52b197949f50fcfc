//! `skep compile-child`: this program as the child that parses and compiles what nobody vouches for.

use skep_api::ErrorCode;
use skep_bundle::{Handlers, serve};

use crate::failure::Failure;

struct Compilers;

impl Handlers for Compilers {
    fn wasm(&self, module: &[u8]) -> Result<Vec<u8>, String> {
        skep_node::precompile(module)
    }
}

pub fn run() -> Result<(), Failure> {
    serve(Box::new(Compilers)).map_err(|error| Failure::of(ErrorCode::Internal, &error, ""))
}
