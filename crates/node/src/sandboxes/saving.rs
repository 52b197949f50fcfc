//! Snapshots of owners, kept in object storage, too: where the configuration names a bucket, each is written there soon after it was taken, and called durable
//! when every chunk of it was read back. What a store refuses for a while is tried again until it is there. It is not: how a snapshot becomes chunks
//! (`skep_sandbox`), nor what a bucket is.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use skep_sandbox::{Bucket, BucketError, BucketKey, BucketPlace, SnapshotId};
use tokio::{sync::Notify, task::spawn_blocking};

use super::Inner;
use crate::config::ChunksConfig;

/// How long is waited after something failed.
const AGAIN: Duration = Duration::from_secs(60);

/// How often is looked for what nobody has told of.
const LOOKS: Duration = Duration::from_secs(600);

/// What this node calls itself in a bucket.
const NAME: &str = "sandbox-chunks-owner";

/// Longest file of a key, in bytes.
const KEY_BYTES: u64 = 16 << 10;

/// Why a bucket that the configuration names is not used.
#[derive(Debug, thiserror::Error)]
pub enum ChunksError {
    /// The file of the key.
    #[error("the credentials in {0}: {1}")]
    Key(PathBuf, String),
    /// The name of this node.
    #[error("{0}: {1}")]
    Name(PathBuf, #[source] io::Error),
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

/// The bucket of a node, and what tells its keeper that there is something to do.
pub(super) struct Saving {
    bucket: Arc<Bucket>,
    node: String,
    pub todo: Arc<Notify>,
}

impl Saving {
    /// Waits for the store: what an operator has to mend is told at once; that it cannot be reached now is not.
    pub fn open(config: &ChunksConfig, data: &Path) -> Result<(Self, Arc<Bucket>), ChunksError> {
        let bucket = Arc::new(bucket(config)?);
        let node = name(data).map_err(|error| ChunksError::Name(data.join(NAME), error))?;
        match bucket.claim(&node) {
            Err(error) if error.passes() => tracing::warn!(%error, "snapshots are not durable until the store of chunks answers"),
            claimed => claimed?,
        }
        Ok((Self { bucket: Arc::clone(&bucket), node, todo: Arc::default() }, bucket))
    }

    /// Saves and removes until the node ends.
    pub(super) async fn keep(inner: Weak<Inner>, bucket: Arc<Bucket>, node: String, todo: Arc<Notify>) {
        let mut claimed = false;
        loop {
            if !claimed {
                let (bucket, node) = (Arc::clone(&bucket), node.clone());
                claimed = match spawn_blocking(move || bucket.claim(&node)).await {
                    Ok(Ok(())) => true,
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "snapshots are not saved");
                        false
                    }
                    Err(_) => return,
                };
            }
            let done = match inner.upgrade() {
                None => return,
                Some(inner) if claimed => inner.save_all().await,
                Some(_) => false,
            };
            // Who came meanwhile has left word; some leave none.
            tokio::select! {
                () = todo.notified(), if done => {}
                () = tokio::time::sleep(if done { LOOKS } else { AGAIN }) => {}
            }
        }
    }

    pub fn keeper(&self, inner: Weak<Inner>) -> impl Future<Output = ()> + Send + use<> {
        Self::keep(inner, Arc::clone(&self.bucket), self.node.clone(), Arc::clone(&self.todo))
    }
}

impl Inner {
    /// Whether all that owners have is in the bucket, and nothing else is.
    async fn save_all(&self) -> bool {
        let owners = match self.records.snapshot_owners() {
            Ok(owners) => owners,
            Err(error) => {
                tracing::warn!(%error, "snapshots are not saved");
                return false;
            }
        };
        let wanted = |id: &SnapshotId| owners.contains_key(id.as_str());
        let mut all = true;
        for snapshot in self.core.snapshots().into_iter().filter(|snapshot| !snapshot.durable && wanted(&snapshot.id)) {
            match self.core.save(&snapshot.id).await {
                Ok(_) | Err(skep_sandbox::LifeError::NoSnapshot(_)) => {}
                Err(error) => {
                    tracing::warn!(id = %snapshot.id, %error, "a snapshot is not durable yet");
                    all = false;
                }
            }
        }
        if let Err(error) = self.core.collect_chunks().await {
            tracing::warn!(%error, "chunks of snapshots that are gone were not removed");
            all = false;
        }
        all
    }
}

