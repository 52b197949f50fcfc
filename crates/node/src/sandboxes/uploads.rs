//! Files that steps of templates copy: archives that an owner sends ahead of a build.
//!
//! The sender names an archive by a hash of its own choice. What that hash stands for is the sender's own matter alone: another owner's archive of the
//! same hash is another one, and on disk, and for layers that are found again, an archive is known by the digest of what really came. A place to
//! send one to is a secret that is good for this owner, this hash and an hour. It is not: what unpacks them; that happens within a sandbox.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::{fs::File, io::AsyncWriteExt};

use super::{
    SandboxError, Sandboxes,
    create::{hex, token},
};

/// How long a place to send something to is good.
const GRANTED: Duration = Duration::from_secs(3_600);

/// Places that may be open at once.
const GRANTS_MAX: usize = 10_000;

/// Bytes of one archive.
const BYTES_MAX: u64 = 2 << 30;

/// Bytes of all archives of one owner; the oldest go first, but none that may still be waited for.
const OWNER_BYTES_MAX: u64 = 8 << 30;

/// How long an archive is kept at least, in milliseconds.
const KEPT_MS: i64 = 3_600_000;

/// An archive that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// SHA-256 of what came.
    pub digest: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// A row of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    pub owner: String,
    pub hash: String,
    pub digest: String,
    pub bytes: u64,
    pub at_ms: i64,
}

/// Where archives lie, and who may send one.
pub(super) struct Uploads {
    folder: PathBuf,
    grants: Mutex<HashMap<String, Grant>>,
    /// Held while room is made: what makes room must not be made twice.
    keeping: Mutex<()>,
}

#[derive(Clone)]
struct Grant {
    owner: String,
    hash: String,
    until: Instant,
}

impl Uploads {
    /// Opens the folder, or makes it; what had not come whole is removed.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { folder, grants: Mutex::default(), keeping: Mutex::default() })
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.folder.join(digest)
    }

    fn grant(&self, owner: &str, hash: &str) -> Result<String, SandboxError> {
        let (mut grants, now) = (self.grants.lock(), Instant::now());
        grants.retain(|_, grant| grant.until > now);
        if grants.len() >= GRANTS_MAX {
            return Err(SandboxError::Busy);
        }
        let token = token()?;
        grants.insert(token.clone(), Grant { owner: owner.to_owned(), hash: hash.to_owned(), until: now + GRANTED });
        Ok(token)
    }
}

/// Whether a text can be the hash of an archive, as its sender names it.
fn is_hash(text: &str) -> bool {
    (32..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// An archive on its way.
pub struct Uploading {
    file: File,
    part: PathBuf,
    hasher: Sha256,
    bytes: u64,
    grant: Grant,
    sandboxes: Sandboxes,
    whole: bool,
}

impl Sandboxes {
    /// An archive of this owner's, by the hash that the owner gave it.
    ///
    /// # Errors
    /// When the hash is none, or the database fails.
    pub fn uploaded(&self, owner: &str, hash: &str) -> Result<Option<Uploaded>, SandboxError> {
        if !is_hash(hash) {
            return Err(SandboxError::Invalid("files are named by a hash of 32 to 128 hexadecimal digits".to_owned()));
        }
        let found = self.inner.records.upload(owner, hash)?;
        let there = found.map(|upload| Uploaded { path: self.inner.uploads.file(&upload.digest), digest: upload.digest });
        Ok(there.filter(|there| there.path.is_file()))
    }

    /// A secret with which the archive of this hash may be sent.
    ///
    /// # Errors
    /// When too many were given.
    pub fn grant_upload(&self, owner: &str, hash: &str) -> Result<String, SandboxError> {
        self.inner.uploads.grant(owner, hash)
    }

    /// Begins to take an archive from whoever has the secret. `None`: it is good for nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn upload(&self, token: &str) -> Result<Option<Uploading>, SandboxError> {
        let granted = self.inner.uploads.grants.lock().get(token).filter(|grant| grant.until > Instant::now()).cloned();
        let Some(grant) = granted else { return Ok(None) };
        let part = self.inner.uploads.folder.join(format!("{}.part", super::create::token()?));
        let file = File::create_new(&part).await?;
        Ok(Some(Uploading { file, part, hasher: Sha256::new(), bytes: 0, grant, sandboxes: self.clone(), whole: false }))
    }
}

impl Uploading {
    /// More of it.
    ///
    /// # Errors
    /// When it is too long, or the disk fails.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(SandboxError::Invalid(format!("the files of one step are at most {BYTES_MAX} bytes")));
        }
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes).await?)
    }

    /// All of it came; it is durable, and found by its hash, when this returns.
    ///
    /// # Errors
    /// When its owner has too much here already, or the disk fails.
    pub async fn finish(mut self) -> Result<(), SandboxError> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let digest = hex(&std::mem::take(&mut self.hasher).finalize());
        let upload =
            Upload { owner: self.grant.owner.clone(), hash: self.grant.hash.clone(), digest, bytes: self.bytes, at_ms: crate::now_ms() };
        let (sandboxes, part) = (self.sandboxes.clone(), self.part.clone());
        let kept = tokio::task::spawn_blocking(move || sandboxes.keep(&part, &upload));
        kept.await.map_err(|_| SandboxError::Here("keeping files broke off"))??;
        self.whole = true;
        Ok(())
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_file(&self.part);
        }
    }
}

