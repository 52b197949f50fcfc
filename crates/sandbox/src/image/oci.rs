//! Images as the Open Container Initiative writes them down: an index, a manifest, a configuration, layers, each named by its digest.
//!
//! Here they are read, and their layers become trees of overlay's own form. Where they come from is `registry.rs` and `archive.rs`. A layer's tree
//! depends on those below it (a folder that the archive leaves out looks as it does there), so it is kept under its *chain id*. It is not: a
//! place that trusts a name; what has a digest is believed when its bytes have it.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Bounds, ImageConfig, ImageError,
    making::{Level, Log},
    unpack::{OPAQUE, UnpackError, unpack},
};

/// Of a manifest or an index, and of a configuration, in bytes.
pub(super) const MOST_MANIFEST: u64 = 4 << 20;
pub(super) const MOST_CONFIG: u64 = 8 << 20;
const MOST_LAYERS: usize = 256;
/// Trees of one image, so that an overlay takes them with those of templates and snapshots over them; what an image has more is one tree, the lowest.
const MOST_TREES: usize = 11;

/// The SHA-256 of some bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(String);

impl Digest {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(bytes))
    }

    fn from_hash(hash: Sha256) -> Self {
        Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// 64 hexadecimal digits.
    pub(super) fn hex(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "sha256:{}", self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_hex = |hex: &&str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let hex = text.strip_prefix("sha256:").filter(is_hex).map(str::to_owned);
        hex.map(Self).ok_or_else(|| format!("{:?} is no digest by SHA-256", text.chars().take(100).collect::<String>()))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// For which machine an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// As Go names it: `amd64`, `arm64`, …
    pub architecture: String,
    /// Of the architecture: `v8`, … `None`: any.
    pub variant: Option<String>,
}

impl Default for Platform {
    /// This machine's.
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { architecture: architecture.into(), variant: None }
    }
}

/// Something named by its digest.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Descriptor {
    pub digest: Digest,
    pub size: u64,
    platform: Option<Offered>,
}

#[derive(Clone, Debug, Deserialize)]
struct Offered {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// An index of manifests for several machines, or the manifest of one image.
#[derive(Deserialize)]
pub(super) struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// What a document leads to.
pub(super) enum Next {
    Manifest(Descriptor),
    Image { config: Descriptor, layers: Vec<Descriptor> },
}

impl Document {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        serde_json::from_slice(bytes).map_err(|error| ImageError::Document("manifest", error.to_string()))
    }

    pub(super) fn next(self, platform: &Platform) -> Result<Next, ImageError> {
        match self {
            Self { config: Some(config), layers: Some(layers), .. } if layers.len() <= MOST_LAYERS => Ok(Next::Image { config, layers }),
            Self { manifests: Some(manifests), .. } => choose(manifests, platform).map(Next::Manifest),
            _ => Err(ImageError::Document("manifest", format!("neither an index nor an image of at most {MOST_LAYERS} layers"))),
        }
    }
}

fn choose(manifests: Vec<Descriptor>, wanted: &Platform) -> Result<Descriptor, ImageError> {
    let fits = |offered: &Offered| {
        let variant = wanted.variant.is_none() || offered.variant == wanted.variant;
        offered.os == "linux" && offered.architecture == wanted.architecture && variant
    };
    // What says nothing is for everybody: layouts of one image often do not.
    let only = manifests.len() == 1;
    let found = manifests.into_iter().find(|one| one.platform.as_ref().map_or(only, fits));
    found.ok_or_else(|| ImageError::Platform(wanted.architecture.clone()))
}

/// The configuration, as far as it means something here.
#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: Option<Inner>,
    rootfs: Layers,
}

