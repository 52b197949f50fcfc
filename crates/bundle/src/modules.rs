//! Code ready to be run: modules by name.

use std::collections::BTreeMap;

/// What a module is to those who import it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ES module in plain JavaScript.
    Esm,
    /// A CommonJS module.
    Cjs,
    /// Default export: a string.
    Text,
    /// Default export: an `ArrayBuffer`.
    Data,
    /// Default export: the parsed value.
    Json,
    /// Default export: a `WebAssembly.Module`.
    Wasm,
}

impl Kind {
    /// The word of the Worker Loader for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Esm => "js",
            Self::Cjs => "cjs",
            Self::Text => "text",
            Self::Data => "data",
            Self::Json => "json",
            Self::Wasm => "wasm",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Esm, Self::Cjs, Self::Text, Self::Data, Self::Json, Self::Wasm].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its kind.
    pub kind: Kind,
    /// Its text or bytes.
    pub bytes: Vec<u8>,
    /// The source map, JSON, of a text that was made from another.
    pub source_map: Option<String>,
}

/// All modules of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Modules {
    /// The module whose exports are the worker.
    pub main: String,
    /// By name; imports are resolved among these.
    pub modules: BTreeMap<String, Module>,
}

impl Modules {
    /// Bytes of all modules, source maps not counted.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.modules.values().map(|module| module.bytes.len() as u64).sum()
    }
}
