//! `skep deploy`.

use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use skep_api::{Binding, Deployed, ErrorCode, Limits, ModuleSource, TypedModule};
use skep_bundle::{BundleError, Kind, Module, Project, ProjectBinding, bundle};
use skep_id::WorkerName;

use crate::{Global, client::Client, failure::Failure, output};

#[derive(Args)]
#[command(after_help = "Examples:
  skep deploy hello.ts
  skep deploy ./my-app --name app --binding GREETING=hi --limit cpu_ms=200
  skep deploy counter.ts --actors COUNTERS=Counter
  skep deploy . --dry-run

A folder is understood by its wrangler.jsonc, wrangler.toml (durable_objects included) or package.json, or by names such as src/index.ts.")]
pub struct Deploy {
    /// The worker's file, or its folder.
    #[arg(value_name = "FILE|FOLDER")]
    path: PathBuf,
    /// Its name [default: what the folder says, or the file's name].
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// A remark for the list of versions.
    #[arg(long, short)]
    message: Option<String>,
    /// Bundle and check, but do not deploy.
    #[arg(long)]
    dry_run: bool,
}

/// Bindings and limits on the command line, for deploy and execute.
#[derive(Args)]
pub struct Settings {
    /// A text in `env`; may be given more than once.
    #[arg(long = "binding", value_name = "NAME=TEXT")]
    bindings: Vec<String>,
    /// A JSON value in `env`.
    #[arg(long = "json-binding", value_name = "NAME=JSON")]
    json_bindings: Vec<String>,
    /// Another worker in `env`; with #CLASS one of its named entrypoints.
    #[arg(long = "service", value_name = "NAME=WORKER[#CLASS]")]
    services: Vec<String>,
    /// What the worker behind the service NAME finds in `ctx.props`: a JSON object.
    #[arg(long = "service-props", value_name = "NAME=JSON")]
    service_props: Vec<String>,
    /// Actors of an exported class in `env`; with WORKER# of another worker's.
    #[arg(long = "actors", value_name = "NAME=[WORKER#]CLASS")]
    actors: Vec<String>,
    /// Linux computers by name, in `env`.
    #[arg(long = "sandboxes", value_name = "NAME")]
    sandboxes: Vec<String>,
    /// The placeholder of a secret in `env` (see `skep secret`).
    #[arg(long = "secret", value_name = "NAME=SECRET")]
    secrets: Vec<String>,
    /// A limit: cpu_ms, wall_ms, memory_mb, subrequests or output_bytes.
    #[arg(long = "limit", value_name = "NAME=NUMBER")]
    limits: Vec<String>,
}

impl Settings {
    pub fn bindings(&self) -> Result<BTreeMap<String, Binding>, Failure> {
        let mut bindings = BTreeMap::new();
        for given in &self.bindings {
            let (name, value) = pair(given)?;
            bindings.insert(name.to_owned(), Binding::Text { value: value.to_owned() });
        }
        for given in &self.json_bindings {
            let (name, value) = pair(given)?;
            let value = serde_json::from_str(value).map_err(|error| Failure::wrong(format!("{given:?} is not JSON: {error}"), ""))?;
            bindings.insert(name.to_owned(), Binding::Json { value });
        }
        for given in &self.services {
            let (name, target) = pair(given)?;
            let (worker, class) = target.split_once('#').map_or((target, None), |(worker, class)| (worker, Some(class.to_owned())));
            bindings.insert(name.to_owned(), service(worker, class, None)?);
        }
        for given in &self.actors {
            let (name, target) = pair(given)?;
            let (worker, class) = target.split_once('#').map_or((None, target), |(worker, class)| (Some(worker), class));
            bindings.insert(name.to_owned(), actors(class, worker)?);
        }
        for name in &self.sandboxes {
            bindings.insert(name.clone(), Binding::Sandboxes { profile: None, sleep_after_s: None });
        }
        for given in &self.secrets {
            let (name, secret) = pair(given)?;
            bindings.insert(name.to_owned(), Binding::Secret { name: secret.to_owned() });
        }
        Ok(bindings)
    }

    /// Adds `--service-props` to the services among the bindings, those of the folder's own description included.
    pub fn add_props(&self, bindings: &mut BTreeMap<String, Binding>) -> Result<(), Failure> {
        for given in &self.service_props {
            let (name, value) = pair(given)?;
            let value = serde_json::from_str(value).map_err(|error| Failure::wrong(format!("{given:?} is not JSON: {error}"), ""))?;
            match bindings.get_mut(name) {
                Some(Binding::Service { props, .. }) => *props = Some(value),
                _ => return Err(Failure::wrong(format!("there is no service {name} to give props to"), "Give --service NAME=WORKER too.")),
            }
        }
        Ok(())
    }

    pub fn limits(&self) -> Result<Limits, Failure> {
        let mut limits = serde_json::Map::new();
        for given in &self.limits {
            let (name, number) = pair(given)?;
            let number: u64 = number.parse().map_err(|_| Failure::wrong(format!("{given:?} is not a name and a number"), ""))?;
            limits.insert(name.to_owned(), number.into());
        }
        serde_json::from_value(limits.into()).map_err(|error| Failure::wrong(format!("a limit is not known or too large: {error}"), ""))
    }
}

fn pair(given: &str) -> Result<(&str, &str), Failure> {
    let parts = given.split_once('=').filter(|(name, _)| !name.is_empty());
    parts.ok_or_else(|| Failure::wrong(format!("{given:?} is not of the form NAME=VALUE"), ""))
}

