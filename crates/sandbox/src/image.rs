//! What sandboxes begin with: images, each an ordered list of layers and a configuration.
//!
//! A layer is one tree in overlay's own form, named by what it was made of, on disk before its name is, and never changed; images, snapshots and
//! sandboxes share them. Ids on disk are inner ones. It is not: who may use which image, or what it is called for whom; that is the node's.

mod archive;
mod debian;
mod host;
mod making;
mod oci;
mod registry;
pub(crate) mod template;
mod unpack;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    net::IpAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::RwLock, task::spawn_blocking};

pub use host::host_image;
pub use making::{Level, Line, Making};
pub use oci::Platform;
pub use template::{Action, Base, Recipe, RecipeStep, Workshop, base};
pub use unpack::{Bounds, UnpackError};

pub(crate) use making::Log;

use crate::{
    record::{remove, replace},
    spec::Rootfs,
};

/// The image that is always there: the host's own programs.
pub const HOST: &str = "host";

/// How names of layers begin that images, and not snapshots, are made of.
const OWN: [&str; 4] = ["sha256-", "folded-", "debian-", "step-"];

/// What an image is: layers that lie here, and how its programs are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Of this form: 1.
    pub version: u32,
    /// What it is called here.
    pub name: String,
    /// Folders in `layer`, the topmost first.
    pub layers: Vec<String>,
    /// Whether the host's programs are below them.
    pub host: bool,
    /// How its programs are run.
    pub config: ImageConfig,
    /// What it was made of.
    pub source: Source,
    /// When, in milliseconds since 1970.
    pub made_ms: u64,
}

/// How an image's programs are run, unless who runs them says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Where they begin.
    pub workdir: Option<String>,
    /// Who they run as: a name or a number, perhaps with `:group`, as it was written.
    pub user: Option<String>,
    /// The program, and what its arguments begin with.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program.
    pub cmd: Vec<String>,
    /// Of a template: the line that is started in every sandbox of it.
    pub start: Option<String>,
    /// Of a template: the line that ends well when what was started is ready.
    pub ready: Option<String>,
}

/// Where an image is from. Serialized, it is part of the image's record: no credentials in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The host's own programs, below a root that is made.
    Host,
    /// A Debian, or a relative of it, by `mmdebstrap` or `debootstrap`.
    Debian {
        /// `bookworm`, `trixie`, …
        suite: String,
        /// Where its packages are. `None`: the tool's own choice.
        mirror: Option<String>,
        /// Beside the smallest set.
        packages: Vec<String>,
    },
    /// A registry's.
    Registry {
        /// `debian:12`, `ghcr.io/owner/name@sha256:…`.
        reference: String,
        /// Which of its images.
        platform: Platform,
    },
    /// A file that `docker save` wrote, or an OCI layout as a tar; packed or not.
    Archive {
        /// On this host.
        path: PathBuf,
    },
    /// A template's steps.
    Template {
        /// The digest of the recipe and of what it begins with.
        digest: String,
    },
}

/// For a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub user: String,
    /// A password or a token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "Credentials of {:?}", self.user)
    }
}

/// What is asked of a host's name and one of the addresses that it stands for.
pub type Allows = dyn Fn(&str, IpAddr) -> bool + Send + Sync;

/// Whether a registry, or what it redirects to, may be at this address: the host's name, and one of the addresses that it stands for.
#[derive(Clone)]
pub struct Reach(pub Arc<Allows>);

impl Reach {
    /// Nowhere: images come from files and from the host.
    #[must_use]
    pub fn nowhere() -> Self {
        Self(Arc::new(|_, _| false))
    }
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Reach")
    }
}

/// What bounds the making of images.
#[derive(Clone, Debug)]
pub struct ImageRules {
    /// Where registries may be.
    pub reach: Reach,
    /// How large an image may be.
    pub bounds: Bounds,
    /// Folders in which `mmdebstrap` and `debootstrap` are looked for.
    pub programs: Vec<PathBuf>,
}

