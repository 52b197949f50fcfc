//! Carries a fork's changes back into the sandbox it was forked from.
//!
//! All three sides are looked at from outside, through layers; what is taken is applied by that sandbox's own init, with its ids and rights, one path
//! after the other, while it runs. It is not: the decision (`merge.rs`); nor a transaction: what else happens in the sandbox meanwhile happens.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, task::spawn_blocking};

use crate::{
    connection::RequestError,
    diff::{Change, Difference, Tree, differences, file, kind, lowers, target, trees},
    layer::Node,
    merge::{Changed, Conflict, Facts, Verdict, Why, judge},
    profile::Profile,
    sandbox::Sandbox,
    sandboxes::{Boxed, LifeError, lock},
    spec::Place,
    stack::Stack,
    state::State,
    wire::{Ask, EntryKind},
};

/// Entries of a folder that is to go as a whole; one with more is a conflict.
const MOST_ENTRIES: usize = 100_000;

/// What came of carrying changes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// What the sandbox has now as the fork has it.
    pub applied: Vec<Change>,
    /// What it had so already.
    pub same: Vec<String>,
    /// What was left alone.
    pub conflicts: Vec<Conflict>,
}

/// What is to be done, with what is needed to do it.
struct Plan {
    trees: Vec<Tree>,
    differences: Vec<Difference>,
    changes: Vec<Changed>,
}

impl Boxed {
    /// Carries what this fork has changed into the sandbox it was forked from, which must run: three ways, by path. What that sandbox has changed
    /// itself is left alone and reported.
    pub async fn commit_back(&self) -> Result<Merged, LifeError> {
        let origin = self.origin().await.ok_or(LifeError::NoFork)?;
        let parent = lock(&self.shared()?.boxes).get(&origin.sandbox).cloned().ok_or(LifeError::NoFork)?;
        let state = parent.state().borrow().clone();
        let sandbox = match (state, parent.sandbox().await) {
            (State::Running { .. }, Some(sandbox)) => sandbox,
            (state, _) => return Err(LifeError::Refused(state)),
        };
        // Held, so that what is read is not removed meanwhile.
        let life = self.inner.life.lock().await;
        let (theirs, ours) = (life.record.place.clone(), parent.inner.place.clone());
        let profile = parent.inner.life.lock().await.record.spec.profile;
        let plan = spawn_blocking(move || Plan::of(&theirs, &ours)).await.map_err(io::Error::other)??;
        Ok(plan.apply(&sandbox, profile).await)
    }
}

impl Plan {
    fn of(theirs: &Place, ours: &Place) -> io::Result<Self> {
        let trees = trees(theirs)?;
        let differences = differences(&trees)?;
        let lowers = lowers(ours);
        let mut stacks = Vec::new();
        for tree in &trees {
            let found = lowers.iter().find(|(at, ..)| Path::new(at) == tree.at);
            let (_, name, layers) = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the sandbox has no such tree"))?;
            stacks.push(Stack::live(&ours.folder.join("fs").join(name), layers)?);
        }
        let mut changes = Vec::new();
        for difference in &differences {
            let (tree, stack) = (&trees[difference.tree], &stacks[difference.tree]);
            let whole = difference.now.is_none();
            let home = difference.path.parent().map(|folder| stack.look(folder)).transpose()?.flatten();
            changes.push(Changed {
                path: difference.seen_at(&trees),
                base: seen(&tree.below, &difference.path, whole)?,
                ours: seen(stack, &difference.path, whole)?,
                theirs: difference.now.as_ref().map(|node| facts(&tree.upper, node)).transpose()?,
                home: home.is_some_and(|home| home.node.is_folder()),
            });
        }
        Ok(Self { trees, differences, changes })
    }

    async fn apply(self, sandbox: &Sandbox, profile: Profile) -> Merged {
        let mut merged = Merged::default();
        let mut folders = Vec::new();
        for ((change, difference), verdict) in self.changes.iter().zip(&self.differences).zip(judge(&self.changes)) {
            let path = change.path.to_string_lossy().into_owned();
            let why = match verdict {
                Verdict::Same => {
                    merged.same.push(path);
                    continue;
                }
                Verdict::Conflict(why) => why,
                Verdict::Take => match self.take(sandbox, profile, &path, change, difference).await {
                    Ok(()) => {
                        merged.applied.push(difference.change(&self.trees));
                        folders.extend(difference.now.as_ref().filter(|node| node.is_folder()).map(|node| (path, node)));
                        continue;
                    }
                    Err(error) => Why::Refused(error.to_string()),
                },
            };
            merged.conflicts.push(Conflict { path, why });
        }
        // After what is in them: a folder that its owner may not write to is filled before.
        for (path, node) in folders.into_iter().rev() {
            if let Err(error) = dress(sandbox, profile, &path, node).await {
                merged.conflicts.push(Conflict { path, why: Why::Refused(error.to_string()) });
            }
        }
        merged
    }

