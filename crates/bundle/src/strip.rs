//! TypeScript and JSX to JavaScript, one text at a time: types are dropped, nothing is resolved, nothing newer than the
//! engine is lowered.
//!
//! Recursion follows the input. Call it on a stack of your own choice and only with trusted texts; others go through
//! [`crate::Compiler`].

use std::path::Path;

use oxc::{
    allocator::Allocator,
    codegen::{Codegen, CodegenOptions},
    diagnostics::OxcDiagnostic,
    parser::Parser,
    semantic::SemanticBuilder,
    span::SourceType,
    transformer::{TransformOptions, Transformer},
};

/// What a text is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// TypeScript.
    Ts,
    /// TypeScript with JSX.
    Tsx,
    /// JavaScript with JSX.
    Jsx,
}

impl Language {
    /// The language told by the ending of a module's name; `None` for those that need no stripping.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "ts" | "mts" => Some(Self::Ts),
            "tsx" => Some(Self::Tsx),
            "jsx" => Some(Self::Jsx),
            _ => None,
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ts => 0,
            Self::Tsx => 1,
            Self::Jsx => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Ts, Self::Tsx, Self::Jsx].into_iter().find(|language| language.code() == code)
    }

    fn source_type(self) -> SourceType {
        match self {
            Self::Ts => SourceType::ts(),
            Self::Tsx => SourceType::tsx(),
            Self::Jsx => SourceType::jsx(),
        }
        .with_module(true)
    }
}

/// JavaScript, and the way back from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stripped {
    /// The JavaScript.
    pub code: String,
    /// Its source map, JSON.
    pub source_map: String,
}

/// The text is not what its name promises. The message holds the place, as people expect it from a compiler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StripError(pub String);

/// Drops the types, turns JSX into calls.
///
/// # Errors
/// When the text does not parse.
pub fn strip(name: &str, source: &str, language: Language) -> Result<Stripped, StripError> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, language.source_type()).parse();
    first_error(name, source, parsed.diagnostics.into_vec())?;
    let mut program = parsed.program;
    let analysed = SemanticBuilder::new().with_excess_capacity(2.0).with_enum_eval(true).build(&program);
    first_error(name, source, analysed.diagnostics.into_vec())?;
    let scoping = analysed.semantic.into_scoping();
    let mut options = TransformOptions::default();
    options.typescript.only_remove_type_imports = false;
    let path = Path::new(name);
    let transformed = Transformer::new(&allocator, path, &options).build_with_scoping(scoping, &mut program);
    first_error(name, source, transformed.diagnostics.into_vec())?;
    let options = CodegenOptions { source_map_path: Some(path.to_path_buf()), ..CodegenOptions::default() };
    let printed = Codegen::new().with_options(options).with_source_text(source).build(&program);
    let source_map = printed.map.map(|map| map.to_json_string()).unwrap_or_default();
    Ok(Stripped { code: printed.code, source_map })
}

fn first_error(name: &str, source: &str, diagnostics: Vec<OxcDiagnostic>) -> Result<(), StripError> {
    let Some(error) = diagnostics.into_iter().find(|diagnostic| diagnostic.severity == oxc::diagnostics::Severity::Error) else {
        return Ok(());
    };
    let place = error.labels.first().map_or_else(String::new, |label| position(source, label.offset() as usize));
    Err(StripError(format!("{name}{place}: {}", error.message)))
}

/// `:line:column`, both from 1.
fn position(source: &str, offset: usize) -> String {
    let before = source.get(..offset).unwrap_or_default();
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!(":{line}:{column}")
}
