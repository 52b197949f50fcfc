//! Sandboxes on the real kernel, as root. Where the tests are not root's they say so and pass: there is nothing that they could try.

mod attacks;
mod boxed;
mod recovery;
mod running;
