//! What a folder says about the worker in it: `wrangler.toml`, `wrangler.jsonc`, `package.json`, or the usual file names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// A worker's source on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// The file to start from.
    pub entry: PathBuf,
    /// The name that the folder gives it.
    pub name: Option<String>,
    /// The date whose behaviour it expects.
    pub compatibility_date: Option<String>,
    /// Flags it expects.
    pub compatibility_flags: Vec<String>,
    /// Bindings it declares.
    pub bindings: BTreeMap<String, ProjectBinding>,
    /// What its description asks for and does not get, for people.
    pub remarks: Vec<String>,
}

/// A binding declared by the project.
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectBinding {
    /// A string or a JSON value, from `vars`.
    Value(serde_json::Value),
    /// Another worker.
    Service {
        /// Its name.
        worker: String,
        /// A named entrypoint.
        entrypoint: Option<String>,
        /// What it finds in `ctx.props`.
        props: Option<serde_json::Value>,
    },
    /// Actors of one class.
    Actors {
        /// The exported class.
        class_name: String,
        /// The worker that exports it; this one when absent.
        worker: Option<String>,
    },
    /// The Worker Loader.
    Loader,
}

/// Why no entry was found.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is nothing at the path, or it cannot be read.
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// The project's own description is malformed.
    #[error("{} is not well formed: {}", .0.display(), .1)]
    Malformed(PathBuf, String),
    /// The description names an entry that does not exist.
    #[error("{} says that the worker starts in {}, which does not exist", .0.display(), .1.display())]
    NoSuchEntry(PathBuf, PathBuf),
    /// Nothing in the folder looks like a worker.
    #[error("found no worker in {}: no wrangler.toml or wrangler.jsonc, no package.json with \"main\", no src/index.ts, index.js or the like", .0.display())]
    NoEntry(PathBuf),
}

/// The part of a `wrangler` file that means something here; the rest is not ours to judge.
#[derive(Debug, Default, Deserialize)]
struct Wrangler {
    name: Option<String>,
    main: Option<String>,
    compatibility_date: Option<String>,
    #[serde(default)]
    compatibility_flags: Vec<String>,
    #[serde(default)]
    vars: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    worker_loaders: Vec<Loader>,
    #[serde(default)]
    durable_objects: DurableObjects,
    #[serde(default)]
    migrations: Vec<Migration>,
}

#[derive(Debug, Deserialize)]
struct Service {
    binding: String,
    service: String,
    entrypoint: Option<String>,
    props: Option<serde_json::Value>,
}

/// Actors, under the name that they have there.
#[derive(Debug, Default, Deserialize)]
struct DurableObjects {
    #[serde(default)]
    bindings: Vec<DurableObject>,
}

#[derive(Debug, Deserialize)]
struct DurableObject {
    name: String,
    class_name: String,
    script_name: Option<String>,
}

/// A step in the history of a worker's classes. New classes need none here: actors of a class begin with its first binding.
#[derive(Debug, Deserialize)]
struct Migration {
    #[serde(default)]
    tag: String,
    #[serde(default)]
    renamed_classes: Vec<serde_json::Value>,
    #[serde(default)]
    transferred_classes: Vec<serde_json::Value>,
    #[serde(default)]
    deleted_classes: Vec<String>,
}

impl Migration {
    /// The files of long-lived projects hold their whole history, so that what is not done here must not keep them from being deployed.
    /// Nothing is lost by leaving it: data stays where it is.
    fn remark(&self) -> Option<String> {
        let Self { tag, renamed_classes, transferred_classes, deleted_classes } = self;
        if !renamed_classes.is_empty() || !transferred_classes.is_empty() {
            return Some(format!("migration {tag:?} renames or transfers classes: actors keep the class that they began with"));
        }
        let classes = deleted_classes.join(", ");
        (!classes.is_empty()).then(|| format!("migration {tag:?} deletes {classes}: actors stay until `skep actors delete` is told so"))
    }
}

#[derive(Debug, Deserialize)]
struct Loader {
    binding: String,
}

#[derive(Debug, Default, Deserialize)]
struct Package {
    name: Option<String>,
    module: Option<String>,
    main: Option<String>,
}

impl Project {
    /// Reads what is at `path`: a file is its own entry, a folder is asked.
    ///
    /// # Errors
    /// When nothing there can be deployed.
    pub fn find(path: &Path) -> Result<Self, ProjectError> {
        let kind = std::fs::metadata(path).map_err(|error| ProjectError::Unreadable(path.to_path_buf(), error))?;
        if kind.is_file() {
            return Ok(Self::bare(path.to_path_buf(), None));
        }
        if let Some((file, wrangler)) = wrangler(path)? {
            return Self::from_wrangler(path, file, wrangler);
        }
        let file = path.join("package.json");
        let package: Package = match read(&file)? {
            Some(text) => serde_json::from_str(&text).map_err(|error| ProjectError::Malformed(file.clone(), error.to_string()))?,
            None => Package::default(),
        };
        let name = package.name.clone();
        match package.module.or(package.main) {
            Some(main) => Ok(Self::bare(existing(file, path.join(main))?, name)),
            None => usual_entry(path).map(|entry| Self::bare(entry, name)).ok_or_else(|| ProjectError::NoEntry(path.to_path_buf())),
        }
    }