#[derive(Deserialize)]
struct Layers {
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

/// A layer's archive as it comes, compressed or not.
pub(super) type Opened = Box<dyn Read + Send>;
pub(super) type Open = Box<dyn Fn() -> Result<Opened, ImageError> + Send>;

/// Where a layer's bytes are.
pub(super) struct Blob {
    /// Of the bytes as they come. `None`: only what they unpack to has one.
    pub digest: Option<Digest>,
    pub open: Open,
}

/// An image before its layers are here.
pub(super) struct Found {
    pub config: Vec<u8>,
    pub layers: Vec<Blob>,
}

/// Unpacks the layers that are not here yet. Names of trees, topmost first.
pub(super) fn assemble(found: &Found, store: &Path, bounds: Bounds, log: &Log) -> Result<(Vec<String>, ImageConfig), ImageError> {
    let file: ConfigFile =
        serde_json::from_slice(&found.config).map_err(|error| ImageError::Document("configuration", error.to_string()))?;
    let diffs = file.rootfs.diff_ids;
    if diffs.len() != found.layers.len() || diffs.is_empty() {
        let told = format!("{} layers, of which the configuration names {}", found.layers.len(), diffs.len());
        return Err(ImageError::Document("configuration", told));
    }
    let mut left = bounds;
    let mut trees: Vec<String> = Vec::new();
    let mut chain: Option<Digest> = None;
    let pairs: Vec<(&Digest, &Blob)> = diffs.iter().zip(&found.layers).collect();
    let (together, single) = pairs.split_at(pairs.len().saturating_sub(MOST_TREES - 1).max(1));
    for (n, group) in std::iter::once(together).chain(single.chunks(1)).enumerate() {
        for (diff, _) in group {
            chain = Some(chain.map_or_else(|| (*diff).clone(), |below: Digest| Digest::of(format!("{below} {diff}").as_bytes())));
        }
        let kind = if group.len() > 1 { "folded" } else { "sha256" };
        let name = format!("{kind}-{}", chain.as_ref().map_or("", Digest::hex));
        let shown = format!("tree {} of {}, of {} layers", n + 1, single.len() + 1, group.len());
        if store.join(&name).is_dir() {
            log.say(Level::Info, format!("{shown}: is here already"));
        } else {
            log.say(Level::Info, format!("{shown}: {}", chain.as_ref().map(ToString::to_string).unwrap_or_default()));
            let lowers: Vec<PathBuf> = trees.iter().map(|tree| store.join(tree)).collect();
            place(store, &name, |beside| unpacked(group, beside, &lowers, &mut left))?;
        }
        trees.insert(0, name);
    }
    Ok((trees, config(file.config.unwrap_or_default())))
}

/// Makes a tree beside its place, and puts it there when it is whole and on disk.
pub(super) fn place(store: &Path, name: &str, make: impl FnOnce(&Path) -> Result<(), ImageError>) -> Result<(), ImageError> {
    use std::fs;
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).map_err(io::Error::from)?;
    let beside = store.join(format!("{name}.new{:016x}", u64::from_le_bytes(random)));
    fs::create_dir(&beside)?;
    let made = make(&beside).and_then(|()| match fs::rename(&beside, store.join(name)) {
        // Somebody else made the same one meanwhile.
        Err(_) if store.join(name).is_dir() => Ok(fs::remove_dir_all(&beside)?),
        other => Ok(other?),
    });
    match made {
        Ok(()) => Ok(fs::File::open(store)?.sync_all()?),
        Err(error) => {
            // What is left is removed when the store is opened next.
            let _ = fs::remove_dir_all(&beside);
            Err(error)
        }
    }
}

/// Layers become one tree: each is unpacked over those before it, and then put into them.
fn unpacked(group: &[(&Digest, &Blob)], beside: &Path, lowers: &[PathBuf], left: &mut Bounds) -> Result<(), ImageError> {
    let Some(((first, blob), rest)) = group.split_first() else { return Ok(()) };
    layer(blob, first, beside, lowers, left)?;
    for (n, (diff, blob)) in rest.iter().enumerate() {
        let mut over = beside.as_os_str().to_owned();
        over.push(format!("-{n}"));
        let over = PathBuf::from(over);
        std::fs::create_dir(&over)?;
        let put = layer(blob, diff, &over, &[beside.to_owned()], left).and_then(|()| Ok(fold(&over, beside)?));
        crate::record::remove(&over)?;
        put?;
    }
    rustix::fs::syncfs(std::fs::File::open(beside)?).map_err(io::Error::from)?;
    Ok(())
}

/// Puts what an upper tree has into the lowest one, where nothing is left to be hidden. Both are nobody else's.
fn fold(upper: &Path, lower: &Path) -> io::Result<()> {
    use std::{
        fs,
        os::unix::fs::{FileTypeExt, MetadataExt, chown},
    };
    for entry in fs::read_dir(upper)? {
        let entry = entry?;
        let (from, to) = (entry.path(), lower.join(entry.file_name()));
        let there = fs::symlink_metadata(&to).is_ok_and(|found| found.is_dir());
        let kind = entry.file_type()?;
        if kind.is_char_device() {
            crate::record::remove(&to)?;
        } else if kind.is_dir() && there && !is_opaque(&from) {
            fold(&from, &to)?;
            let found = fs::symlink_metadata(&from)?;
            chown(&to, Some(found.uid()), Some(found.gid()))?;
            fs::set_permissions(&to, found.permissions())?;
        } else {
            crate::record::remove(&to)?;
            if kind.is_dir() {
                plain(&from)?;
            }
            fs::rename(&from, &to)?;
        }
    }
    Ok(())
}

/// A tree of an upper layer that hides nothing any more.
fn plain(folder: &Path) -> io::Result<()> {
    use std::{fs, os::unix::fs::FileTypeExt};
    match rustix::fs::lremovexattr(folder, OPAQUE) {
        Err(rustix::io::Errno::NODATA) => {}
        other => other?,
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => plain(&entry.path())?,
            kind if kind.is_char_device() => fs::remove_file(entry.path())?,
            _ => {}
        }
    }
    Ok(())
}

fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(folder, OPAQUE, &mut value).is_ok_and(|length| length == 1 && value == *b"y")
}

