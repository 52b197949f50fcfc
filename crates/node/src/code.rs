//! A worker's code as the node keeps and runs it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skep_bundle::{CompileError, Compiler, Kind, Language, Module, Modules};
use skep_id::WorkerName;
use skep_isolate::{Limits, LimitsAsked};

use crate::{CodeConfig, NamespaceName, actors::is_class};

/// Most bytes of the props of one service binding, as JSON: they go along with every call.
const PROPS_BYTES_MAX: u64 = 16 << 10;

/// Everything that makes a version behave as it does. Two versions with equal code are the same version.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    /// The modules, plain JavaScript by now.
    pub modules: Modules,
    /// What `env` holds.
    pub bindings: BTreeMap<String, Binding>,
    /// Limits that it asks for.
    pub limits: LimitsAsked,
    /// The date whose behaviour is expected.
    pub compatibility_date: Option<String>,
    /// Flags expected.
    pub compatibility_flags: Vec<String>,
    /// Whether the global `fetch()` may leave the isolate.
    pub network: bool,
}

/// One entry of `env`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Binding {
    /// A string.
    Text {
        /// The string.
        value: String,
    },
    /// A JSON value.
    Json {
        /// The value.
        value: serde_json::Value,
    },
    /// A placeholder for a secret of the node.
    Secret {
        /// The secret's name.
        name: String,
    },
    /// Bytes.
    Data {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Another worker.
    Service {
        /// Its name.
        worker: WorkerName,
        /// A named entrypoint.
        entrypoint: Option<String>,
        /// What the callee finds in `ctx.props`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        props: Option<serde_json::Value>,
    },
    /// Actors of one class.
    Actors {
        /// The exported class.
        class_name: String,
        /// The worker that exports it; the one with the binding when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worker: Option<WorkerName>,
    },
    /// The Worker Loader.
    Loader,
    /// Linux computers by name.
    Sandboxes {
        /// Whether they are `strict` or `workstation`; the node's configuration decides when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
        /// Seconds without use after which one stands still; 600 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sleep_after_s: Option<u32>,
    },
}

/// Code as someone hands it in.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The module to start with.
    pub main: String,
    /// Modules, some perhaps still TypeScript.
    pub modules: BTreeMap<String, DraftModule>,
    /// What `env` shall hold.
    pub bindings: BTreeMap<String, Binding>,
    /// Limits asked for.
    pub limits: LimitsAsked,
    /// The date whose behaviour is expected.
    pub compatibility_date: Option<String>,
    /// Flags expected.
    pub compatibility_flags: Vec<String>,
    /// Whether the global `fetch()` shall leave the isolate.
    pub network: bool,
}

/// A module as handed in.
#[derive(Debug, Clone)]
pub enum DraftModule {
    /// Ready.
    Ready(Module),
    /// To be stripped of types.
    Typed(Language, String),
}

/// Why a draft is refused before anything of it ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// The main module is missing.
    #[error("the main module {0:?} is not among the modules")]
    NoMain(String),
    /// The main module is no code.
    #[error("the main module {0:?} is not JavaScript")]
    MainIsNoCode(String),
    /// A name that no import could have, or that would confuse one.
    #[error("{0:?} is not a module name: it must be relative, without \"..\", and at most 512 characters")]
    BadName(String),
    /// A limit of zero would let nothing run.
    #[error("the limit {0} must be at least 1")]
    ZeroLimit(&'static str),
    /// Too much of something.
    #[error("{what} of {got} is over this node's limit of {most}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much.
        got: u64,
        /// How much is taken.
        most: u64,
    },
    /// Props that no entrypoint could have.
    #[error("the props of the binding {0:?} must be a JSON object")]
    BadProps(String),
    /// A class that no worker could export.
    #[error("{class:?} in the binding {binding:?} is not the name of an exported class")]
    BadClass {
        /// The binding.
        binding: String,
        /// The name.
        class: String,
    },
    /// A snippet's class.
    #[error("the binding {0:?} names no worker, and a snippet has no classes of its own")]
    NoOwnClass(String),
    /// A snippet's sandboxes.
    #[error("the binding {0:?} is to have sandboxes, and a snippet has no name that they could belong to; deploy it as a worker")]
    NoOwnSandboxes(String),
    /// A secret that does not exist.
    #[error("there is no secret {0:?} on this node")]
    NoSecret(String),
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