    fn bare(entry: PathBuf, name: Option<String>) -> Self {
        Self { entry, name, compatibility_date: None, compatibility_flags: Vec::new(), bindings: BTreeMap::new(), remarks: Vec::new() }
    }

    fn from_wrangler(folder: &Path, file: PathBuf, wrangler: Wrangler) -> Result<Self, ProjectError> {
        let remarks = wrangler.migrations.iter().filter_map(Migration::remark).collect();
        let entry = match wrangler.main {
            Some(main) => existing(file, folder.join(main))?,
            None => usual_entry(folder).ok_or_else(|| ProjectError::NoEntry(folder.to_path_buf()))?,
        };
        let mut bindings: BTreeMap<_, _> = wrangler.vars.into_iter().map(|(name, value)| (name, ProjectBinding::Value(value))).collect();
        for service in wrangler.services {
            let binding = ProjectBinding::Service { worker: service.service, entrypoint: service.entrypoint, props: service.props };
            bindings.insert(service.binding, binding);
        }
        bindings.extend(wrangler.worker_loaders.into_iter().map(|loader| (loader.binding, ProjectBinding::Loader)));
        for actors in wrangler.durable_objects.bindings {
            bindings.insert(actors.name, ProjectBinding::Actors { class_name: actors.class_name, worker: actors.script_name });
        }
        Ok(Self {
            entry,
            name: wrangler.name,
            compatibility_date: wrangler.compatibility_date,
            compatibility_flags: wrangler.compatibility_flags,
            bindings,
            remarks,
        })
    }
}

fn wrangler(folder: &Path) -> Result<Option<(PathBuf, Wrangler)>, ProjectError> {
    for name in ["wrangler.jsonc", "wrangler.json"] {
        let file = folder.join(name);
        if let Some(text) = read(&file)? {
            let parsed = serde_json::from_str(&plain_json(&text));
            let wrangler = parsed.map_err(|error| ProjectError::Malformed(file.clone(), error.to_string()))?;
            return Ok(Some((file, wrangler)));
        }
    }
    let file = folder.join("wrangler.toml");
    let Some(text) = read(&file)? else { return Ok(None) };
    let wrangler = toml::from_str(&text).map_err(|error| ProjectError::Malformed(file.clone(), error.to_string()))?;
    Ok(Some((file, wrangler)))
}

fn read(file: &Path) -> Result<Option<String>, ProjectError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ProjectError::Unreadable(file.to_path_buf(), error)),
    }
}

fn existing(said_by: PathBuf, entry: PathBuf) -> Result<PathBuf, ProjectError> {
    if entry.is_file() { Ok(entry) } else { Err(ProjectError::NoSuchEntry(said_by, entry)) }
}

fn usual_entry(folder: &Path) -> Option<PathBuf> {
    let endings = ["ts", "tsx", "mts", "js", "mjs", "jsx"];
    let stems = ["src/index", "src/worker", "src/main", "index", "worker", "main"];
    stems.iter().flat_map(|stem| endings.iter().map(move |ending| folder.join(format!("{stem}.{ending}")))).find(|file| file.is_file())
}

/// JSON with comments and trailing commas to plain JSON; everything keeps its place, so that error positions hold.
fn plain_json(text: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let (mut at, mut in_string) = (0, false);
    while at < bytes.len() {
        let byte = bytes[at];
        match (in_string, byte, bytes.get(at + 1)) {
            (true, b'\\', Some(next)) => {
                out.extend([byte, *next]);
                at += 2;
                continue;
            }
            (false, b'/', Some(b'/')) => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    out.push(b' ');
                    at += 1;
                }
                continue;
            }
            (false, b'/', Some(b'*')) => {
                let end = text[at + 2..].find("*/").map_or(bytes.len(), |found| at + 2 + found + 2);
                out.extend(bytes[at..end].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
                at = end;
                continue;
            }
            (_, b'"', _) => in_string = !in_string,
            (false, b'}' | b']', _) => drop_comma(&mut out),
            _ => {}
        }
        out.push(byte);
        at += 1;
    }
    String::from_utf8(out).unwrap_or_default()
}

fn drop_comma(out: &mut [u8]) {
    if let Some(last) = out.iter().rposition(|b| !b.is_ascii_whitespace())
        && out[last] == b','
    {
        out[last] = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::plain_json;

    #[test]
    fn comments_and_trailing_commas_go() {
        let text = "{ // name\n \"a\": \"//x /* \\\" \", /* b\n */ \"b\": [1, 2, ], \"é\": 1,\n}";
        let value: serde_json::Value = serde_json::from_str(&plain_json(text)).unwrap();
        assert_eq!(value, serde_json::json!({ "a": "//x /* \" ", "b": [1, 2], "é": 1 }));
    }
}