impl Default for ImageRules {
    fn default() -> Self {
        let programs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"].map(PathBuf::from).to_vec();
        Self { reach: Reach::nowhere(), bounds: Bounds::default(), programs }
    }
}

/// Why an image is not made, not there, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be called so.
    #[error("an image is called by 1 to 128 of a-z, 0-9, -, _ and ., beginning with a letter or digit, not {0:?}")]
    Name(String),
    /// There is none of this name.
    #[error("there is no image {0:?}")]
    NoSuch(String),
    /// One of this name is being made of something else.
    #[error("the image {0:?} is being made of something else")]
    Busy(String),
    /// No name of an image in a registry.
    #[error("{0:?} names no image of a registry")]
    Reference(String),
    /// The registry, or where it leads, is not there or may not be reached.
    #[error("{0}: {1}")]
    Unreachable(String, String),
    /// The registry refuses.
    #[error("{what}: the registry answers with status {status}")]
    Registry {
        /// HTTP's.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// What came is not what was announced.
    #[error("what came has the digest {found} and not {wanted}")]
    Digest {
        /// As it was announced.
        wanted: String,
        /// As it is.
        found: String,
    },
    /// It is for other machines.
    #[error("there is none for {0}")]
    Platform(String),
    /// A document of the image is not one.
    #[error("its {0}: {1}")]
    Document(&'static str, String),
    /// A layer.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A program that is needed, and is missing or failed.
    #[error("{0}")]
    Tool(String),
    /// A template's step failed.
    #[error("step {step}: {why}")]
    Step {
        /// Which one; the first is 1.
        step: u32,
        /// As the log says at its end.
        why: String,
    },
    /// What a template starts does not become ready.
    #[error("what it starts: {0}")]
    Trial(String),
    /// It stopped before it was done: the node ends.
    #[error("the work was stopped")]
    Stopped,
    /// The disk.
    #[error("the store of images: {0}")]
    Here(#[from] io::Error),
}

/// The images of a node. Clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    rules: Mutex<ImageRules>,
    making: Mutex<HashMap<String, Making>>,
    /// Held for reading while a sandbox is being made of layers, for writing while layers are taken away.
    in_use: RwLock<()>,
}

impl Images {
    /// Opens the store in a folder that one node has; what was not finished is removed.
    pub fn open(folder: &Path) -> io::Result<Self> {
        for name in ["image", "layer"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(name))?;
            for entry in fs::read_dir(folder.join(name))? {
                let path = entry?.path();
                let unfinished = path.extension().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with("new") || it == "gone");
                if unfinished {
                    remove(&path)?;
                }
            }
        }
        let inner = Inner { folder: folder.to_owned(), rules: Mutex::default(), making: Mutex::default(), in_use: RwLock::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Says what bounds images that are made from now on. Before it is said no registry is in reach.
    pub fn rule(&self, rules: ImageRules) {
        *lock(&self.inner.rules) = rules;
    }

    /// One of them, by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Image> {
        check(name).ok()?;
        let image: Image = serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()?;
        (image.version == 1 && image.name == name).then_some(image)
    }

    /// All that were made, by name. The host's is not among them: it is always there.
    #[must_use]
    pub fn list(&self) -> Vec<Image> {
        let entries = fs::read_dir(self.inner.folder.join("image")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
        let mut images: Vec<Image> = names.filter_map(|name| self.get(&name)).collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        images
    }

    /// What a sandbox of this image is made of.
    pub fn rootfs(&self, name: &str) -> Result<Rootfs, ImageError> {
        if name == HOST {
            return Ok(self.host()?);
        }
        self.get(name).map_or_else(|| Err(ImageError::NoSuch(name.into())), |image| Ok(self.rootfs_of(&image)?))
    }

    pub(crate) fn rootfs_of(&self, image: &Image) -> io::Result<Rootfs> {
        let mut layers: Vec<PathBuf> = image.layers.iter().map(|layer| self.layer(layer)).collect();
        if !image.host {
            return Ok(Rootfs { layers, parts: vec![] });
        }
        let below = self.host()?;
        let over = |name: &str| layers.iter().map(|layer| layer.join(name)).filter(|folder| folder.is_dir()).collect();
        let parts = below.parts.into_iter().map(|part| crate::spec::Part { layers: over(&part.name), ..part }).collect();
        layers.extend(below.layers);
        Ok(Rootfs { layers, parts })
    }

    fn host(&self) -> io::Result<Rootfs> {
        host_image(&self.inner.folder.join("host"))
    }

    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        self.layers().join(name)
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.inner.folder.join("layer")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.inner.folder.join("image").join(format!("{name}.json"))
    }

    /// Makes an image, in place of one that has this name, once it is whole. Who asks for the same meanwhile waits for the same.
    #[must_use]
    pub fn make(&self, name: &str, source: Source, credentials: Option<Credentials>) -> Making {
        let images = self.clone();
        let key = format!("{source:?} as {:?}", credentials.as_ref().map(|it| &it.user));
        self.begin(name, key, move |making, name| async move {
            let log = making.log_to().clone();
            spawn_blocking(move || images.made(&name, source, credentials, &log)).await.map_err(|_| ImageError::Stopped)?
        })
    }

    /// The work on this image, if there is any.
    #[must_use]
    pub fn making(&self, name: &str) -> Option<Making> {
        lock(&self.inner.making).get(name).filter(|making| !making.has_ended()).cloned()
    }

    pub(crate) fn begin<F>(&self, name: &str, key: String, work: impl FnOnce(Making, String) -> F) -> Making
    where
        F: Future<Output = Result<Image, ImageError>> + Send + 'static,
    {
        let making = Making::new(key);
        if let Err(error) = check(name) {
            making.end(Err(error));
            return making;
        }
        let mut all = lock(&self.inner.making);
        match all.get(name).filter(|there| !there.has_ended()) {
            Some(there) if there.key == making.key => return there.clone(),
            Some(_) => {
                making.end(Err(ImageError::Busy(name.into())));
                return making;
            }
            None => {}
        }
        all.insert(name.to_owned(), making.clone());
        let work = work(making.clone(), name.to_owned());
        let (images, name, told) = (self.clone(), name.to_owned(), making.clone());
        tokio::spawn(async move {
            // In a task of its own: whatever happens in it, its end is told.
            let result = tokio::spawn(work).await.unwrap_or(Err(ImageError::Stopped));
            told.end(result);
            let mut all = lock(&images.inner.making);
            // Somebody may have begun it anew meanwhile.
            if all.get(&name).is_some_and(Making::has_ended) {
                all.remove(&name);
            }
        });
        making
    }

    fn made(&self, name: &str, source: Source, credentials: Option<Credentials>, log: &Log) -> Result<Image, ImageError> {
        let rules = lock(&self.inner.rules).clone();
        let found = match &source {
            Source::Host => {
                self.host()?;
                return self.write(name, vec![], true, ImageConfig::default(), source);
            }
            Source::Template { .. } => return Err(ImageError::Document("source", "a template is made by its steps".into())),
            Source::Debian { suite, mirror, packages } => {
                let wanted = debian::Wanted { suite, mirror: mirror.as_deref(), packages };
                let layer = debian::make(&wanted, &self.layers(), &rules.programs, rules.bounds, log)?;
                return self.write(name, vec![layer], false, ImageConfig::default(), source);
            }
            Source::Registry { reference, platform } => {
                registry::Registry::new(reference, credentials, &rules.reach)?.find(platform, log)?
            }
            Source::Archive { path } => archive::find(path, &self.layers(), &Platform::default(), rules.bounds.bytes)?,
        };
        let (layers, config) = oci::assemble(&found, &self.layers(), rules.bounds, log)?;
        self.write(name, layers, false, config, source)
    }

    pub(crate) fn write(
        &self,
        name: &str,
        layers: Vec<String>,
        host: bool,
        config: ImageConfig,
        source: Source,
    ) -> Result<Image, ImageError> {
        let image = Image { version: 1, name: name.to_owned(), layers, host, config, source, made_ms: crate::sandboxes::now_ms() };
        let text = serde_json::to_vec_pretty(&image).map_err(io::Error::other)?;
        replace(&self.inner.folder.join("image"), &format!("{name}.json"), &text)?;
        Ok(image)
    }

    /// While this is held no layer is taken away.
    pub(crate) async fn using(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.inner.in_use.read().await
    }

    /// Removes an image, and the layers of it that no other image and nobody of `held` has. `false`: there is none.
    pub(crate) async fn remove(&self, name: &str, held: impl FnOnce() -> BTreeSet<PathBuf>) -> Result<bool, ImageError> {
        if self.making(name).is_some() {
            return Err(ImageError::Busy(name.into()));
        }
        let _alone = self.inner.in_use.write().await;
        let Some(image) = self.get(name) else { return Ok(false) };
        let (images, held) = (self.clone(), held());
        spawn_blocking(move || images.taken_away(&image, &held)).await.map_err(|_| ImageError::Stopped)??;
        Ok(true)
    }

    fn taken_away(&self, image: &Image, held: &BTreeSet<PathBuf>) -> io::Result<()> {
        fs::remove_file(self.file(&image.name))?;
        fs::File::open(self.inner.folder.join("image"))?.sync_all()?;
        if !lock(&self.inner.making).is_empty() {
            // What is being made may have found a layer here: what is then left over goes when the store is opened next.
            return Ok(());
        }
        let others = self.named();
        for name in image.layers.iter().filter(|name| !others.contains(*name)) {
            self.drop_unless_held(name, held)?;
        }
        Ok(())
    }

    /// Removes layers of images that nothing has: what steps that failed, or images that were made anew, left. How many. For a node that begins.
    pub(crate) fn sweep(&self, held: &BTreeSet<PathBuf>) -> io::Result<usize> {
        let unreadable = fs::read_dir(self.inner.folder.join("image"))?.count() != self.list().len();
        if unreadable {
            // An image of another version has layers, too.
            return Ok(0);
        }
        let named = self.named();
        let mut gone = 0;
        for entry in fs::read_dir(self.layers())? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            let own = OWN.iter().any(|prefix| name.starts_with(prefix));
            if own && !named.contains(&name) && self.drop_unless_held(&name, held)? {
                gone += 1;
            }
        }
        Ok(gone)
    }

    fn drop_unless_held(&self, name: &str, held: &BTreeSet<PathBuf>) -> io::Result<bool> {
        let layer = self.layer(name);
        let used = held.iter().any(|path| path.starts_with(&layer));
        if used || !layer.exists() {
            return Ok(false);
        }
        let gone = self.layers().join(format!("{name}.gone"));
        fs::rename(&layer, &gone)?;
        remove(&gone).map(|()| true)
    }

    /// Layers that images have.
    fn named(&self) -> BTreeSet<String> {
        self.list().into_iter().flat_map(|image| image.layers).collect()
    }
}

fn check(name: &str) -> Result<(), ImageError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    match begins && name.len() <= 128 && name.bytes().all(plain) && name != HOST {
        true => Ok(()),
        false => Err(ImageError::Name(name.chars().take(200).collect())),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        for name in ["a", "base", "7e.x_y-z"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for hostile in ["", HOST, ".", "..", "a/b", "../a", "A", "-a", ".a", "a b", "a\0", &"a".repeat(129)] {
            assert!(matches!(check(hostile), Err(ImageError::Name(_))), "{hostile:?}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let secret = Credentials { user: "me".into(), password: "geheim".into() };
        assert!(!format!("{secret:?}").contains("geheim"));
    }
}
