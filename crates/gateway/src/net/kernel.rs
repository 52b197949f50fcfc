//! The one thing that the type system cannot be told: that a file keeps its descriptor.

use std::{fs::File, io};

use tokio::io::unix::AsyncFd;

/// A file that the runtime tells about: whether it can be read.
#[expect(unsafe_code, reason = "the runtime cannot know that a type keeps its descriptor open")]
pub(super) fn watched(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` is the same open descriptor from here until it is dropped, together with its registration.
    Ok(unsafe { AsyncFd::register(file) }?)
}
