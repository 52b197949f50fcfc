//! From what people write to what an isolate runs.
//!
//! [`bundle()`] turns a project on disk into a few modules: it is for the owner's own files, run by the CLI, in process.
//! [`strip()`] turns one TypeScript or JSX text into JavaScript; texts that others wrote go through [`Compiler`], which does it in
//! a limited child process, for a parser that recurses can be made to overflow its stack.
//!
//! It is not: a type checker, and it does not run code.

#![warn(missing_docs)]

mod bundler;
mod child;
mod compiler;
mod externals;
mod fence;
mod modules;
mod project;
mod strip;

pub use bundler::{BundleError, bundle};
pub use child::{Handlers, serve};
pub use compiler::{CompileError, Compiler, CompilerConfig};
pub use fence::Fence;
pub use modules::{Kind, Module, Modules};
pub use project::{Project, ProjectBinding, ProjectError};
pub use strip::{Language, StripError, Stripped, strip};
