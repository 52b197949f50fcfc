//! Images from a file: what `docker save` writes, and the OCI layout in a tar, packed or not.
//!
//! The file is hostile. It is looked through once; blobs are read from where they lie in it, never unpacked anywhere. Names in it are only
//! keys of a table.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use tar::{Archive, EntryType};

use super::{
    ImageError,
    oci::{Blob, Digest, Document, Found, MOST_CONFIG, MOST_MANIFEST, Next, Open, Opened, Platform, inflate},
};

const MOST_ENTRIES: usize = 10_000;
const MOST_STEPS: usize = 4;

/// Where everything is in the file.
struct Contents {
    file: Arc<File>,
    files: BTreeMap<String, (u64, u64)>,
    /// Older files name one layer twice.
    links: BTreeMap<String, String>,
}

/// Of one image, as `docker save` lists them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// Looks through the file. A packed one is unpacked to a file without a name in `store`, of at most `most` bytes.
pub(super) fn find(path: &Path, store: &Path, platform: &Platform, most: u64) -> Result<Found, ImageError> {
    let contents = Contents::of(plain(path, store, most)?)?;
    if contents.files.contains_key("index.json") { contents.layout(platform) } else { contents.saved() }
}

fn plain(path: &Path, store: &Path, most: u64) -> Result<File, ImageError> {
    let mut file = File::open(path)?;
    let mut magic = [0; 4];
    let got = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    if !(magic[..got].starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(file);
    }
    let mut unpacked = tempfile::tempfile_in(store)?;
    let copied = io::copy(&mut inflate(file)?.take(most + 1), &mut unpacked)?;
    if copied > most {
        return Err(ImageError::Document("archive", format!("more than {most} bytes")));
    }
    Ok(unpacked)
}

impl Contents {
    fn of(mut file: File) -> Result<Self, ImageError> {
        file.seek(SeekFrom::Start(0))?;
        let (mut files, mut links) = (BTreeMap::new(), BTreeMap::new());
        let end = file.metadata()?.len();
        for (n, entry) in Archive::new(&file).entries_with_seek()?.enumerate() {
            let entry = entry?;
            if n > MOST_ENTRIES {
                return Err(ImageError::Document("archive", format!("more than {MOST_ENTRIES} entries")));
            }
            let name = key(&String::from_utf8_lossy(&entry.path_bytes()));
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let (at, bytes) = (entry.raw_file_position(), entry.size());
                    if at.checked_add(bytes).is_none_or(|last| last > end) {
                        return Err(ImageError::Document("archive", "it ends too early".into()));
                    }
                    files.insert(name, (at, bytes));
                }
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    // Layers that are in the file twice lead to their other folder.
                    links.insert(name, key(String::from_utf8_lossy(&target).trim_start_matches("../")));
                }
                _ => {}
            }
        }
        Ok(Self { file: Arc::new(file), files, links })
    }

    fn place(&self, name: &str) -> Result<(u64, u64), ImageError> {
        let name = key(name);
        let found = self.files.get(&name).or_else(|| self.files.get(self.links.get(&name)?));
        found.copied().ok_or_else(|| ImageError::Document("archive", format!("it has no {name:?}")))
    }

    fn document(&self, name: &str, most: u64) -> Result<Vec<u8>, ImageError> {
        let (at, bytes) = self.place(name)?;
        if bytes > most {
            return Err(ImageError::Document("archive", format!("{name:?} has more than {most} bytes")));
        }
        let mut content = Vec::new();
        Part { file: Arc::clone(&self.file), at, left: bytes }.read_to_end(&mut content)?;
        Ok(content)
    }

    fn blob(&self, name: &str, digest: Option<Digest>) -> Result<Blob, ImageError> {
        let ((at, bytes), file) = (self.place(name)?, Arc::clone(&self.file));
        let open: Open = Box::new(move || Ok(Box::new(Part { file: Arc::clone(&file), at, left: bytes }) as Opened));
        Ok(Blob { digest, open })
    }

    fn layout(&self, platform: &Platform) -> Result<Found, ImageError> {
        let named = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let checked = |digest: &Digest, most| {
            let bytes = self.document(&named(digest), most)?;
            match Digest::of(&bytes) {
                found if found == *digest => Ok(bytes),
                found => Err(ImageError::Digest { wanted: digest.to_string(), found: found.to_string() }),
            }
        };
        let mut bytes = self.document("index.json", MOST_MANIFEST)?;
        for _ in 0..MOST_STEPS {
            match Document::read(&bytes)?.next(platform)? {
                Next::Manifest(next) => bytes = checked(&next.digest, MOST_MANIFEST)?,
                Next::Image { config, layers } => {
                    let layers = layers.into_iter().map(|layer| self.blob(&named(&layer.digest), Some(layer.digest)));
                    return Ok(Found { config: checked(&config.digest, MOST_CONFIG)?, layers: layers.collect::<Result<_, _>>()? });
                }
            }
        }
        Err(ImageError::Document("manifest", "indexes that lead to indexes".into()))
    }

    fn saved(&self) -> Result<Found, ImageError> {
        let bytes = self.document("manifest.json", MOST_MANIFEST)?;
        let all: Vec<Saved> = serde_json::from_slice(&bytes).map_err(|error| ImageError::Document("manifest", error.to_string()))?;
        let [one] = &all[..] else { return Err(ImageError::Document("archive", format!("it has {} images, not one", all.len()))) };
        let layers = one.layers.iter().map(|layer| self.blob(layer, None));
        Ok(Found { config: self.document(&one.config, MOST_CONFIG)?, layers: layers.collect::<Result<_, _>>()? })
    }
}

/// Names are compared without what means nothing.
fn key(name: &str) -> String {
    name.split('/').filter(|step| !matches!(*step, "" | ".")).collect::<Vec<_>>().join("/")
}

/// A piece of a file, read without a position of its own being anybody else's.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let got = self.file.read_at(&mut into[..most], self.at)?;
        if got == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.at, self.left) = (self.at + got as u64, self.left - got as u64);
        Ok(got)
    }
}