fn layer(blob: &Blob, diff: &Digest, beside: &Path, lowers: &[PathBuf], left: &mut Bounds) -> Result<(), ImageError> {
    let mut outer = Checked::new((blob.open)()?, left.bytes);
    {
        let mut inner = Checked::new(inflate(&mut outer)?, left.bytes.saturating_add(left.entries.saturating_mul(1_024)));
        unpack(&mut inner, beside, lowers, left)?;
        inner.finish(Some(diff))?;
    }
    outer.finish(blob.digest.as_ref())
}

/// What an archive is packed with is seen from its first bytes, whatever it is called.
pub(super) fn inflate<'a>(packed: impl Read + 'a) -> Result<Box<dyn Read + 'a>, ImageError> {
    /// A frame that asks for more memory than this is refused.
    const MOST_WINDOW: u32 = 27;
    let mut packed = BufReader::with_capacity(64 << 10, packed);
    let first = packed.fill_buf()?;
    if first.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(packed)));
    }
    if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
        decoder.window_log_max(MOST_WINDOW)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(packed))
}

/// Bytes on their way, counted and hashed.
pub(super) struct Checked<R> {
    from: R,
    hash: Sha256,
    left: u64,
}

impl<R: Read> Checked<R> {
    pub(super) fn new(from: R, most: u64) -> Self {
        Self { from, hash: Sha256::new(), left: most }
    }

    /// Reads what nobody wanted, and compares.
    pub(super) fn finish(mut self, wanted: Option<&Digest>) -> Result<(), ImageError> {
        io::copy(&mut self, &mut io::sink())?;
        let found = Digest::from_hash(self.hash);
        match wanted {
            Some(wanted) if *wanted != found => Err(ImageError::Digest { wanted: wanted.to_string(), found: found.to_string() }),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(into)?;
        self.hash.update(&into[..got]);
        let left = self.left.checked_sub(got as u64);
        self.left = left.ok_or_else(|| io::Error::other(UnpackError::Bound("its archive may be long")))?;
        Ok(got)
    }
}

fn config(inner: Inner) -> ImageConfig {
    let pair = |text: &String| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let env: BTreeMap<String, String> = inner.env.unwrap_or_default().iter().filter_map(pair).filter(|(key, _)| !key.is_empty()).collect();
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    ImageConfig {
        env,
        workdir: filled(inner.working_dir),
        user: filled(inner.user),
        entrypoint: inner.entrypoint.unwrap_or_default(),
        cmd: inner.cmd.unwrap_or_default(),
        start: None,
        ready: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_64_digits_and_no_path() {
        assert_eq!(Digest::of(b"").hex(), HEX);
        assert!(Digest::try_from(format!("sha256:{HEX}")).is_ok());
        for hostile in ["", "sha256:", "sha256:../../etc/passwd", &format!("md5:{HEX}"), &format!("sha256:{}", HEX.to_uppercase()), HEX] {
            assert!(Digest::try_from(hostile.to_owned()).is_err(), "{hostile}");
        }
    }

    #[test]
    fn the_image_for_this_machine_is_chosen() {
        let one = |arch: &str, variant: &str| {
            format!(r#"{{"digest":"sha256:{HEX}","size":1,"platform":{{"os":"linux","architecture":"{arch}","variant":{variant}}}}}"#)
        };
        let index = |of: &[String]| Document::read(format!(r#"{{"manifests":[{}]}}"#, of.join(",")).as_bytes()).unwrap();
        let wanted =
            |architecture: &str, variant: Option<&str>| Platform { architecture: architecture.into(), variant: variant.map(Into::into) };
        let both = [one("amd64", "null"), one("arm64", r#""v8""#)];
        assert!(
            matches!(index(&both).next(&wanted("arm64", Some("v8"))), Ok(Next::Manifest(it)) if it.platform.as_ref().unwrap().architecture == "arm64")
        );
        assert!(matches!(index(&both).next(&wanted("riscv64", None)), Err(ImageError::Platform(_))));
        assert!(matches!(index(&both).next(&wanted("arm64", Some("v7"))), Err(ImageError::Platform(_))));
        let bare = format!(r#"{{"digest":"sha256:{HEX}","size":1}}"#);
        assert!(index(std::slice::from_ref(&bare)).next(&wanted("amd64", None)).is_ok());
        assert!(index(&[bare.clone(), bare]).next(&wanted("amd64", None)).is_err());
        assert!(Document::read(b"{}").unwrap().next(&wanted("amd64", None)).is_err());
    }

    #[test]
    fn a_window_that_would_fill_the_memory_is_refused() {
        let mut packer = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        packer.window_log(30).unwrap();
        packer.include_contentsize(false).unwrap();
        io::Write::write_all(&mut packer, &vec![7; 1 << 20]).unwrap();
        let packed = packer.finish().unwrap();
        assert!(inflate(&packed[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
    }
}
