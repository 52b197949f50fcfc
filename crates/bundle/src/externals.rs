//! What a bundle leaves outside: the runtime's own modules, and files that become modules of their own.

use std::{borrow::Cow, path::Path, sync::Arc};

use parking_lot::Mutex;
use rolldown_common::{ImportKind, ResolvedExternal};
use rolldown_plugin::{
    HookLoadArgs, HookLoadOutput, HookLoadReturn, HookResolveIdArgs, HookResolveIdOutput, HookResolveIdReturn, HookUsage, Plugin,
    PluginContext, PluginHookMeta, PluginOrder, SharedLoadPluginContext,
};

use crate::{Kind, Module};

/// Marks a module that stands in for `require("node:…")`, which an ES module cannot do at run time.
const REQUIRE: &str = "\0skep-require:";

/// Node's modules that code imports by their bare names.
const NODE: &[&str] = &[
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// Files found on the way, by module name.
pub type Found = Arc<Mutex<Vec<(String, Module)>>>;

/// The plugin that decides.
#[derive(Debug)]
pub struct Externals {
    pub found: Found,
}

impl Plugin for Externals {
    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed("skep:externals")
    }

    fn register_hook_usage(&self) -> HookUsage {
        HookUsage::ResolveId | HookUsage::Load
    }

    fn resolve_id_meta(&self) -> Option<PluginHookMeta> {
        Some(PluginHookMeta { order: Some(PluginOrder::Pre) })
    }

    async fn resolve_id(&self, ctx: &PluginContext, args: &HookResolveIdArgs<'_>) -> HookResolveIdReturn {
        if let Some(name) = runtime_module(args.specifier) {
            if args.kind == ImportKind::Require {
                return Ok(Some(HookResolveIdOutput::from_id(format!("{REQUIRE}{name}"))));
            }
            return Ok(Some(external(name)));
        }
        let path = args.specifier.split('?').next().unwrap_or_default();
        let kind = match path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("wasm") => Kind::Wasm,
            Some("bin") => Kind::Data,
            _ => return Ok(None),
        };
        let Ok(resolved) = ctx.resolve(path, args.importer, None).await? else { return Ok(None) };
        let bytes = std::fs::read(resolved.id.as_str())?;
        let name = file_name(Path::new(resolved.id.as_str()), &bytes);
        let mut found = self.found.lock();
        if found.iter().all(|(known, _)| *known != name) {
            found.push((name.clone(), Module { kind, bytes, source_map: None }));
        }
        Ok(Some(external(format!("./{name}"))))
    }

    async fn load(&self, _ctx: SharedLoadPluginContext, args: &HookLoadArgs<'_>) -> HookLoadReturn {
        let Some(name) = args.id.strip_prefix(REQUIRE) else { return Ok(None) };
        let code = format!("import required from {name:?};\nexport {{ required as 'module.exports' }};\n");
        Ok(Some(HookLoadOutput { code: code.into(), ..Default::default() }))
    }
}

fn external(id: impl Into<String>) -> HookResolveIdOutput {
    HookResolveIdOutput {
        external: Some(ResolvedExternal::Absolute),
        normalize_external_id: Some(false),
        ..HookResolveIdOutput::from_id(id.into())
    }
}

/// The full name of a module that the runtime brings, if the specifier means one.
fn runtime_module(specifier: &str) -> Option<String> {
    if specifier.starts_with("node:") || specifier.starts_with("cloudflare:") {
        return Some(specifier.to_owned());
    }
    let root = specifier.split('/').next().unwrap_or_default();
    NODE.contains(&root).then(|| format!("node:{specifier}"))
}

/// `add-1f3a….wasm`: readable, and two files of one name do not meet.
fn file_name(path: &Path, bytes: &[u8]) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{stem}-{hash:016x}.{ending}")
}
