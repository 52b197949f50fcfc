//! How the interpreter reaches the code of the next operation.

use super::Patch;

pub(super) const DISPATCH: &[Patch] = &[Patch {
    why: "wasm has no computed goto: LLVM lowers it to a loop around a switch with a longer path to each case than a plain switch has",
    find: "#if defined(EMSCRIPTEN) || defined(_MSC_VER)\n#define DIRECT_DISPATCH  0",
    replace: "#if defined(EMSCRIPTEN) || defined(_MSC_VER) || defined(__wasm__)\n#define DIRECT_DISPATCH  0",
    count: 1,
}];