fn actors(class_name: &str, worker: Option<&str>) -> Result<Binding, Failure> {
    let worker = worker.map(str::parse).transpose().map_err(|error: skep_id::ParseError| Failure::wrong(error.to_string(), ""))?;
    Ok(Binding::Actors { class_name: class_name.to_owned(), worker })
}

fn service(worker: &str, entrypoint: Option<String>, props: Option<serde_json::Value>) -> Result<Binding, Failure> {
    let worker = worker.parse().map_err(|error: skep_id::ParseError| Failure::wrong(error.to_string(), ""))?;
    Ok(Binding::Service { worker, entrypoint, props })
}

impl Deploy {
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let project = Project::find(&self.path)
            .map_err(|error| Failure::of(ErrorCode::Invalid, &error, "Name the worker's file, or a folder that says which one it is."))?;
        for remark in &project.remarks {
            eprintln!("note: {remark}");
        }
        let name = self.worker_name(&project)?;
        let body = self.body(&project)?;
        if self.dry_run {
            show(&body, global.json);
            return Ok(());
        }
        let client = Client::new(global)?;
        let deployed: Deployed = client.put(&format!("/v1/workers/{name}"), &body)?;
        if global.json {
            output::json(&deployed);
        } else {
            let what = if deployed.unchanged { "is unchanged, still" } else { "is now" };
            output::line(&format!("{} {what} {}", deployed.worker, deployed.version));
            for url in &deployed.urls {
                output::line(&format!("  {url}"));
            }
        }
        Ok(())
    }

    fn worker_name(&self, project: &Project) -> Result<WorkerName, Failure> {
        if let Some(name) = &self.name {
            return name.parse().map_err(|error: skep_id::ParseError| Failure::wrong(error.to_string(), ""));
        }
        let folder = std::path::absolute(&self.path).unwrap_or_default();
        let stem = folder.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let guess = project.name.clone().unwrap_or(stem);
        let plain = guess.rsplit('/').next().unwrap_or_default().to_ascii_lowercase().replace(['_', '.', ' '], "-");
        plain.parse().map_err(|_| Failure::wrong(format!("{guess:?} does not make a worker name"), "Give --name with a-z, 0-9 and -."))
    }

    fn body(&self, project: &Project) -> Result<skep_api::Deploy, Failure> {
        let bundled = bundle(&project.entry).map_err(|error| match error {
            BundleError::Code(_) => Failure::of(ErrorCode::BadCode, &error, ""),
            BundleError::Start(_) => Failure::of(ErrorCode::Internal, &error, ""),
        })?;
        let mut bindings = BTreeMap::new();
        for (name, binding) in &project.bindings {
            bindings.insert(name.clone(), project_binding(binding)?);
        }
        bindings.extend(self.settings.bindings()?);
        self.settings.add_props(&mut bindings)?;
        let (mut modules, mut source_maps) = (BTreeMap::new(), BTreeMap::new());
        for (name, mut module) in bundled.modules {
            if let Some(map) = module.source_map.take() {
                source_maps.insert(name.clone(), map);
            }
            modules.insert(name, ModuleSource::Typed(typed(module)?));
        }
        Ok(skep_api::Deploy {
            main: bundled.main,
            modules,
            source_maps,
            bindings,
            limits: self.settings.limits()?,
            compatibility_date: project.compatibility_date.clone(),
            compatibility_flags: project.compatibility_flags.clone(),
            message: self.message.clone(),
        })
    }
}

fn project_binding(binding: &ProjectBinding) -> Result<Binding, Failure> {
    Ok(match binding {
        ProjectBinding::Value(serde_json::Value::String(text)) => Binding::Text { value: text.clone() },
        ProjectBinding::Value(value) => Binding::Json { value: value.clone() },
        ProjectBinding::Service { worker, entrypoint, props } => service(worker, entrypoint.clone(), props.clone())?,
        ProjectBinding::Actors { class_name, worker } => actors(class_name, worker.as_deref())?,
        ProjectBinding::Loader => Binding::Loader {},
    })
}

fn typed(module: Module) -> Result<TypedModule, Failure> {
    let text = |bytes| String::from_utf8(bytes).map_err(|_| Failure::new(ErrorCode::BadCode, "a module is not UTF-8", ""));
    Ok(match module.kind {
        Kind::Esm => TypedModule::Js(text(module.bytes)?),
        Kind::Cjs => TypedModule::Cjs(text(module.bytes)?),
        Kind::Text => TypedModule::Text(text(module.bytes)?),
        Kind::Data => TypedModule::Data(STANDARD.encode(module.bytes)),
        Kind::Wasm => TypedModule::Wasm(STANDARD.encode(module.bytes)),
        Kind::Json => {
            let value = serde_json::from_slice(&module.bytes);
            TypedModule::Json(value.map_err(|error| Failure::of(ErrorCode::BadCode, &error, ""))?)
        }
    })
}

fn show(body: &skep_api::Deploy, json: bool) {
    if json {
        return output::json(body);
    }
    for (name, module) in &body.modules {
        let size = match module {
            ModuleSource::Plain(text) | ModuleSource::Typed(TypedModule::Js(text)) => text.len(),
            ModuleSource::Typed(other) => serde_json::to_string(other).map_or(0, |text| text.len()),
        };
        let mark = if *name == body.main { " (main)" } else { "" };
        output::line(&format!("{name}{mark}  {} KiB", size.div_ceil(1024)));
    }
}
