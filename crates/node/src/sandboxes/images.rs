//! Images that an operator makes for all: of a registry, of Debian's packages, of a file. Each is a template under its own name.
//!
//! Images are the core's; here is who asks for them, and where a file waits that was sent. It is not: templates of keys, which are made by steps
//! (`templates.rs`); their builds are not shown here and cannot be removed here.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::PathBuf};

use skep_sandbox::{Bounds, Credentials, Image, Making, Source};
use tokio::{fs::File, io::AsyncWriteExt};

use super::{
    SandboxError, Sandboxes,
    create::{hex, random},
    templates::is_build,
};

/// Where files wait that images are made of, below the folder of sandboxes.
const INCOMING: &str = "incoming";

/// A file that an image is to be made of, on its way; removed when it is dropped.
pub struct Incoming {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Incoming {
    /// Takes further bytes.
    ///
    /// # Errors
    /// When there are more than an image may have, or the disk is full.
    pub async fn take(&mut self, piece: &[u8]) -> Result<(), SandboxError> {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        let most = Bounds::default().bytes;
        if self.bytes > most {
            return Err(SandboxError::Invalid(format!("an image's file has at most {most} bytes")));
        }
        Ok(self.file.write_all(piece).await?)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // What cannot be removed now goes when the node starts next.
        let _ = fs::remove_file(&self.path);
    }
}

impl Sandboxes {
    /// Images, but for builds of templates; in the order of their names.
    #[must_use]
    pub fn images(&self) -> Vec<Image> {
        let mut images = self.inner.core.images().list();
        images.retain(|image| !is_build(&image.name));
        images
    }

    /// Makes an image, in place of one that has this name, once it is whole. It is made whoever waits for it.
    ///
    /// # Errors
    /// When the name is that of a template's build.
    pub fn make_image(&self, name: &str, source: Source, credentials: Option<Credentials>) -> Result<Making, SandboxError> {
        may_be_named(name)?;
        Ok(self.inner.core.images().make(name, source, credentials))
    }

    /// A file for an image to be made of.
    ///
    /// # Errors
    /// When the disk is full, or there is no randomness.
    pub async fn incoming(&self) -> Result<Incoming, SandboxError> {
        let folder = self.inner.folder.join(INCOMING);
        let path = folder.join(hex(&random::<16>()?));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Incoming { file: File::create_new(&path).await?, path, bytes: 0 })
    }

    /// Makes an image of a file that came whole.
    ///
    /// # Errors
    /// When the name is that of a template's build, or the disk is full.
    pub async fn make_image_of(&self, name: &str, mut incoming: Incoming) -> Result<Making, SandboxError> {
        may_be_named(name)?;
        incoming.file.flush().await?;
        let making = self.inner.core.images().make(name, Source::Archive { path: incoming.path.clone() }, None);
        let watched = making.clone();
        tokio::spawn(async move {
            // However it ends, the file is needed until then.
            let _ = watched.done().await;
            drop(incoming);
        });
        Ok(making)
    }

    /// Removes an image; sandboxes and snapshots that began with it keep its layers. `false`: there is none.
    ///
    /// # Errors
    /// When it is being made, or cannot be removed.
    pub async fn remove_image(&self, name: &str) -> Result<bool, SandboxError> {
        may_be_named(name)?;
        Ok(self.inner.core.remove_image(name).await?)
    }
}

/// Files of images that were being made when an earlier node ended.
pub(super) fn clear_incoming(folder: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(folder.join(INCOMING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn may_be_named(name: &str) -> Result<(), SandboxError> {
    match is_build(name) {
        true => Err(SandboxError::Invalid(format!("{name} is the name of a template's build"))),
        false => Ok(()),
    }
}