/// Whether the bucket of a configuration can be used, for who looks after the node; `None`: it names none.
#[must_use]
pub fn look_at_chunks(config: &crate::SandboxesConfig, data: &Path) -> Option<Result<String, String>> {
    let chunks = config.chunks.as_ref()?;
    let looked = bucket(chunks).and_then(|bucket| {
        match fs::read_to_string(data.join(NAME)) {
            Ok(node) => bucket.claim(&node)?,
            // No node has used it from here yet.
            Err(_) => bucket.look()?,
        }
        Ok(format!("{bucket:?} can be used"))
    });
    Some(looked.map_err(|error| error.to_string()))
}

fn bucket(config: &ChunksConfig) -> Result<Bucket, ChunksError> {
    let place = BucketPlace {
        endpoint: config.endpoint.clone(),
        bucket: config.bucket.clone(),
        prefix: config.prefix.clone(),
        region: config.region.clone(),
        path_style: config.path_style,
    };
    let key = key(&config.credentials).map_err(|why| ChunksError::Key(config.credentials.clone(), why))?;
    Ok(Bucket::new(&place, key)?)
}

/// A key from a file in the form of Amazon's own tools: `aws_access_key_id`, `aws_secret_access_key` and perhaps `aws_session_token`.
fn key(path: &Path) -> Result<BucketKey, String> {
    let found = fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() || found.len() > KEY_BYTES {
        return Err("no file of a key".to_owned());
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err("others can read it: chmod 600".to_owned());
    }
    parsed(&fs::read_to_string(path).map_err(|error| error.to_string())?)
}

fn parsed(text: &str) -> Result<BucketKey, String> {
    let (mut id, mut secret, mut token, mut sections) = (None, None, None, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if line.starts_with('[') {
            sections += 1;
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { return Err("a line has no `=`".to_owned()) };
        let place = match name.trim() {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut secret,
            "aws_session_token" => &mut token,
            _ => continue,
        };
        if value.trim().is_empty() || place.replace(value.trim().to_owned()).is_some() {
            return Err(format!("{} is empty, or there twice", name.trim()));
        }
    }
    match (id, secret) {
        (Some(id), Some(secret)) if sections < 2 => Ok(BucketKey { id, secret, token }),
        (Some(_), Some(_)) => Err("it has several profiles; one is wanted".to_owned()),
        _ => Err("aws_access_key_id and aws_secret_access_key are wanted".to_owned()),
    }
}

/// What this node is called for all time. Written before it is said to anybody.
fn name(folder: &Path) -> io::Result<String> {
    let path = folder.join(NAME);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let beside = folder.join(format!("{NAME}.new"));
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = name(folder.path()).unwrap();
        assert_eq!((first.len(), name(folder.path()).unwrap()), (32, first));
    }

    #[test]
    fn keys_are_read_as_amazons_tools_write_them() {
        let key = parsed("[default]\n# mine\naws_access_key_id = A\naws_secret_access_key=b=c\nregion = x\n").unwrap();
        assert_eq!((key.id.as_str(), key.secret.as_str(), key.token), ("A", "b=c", None));
        for bad in [
            "",
            "aws_access_key_id = A",
            "aws_access_key_id = A\naws_secret_access_key = ",
            "no line",
            "aws_access_key_id = A\naws_access_key_id = B\naws_secret_access_key = C",
            "[a]\naws_access_key_id = A\naws_secret_access_key = C\n[b]",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "aws_access_key_id = A\naws_secret_access_key = B").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(key(&path).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(key(&path).is_ok() && key(folder.path()).is_err());
    }
}