impl Code {
    /// A hash over all of it but limits: the same code and bindings, the same hash on every start.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(self.modules.main.as_bytes());
        for (name, module) in &self.modules.modules {
            add(name.as_bytes());
            add(module.kind.as_str().as_bytes());
            add(&module.bytes);
        }
        add(&serde_json::to_vec(&self.bindings).unwrap_or_default());
        hash.finalize().into()
    }

    /// Bindings that give actors to classes of the worker's own, and those classes.
    pub(crate) fn own_classes<'a>(&'a self, own: &'a WorkerName) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.bindings.iter().filter_map(move |(key, binding)| match binding {
            Binding::Actors { class_name, worker } if worker.as_ref().is_none_or(|worker| worker == own) => {
                Some((key.as_str(), class_name.as_str()))
            }
            _ => None,
        })
    }

    /// The namespaces that its bindings name, with the worker that exports each class: itself where none is said.
    pub(crate) fn namespaces(&self, own: &WorkerName) -> Vec<NamespaceName> {
        let named = self.bindings.values().filter_map(|binding| match binding {
            Binding::Actors { class_name, worker } => {
                Some(NamespaceName { worker: worker.as_ref().unwrap_or(own).clone(), class: class_name.clone() })
            }
            _ => None,
        });
        named.collect()
    }
}

impl Draft {
    /// Checks the draft and strips types where there are some.
    ///
    /// # Errors
    /// When the draft breaks a rule or does not parse.
    pub async fn compile(self, compiler: &Compiler, most: &CodeConfig, limits: &Limits) -> Result<Code, CodeError> {
        self.check(most, limits)?;
        let mut modules = BTreeMap::new();
        for (name, module) in self.modules {
            let module = match module {
                DraftModule::Ready(module) => module,
                DraftModule::Typed(language, source) => {
                    let stripped = compiler.strip(&name, &source, language).await?;
                    Module { kind: Kind::Esm, bytes: stripped.code.into_bytes(), source_map: Some(stripped.source_map) }
                }
            };
            modules.insert(name, module);
        }
        Ok(Code {
            modules: Modules { main: self.main, modules },
            bindings: self.bindings,
            limits: self.limits,
            compatibility_date: self.compatibility_date,
            compatibility_flags: self.compatibility_flags,
            network: self.network,
        })
    }

    /// Checks that the secrets exist that it wants placeholders of: a misspelt name would be found out by a stranger's server.
    pub(crate) fn check_secrets(&self, secrets: &crate::Secrets) -> Result<(), CodeError> {
        for binding in self.bindings.values() {
            if let Binding::Secret { name } = binding
                && !secrets.has(name)
            {
                return Err(CodeError::NoSecret(name.chars().take(80).collect()));
            }
        }
        Ok(())
    }

    fn check(&self, most: &CodeConfig, limits: &Limits) -> Result<(), CodeError> {
        check_limits(&self.limits)?;
        let main = self.modules.get(&self.main).ok_or_else(|| CodeError::NoMain(self.main.clone()))?;
        if matches!(main, DraftModule::Ready(module) if !matches!(module.kind, Kind::Esm | Kind::Cjs)) {
            return Err(CodeError::MainIsNoCode(self.main.clone()));
        }
        if let Some(name) = self.modules.keys().find(|name| !is_module_name(name)) {
            return Err(CodeError::BadName(name.chars().take(80).collect()));
        }
        let bound = |what, got: usize, most: u64| {
            if got as u64 > most { Err(CodeError::TooLarge { what, got: got as u64, most }) } else { Ok(()) }
        };
        bound("a number of modules", self.modules.len(), most.modules_max as u64)?;
        bound("a code size", self.modules.values().map(DraftModule::size).sum(), limits.code_bytes)?;
        for (name, binding) in &self.bindings {
            if let Binding::Actors { class_name, .. } = binding
                && !is_class(class_name)
            {
                let cut = |text: &String| text.chars().take(80).collect();
                return Err(CodeError::BadClass { binding: cut(name), class: cut(class_name) });
            }
            let Binding::Service { props: Some(props), .. } = binding else { continue };
            if !props.is_object() {
                return Err(CodeError::BadProps(name.chars().take(80).collect()));
            }
            bound("a size of props", props.to_string().len(), PROPS_BYTES_MAX)?;
        }
        let bindings = serde_json::to_vec(&self.bindings).map_or(usize::MAX, |bytes| bytes.len());
        bound("a size of bindings", bindings, most.bindings_bytes_max as u64)
    }
}

impl DraftModule {
    fn size(&self) -> usize {
        match self {
            Self::Ready(module) => module.bytes.len() + module.source_map.as_ref().map_or(0, String::len),
            Self::Typed(_, source) => source.len(),
        }
    }
}

/// Zero is refused rather than taken as "none": no request could live under it. No subrequests at all is a sensible wish.
fn check_limits(limits: &LimitsAsked) -> Result<(), CodeError> {
    let zero = [("cpu_ms", limits.cpu_ms), ("wall_ms", limits.wall_ms), ("memory_mb", limits.memory_mb)]
        .into_iter()
        .find(|(_, asked)| *asked == Some(0));
    zero.map_or(Ok(()), |(name, _)| Err(CodeError::ZeroLimit(name)))
}

fn is_module_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 512
        && !name.starts_with('/')
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| part != "..")
}
