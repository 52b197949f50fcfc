//! A project on disk to a few modules, by rolldown.

use std::{borrow::Cow, path::Path, sync::Arc};

use rolldown::{Bundler, BundlerOptions, OutputFormat, Platform, ResolveOptions, SourceMapType};
use rolldown_common::Output;
use rolldown_plugin::__inner::SharedPluginable;

use crate::{Kind, Module, Modules, externals::Externals, externals::Found};

/// Which of a package's `exports` are meant for us, most fitting first.
const CONDITIONS: [&str; 5] = ["workerd", "worker", "browser", "import", "module"];

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The code or its imports are at fault; one entry for each fault.
    #[error("the code does not bundle:\n{}", .0.join("\n"))]
    Code(Vec<String>),
    /// The machine is.
    #[error("the bundler could not start")]
    Start(#[from] std::io::Error),
}

/// Bundles everything that `entry` reaches. Runtime modules (`node:*`, `cloudflare:*`) stay imports; `.wasm` and `.bin` files
/// become modules beside the code.
///
/// # Errors
/// When the code does not parse or an import is not found.
pub fn bundle(entry: &Path) -> Result<Modules, BundleError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    runtime.block_on(run(entry))
}

async fn run(entry: &Path) -> Result<Modules, BundleError> {
    let entry = std::path::absolute(entry)?;
    let found = Found::default();
    let plugins: Vec<SharedPluginable> = vec![Arc::new(Externals { found: Arc::clone(&found) })];
    let mut bundler = Bundler::with_plugins(options(&entry), plugins).map_err(faults)?;
    let output = bundler.generate().await.map_err(faults)?;
    let mut bundled = Modules::default();
    for asset in output.assets {
        let (name, main, module) = match asset {
            Output::Chunk(chunk) => {
                let source_map = chunk.map.as_ref().map(|map| map.to_json_string());
                let module = Module { kind: Kind::Esm, bytes: chunk.code.clone().into_bytes(), source_map };
                (chunk.filename.to_string(), chunk.is_entry, module)
            }
            // The chunks hold their maps themselves.
            Output::Asset(asset) if asset.filename.ends_with(".js.map") => continue,
            Output::Asset(asset) => {
                let module = Module { kind: Kind::Data, bytes: asset.source.as_bytes().to_vec(), source_map: None };
                (asset.filename.to_string(), false, module)
            }
        };
        if main {
            bundled.main.clone_from(&name);
        }
        bundled.modules.insert(name, module);
    }
    bundled.modules.extend(std::mem::take(&mut *found.lock()));
    Ok(bundled)
}

fn options(entry: &Path) -> BundlerOptions {
    let text = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let module_types = [".txt", ".html", ".sql", ".md"].map(|ending| (Cow::Borrowed(ending).into_owned(), rolldown::ModuleType::Text));
    BundlerOptions {
        input: Some(vec![rolldown::InputItem { name: Some("main".to_owned()), import: entry.to_string_lossy().into_owned() }]),
        cwd: entry.parent().map(Path::to_path_buf),
        platform: Some(Platform::Neutral),
        format: Some(OutputFormat::Esm),
        sourcemap: Some(SourceMapType::Hidden),
        entry_filenames: Some("[name].js".to_owned().into()),
        chunk_filenames: Some("[name]-[hash].js".to_owned().into()),
        module_types: Some(module_types.into_iter().collect()),
        resolve: Some(ResolveOptions {
            condition_names: Some(text(&CONDITIONS)),
            main_fields: Some(text(&["browser", "module", "main"])),
            ..ResolveOptions::default()
        }),
        define: Some([("process.env.NODE_ENV".to_owned(), "\"production\"".to_owned())].into_iter().collect()),
        ..BundlerOptions::default()
    }
}

fn faults(error: impl Into<rolldown_error::BatchedBuildDiagnostic>) -> BundleError {
    BundleError::Code(error.into().into_vec().iter().map(|fault| fault.to_diagnostic().to_string()).collect())
}
