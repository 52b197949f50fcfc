//! What a sandbox was, and what others began with: snapshots, forks, differences, commands.

use std::collections::BTreeMap;

use skep_sandbox::{Boxed, Command, FileChange, Input, Merged, Note, Past, Running, Snapshot, SnapshotId};

use super::{Facts, Owned, SandboxError, Sandboxes, create::token, life::ends_in};

/// Sandboxes that one call forks.
const FORKS_MAX: u32 = 100;

impl Sandboxes {
    /// Snapshots of sandboxes of this owner, newest first; of all, where nobody is named.
    ///
    /// # Errors
    /// When the database fails.
    pub fn snapshots(&self, owner: Option<&str>) -> Result<Vec<Snapshot>, SandboxError> {
        let owners = self.inner.records.snapshot_owners()?;
        let mut found = self.inner.core.snapshots();
        found.retain(|snapshot| match (owner, owners.get(snapshot.id.as_str())) {
            (None, Some(_)) => true,
            (Some(asked), Some(owner)) => asked == owner,
            // Those that a command's history took belong to the history.
            (_, None) => false,
        });
        found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.taken_ms));
        Ok(found)
    }

    /// A snapshot by its id or name; of this owner, where one is named.
    ///
    /// # Errors
    /// When the database fails.
    pub fn find_snapshot(&self, owner: Option<&str>, text: &str) -> Result<Option<Snapshot>, SandboxError> {
        let known = |snapshot: &Snapshot| snapshot.id.as_str() == text || snapshot.name.as_deref() == Some(text);
        Ok(self.snapshots(owner)?.into_iter().find(known))
    }

    /// Forgets a snapshot. Sandboxes that began with it go on.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub async fn remove_snapshot(&self, id: &SnapshotId) -> Result<bool, SandboxError> {
        let known = self.inner.core.remove_snapshot(id).await?;
        self.inner.records.remove_snapshot(id)?;
        self.inner.snapshots_changed();
        Ok(known)
    }

    /// The files of a sandbox at one moment, under a name of its owner's.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub async fn snapshot(&self, of: &Owned, name: Option<&str>) -> Result<Snapshot, SandboxError> {
        let (this, of, name) = (self.clone(), of.clone(), name.map(str::to_owned));
        let taken = tokio::spawn(async move {
            let snapshot = of.boxed().snapshot(name.as_deref()).await?;
            // Until this stands it is nobody's, and is not shown.
            let facts = of.facts();
            this.inner.records.own_snapshot(&snapshot.id, &facts.owner, &facts.setup)?;
            this.inner.snapshots_changed();
            Ok(snapshot)
        });
        taken.await.unwrap_or(Err(SandboxError::Here("taking a snapshot broke off")))
    }

    /// Sandboxes that begin with the files of this one, for `timeout_ms` each; one answer for each.
    pub async fn fork(&self, of: &Owned, owner: &str, count: u32, timeout_ms: Option<u64>) -> Vec<Result<Owned, SandboxError>> {
        self.fork_as(of, owner, vec![of.facts().metadata; count.min(FORKS_MAX + 1) as usize], timeout_ms).await
    }

    /// The same: one for each of these metadata.
    pub(super) async fn fork_as(
        &self,
        of: &Owned,
        owner: &str,
        metadata: Vec<BTreeMap<String, String>>,
        timeout_ms: Option<u64>,
    ) -> Vec<Result<Owned, SandboxError>> {
        let count = u32::try_from(metadata.len()).unwrap_or(u32::MAX);
        if !(1..=FORKS_MAX).contains(&count) {
            return vec![Err(SandboxError::Invalid(format!("a call makes 1 to {FORKS_MAX} forks")))];
        }
        let most = self.inner.config.sandboxes_max;
        if self.inner.held.read().len() + count as usize > most {
            return vec![Err(SandboxError::Full(most))];
        }
        let (this, of, owner) = (self.clone(), of.clone(), owner.to_owned());
        let forked = tokio::spawn(async move {
            let mut forks = Vec::new();
            for (made, metadata) in of.boxed().fork(count, true).await.into_iter().zip(metadata) {
                forks.push(match made {
                    Ok(boxed) => this.own(boxed, &Facts { metadata, ..of.facts() }, &owner, timeout_ms).await,
                    Err(error) => Err(error.into()),
                });
            }
            forks
        });
        forked.await.unwrap_or_else(|_| vec![Err(SandboxError::Here("forking broke off"))])
    }

    /// A fork gets tokens of its own: who may speak to its parent may not speak to it.
    async fn own(&self, boxed: Boxed, parent: &Facts, owner: &str, timeout_ms: Option<u64>) -> Result<Owned, SandboxError> {
        let now = crate::now_ms();
        let facts = Facts {
            owner: owner.to_owned(),
            envd_token: parent.envd_token.as_ref().map(|_| token()).transpose()?,
            traffic_token: parent.traffic_token.as_ref().map(|_| token()).transpose()?,
            timeout_ms,
            created_ms: now,
            started_ms: now,
            ..parent.clone()
        };
        let id = boxed.id().clone();
        let ends = timeout_ms.map(ends_in).transpose()?;
        let written = self.inner.records.put(&id, &facts);
        let begun = match written {
            Ok(()) => boxed.happen(Input::Until(ends)).await.map_err(SandboxError::from),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = begun {
            let _ = boxed.happen(Input::Remove).await;
            let _ = self.inner.records.remove(&id);
            return Err(error);
        }
        let fork = self.inner.hold(boxed, facts);
        let begun = match fork.attach().await {
            Ok(()) => fork.begin().await,
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            // Without its device, or what its template starts, it is not what was asked for.
            let _ = fork.remove().await;
            return Err(error);
        }
        Ok(fork)
    }
}

impl Owned {
    /// What it has changed of what it began with.
    ///
    /// # Errors
    /// When its files cannot be looked at.
    pub async fn diff(&self) -> Result<Vec<FileChange>, SandboxError> {
        Ok(self.boxed().diff().await?)
    }

    /// Brings what it changed into the sandbox that it is a fork of.
    ///
    /// # Errors
    /// When it is no fork, or its parent does not run.
    pub async fn commit_back(&self) -> Result<Merged, SandboxError> {
        Ok(self.boxed().commit_back().await?)
    }

    /// Runs a command and writes it down; its number.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn exec(&self, command: Command, note: Note) -> Result<(u64, Running), SandboxError> {
        Ok(self.boxed().exec(command, note).await?)
    }

    /// Every command that was run through [`Self::exec`], in order.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub async fn history(&self) -> Result<Vec<Past>, SandboxError> {
        Ok(self.boxed().history().await?)
    }

    /// The snapshot that was taken before a command becomes one of its owner's: shown, begun with and removed like the others. Once only.
    pub(super) async fn own_snapshot_before(&self, number: u64) -> Result<Option<SnapshotId>, SandboxError> {
        let taken = self.snapshot_before(number).await?;
        if let Some(id) = &taken {
            let facts = self.facts();
            self.records().own_snapshot(id, &facts.owner, &facts.setup)?;
        }
        Ok(taken)
    }

    /// The files as they were before a command, if a snapshot was taken then.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub async fn snapshot_before(&self, number: u64) -> Result<Option<SnapshotId>, SandboxError> {
        Ok(self.boxed().snapshot_before(number).await?)
    }
}