impl Sandboxes {
    fn keep(&self, part: &Path, upload: &Upload) -> Result<(), SandboxError> {
        let records = &self.inner.records;
        let _alone = self.inner.uploads.keeping.lock();
        let mut mine = records.uploads(Some(&upload.owner))?;
        mine.retain(|other| other.hash != upload.hash);
        mine.sort_by_key(|other| other.at_ms);
        let mut total: u64 = upload.bytes + mine.iter().map(|other| other.bytes).sum::<u64>();
        let mut goes = Vec::new();
        for other in mine {
            if total <= OWNER_BYTES_MAX {
                break;
            }
            if upload.at_ms - other.at_ms < KEPT_MS {
                return Err(SandboxError::Invalid(format!(
                    "the files that were sent within an hour are more than {OWNER_BYTES_MAX} bytes"
                )));
            }
            total -= other.bytes;
            goes.push(other);
        }
        fs::rename(part, self.inner.uploads.file(&upload.digest))?;
        fs::File::open(&self.inner.uploads.folder)?.sync_all()?;
        let before = records.upload(&upload.owner, &upload.hash)?;
        records.put_upload(upload)?;
        for other in goes {
            records.remove_upload(&other.owner, &other.hash)?;
            self.drop_unless_named(&other.digest)?;
        }
        match before {
            Some(before) => self.drop_unless_named(&before.digest),
            None => Ok(()),
        }
    }

    /// Another owner, or another hash, may stand for the same bytes.
    fn drop_unless_named(&self, digest: &str) -> Result<(), SandboxError> {
        if self.inner.records.uploads(None)?.iter().all(|upload| upload.digest != digest) {
            fs::remove_file(self.inner.uploads.file(digest))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_no_path() {
        assert!(is_hash(&"0a".repeat(32)));
        for hostile in ["", "abc", "../../../../../../../../../../etc/passwd", &"A".repeat(64), &"0".repeat(129), &"g".repeat(64)] {
            assert!(!is_hash(hostile), "{hostile:?}");
        }
    }

    #[test]
    fn what_had_not_come_whole_is_removed_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["whole", "half.part"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let uploads = Uploads::open(folder.path().to_owned()).unwrap();
        assert!(uploads.file("whole").exists() && !uploads.file("half.part").exists());
        let (one, other) = (uploads.grant("a", "b").unwrap(), uploads.grant("a", "b").unwrap());
        assert_ne!(one, other);
    }
}