    async fn take(
        &self,
        sandbox: &Sandbox,
        profile: Profile,
        path: &str,
        change: &Changed,
        difference: &Difference,
    ) -> Result<(), RequestError> {
        let kind_of = |facts: &Option<Facts>| facts.as_ref().map(|facts| facts.kind);
        if let Some(ours) = &change.ours
            && (kind_of(&change.theirs) != Some(ours.kind) || ours.kind == EntryKind::Link)
        {
            sandbox.remove_file(path, acting(profile, ours.user)).await?;
        }
        let (Some(theirs), Some(node)) = (&change.theirs, &difference.now) else { return Ok(()) };
        let (upper, user) = (&self.trees[difference.tree].upper, acting(profile, theirs.user));
        match theirs.kind {
            EntryKind::Folder if kind_of(&change.ours) == Some(EntryKind::Folder) => return Ok(()),
            EntryKind::Folder => return sandbox.make_folder(path, user).await.map(drop),
            EntryKind::File => send(sandbox, path, user, file(upper, &node.path)?, node.mode).await?,
            EntryKind::Link => {
                let target = String::from_utf8(target(upper, &node.path)?);
                let target = target.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the link's target is no text"))?;
                sandbox.done(Ask::Link { path: path.to_owned(), target, user }).await?;
            }
            EntryKind::Other => return Ok(()),
        }
        dress(sandbox, profile, path, node).await
    }
}

/// Who does it: root of the sandbox where there is one, else whoever it belongs to.
fn acting(profile: Profile, owner: u32) -> u32 {
    if profile.allows_root() { 0 } else { owner }
}

async fn send(sandbox: &Sandbox, path: &str, user: u32, file: File, mode: u32) -> Result<(), RequestError> {
    let (mut pipe, copied) = sandbox.write(path, user, mode & 0o777).await?;
    let sent = tokio::io::copy(&mut tokio::fs::File::from_std(file), &mut pipe).await;
    pipe.shutdown().await?;
    drop(pipe);
    copied.await.map_err(|_| RequestError::Gone)??;
    sent?;
    Ok(())
}

async fn dress(sandbox: &Sandbox, profile: Profile, path: &str, node: &Node) -> Result<(), RequestError> {
    let user = acting(profile, node.user);
    let mode = (kind(node) != EntryKind::Link).then_some(node.mode);
    let (owner, group, modified) = (node.user, node.group, node.stamp.modified);
    sandbox.done(Ask::Attributes { path: path.to_owned(), user, mode, owner, group, modified }).await
}

/// What a stack shows at a path; `whole`: with all that is in it.
fn seen(stack: &Stack, path: &Path, whole: bool) -> io::Result<Option<Facts>> {
    let Some(seen) = stack.look(path)? else { return Ok(None) };
    let mut facts = facts(stack.root(seen.layer), &seen.node)?;
    if whole && seen.node.is_folder() {
        let mut hasher = blake3::Hasher::new();
        below(stack, path, &mut hasher, &mut 0)?;
        facts.content = Some(*hasher.finalize().as_bytes());
    }
    Ok(Some(facts))
}

fn below(stack: &Stack, folder: &Path, hasher: &mut blake3::Hasher, count: &mut usize) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in stack.names(&folder)? {
            *count += 1;
            if *count > MOST_ENTRIES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} holds too much to be compared", folder.display())));
            }
            let Some(seen) = stack.look(&path)? else { continue };
            let facts = facts(stack.root(seen.layer), &seen.node)?;
            let name = path.as_os_str().as_bytes();
            hasher.update(&u64::try_from(name.len()).unwrap_or(0).to_le_bytes()).update(name).update(format!("{facts:?}").as_bytes());
            if seen.node.is_folder() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

fn facts(root: &OwnedFd, node: &Node) -> io::Result<Facts> {
    let kind = kind(node);
    let content = match kind {
        EntryKind::File => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file(root, &node.path)?)?;
            Some(*hasher.finalize().as_bytes())
        }
        EntryKind::Link => Some(*blake3::hash(&target(root, &node.path)?).as_bytes()),
        EntryKind::Folder | EntryKind::Other => None,
    };
    Ok(Facts { kind, mode: node.mode, user: node.user, group: node.group, content })
}
