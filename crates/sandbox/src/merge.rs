//! What becomes of a fork's changes in the sandbox it was forked from: taken, the same already, or in conflict. Pure.
//!
//! Three ways: what both began with, what the sandbox has now, what the fork has. It is not: how the three are looked at, or how what is taken is
//! applied (`commit.rs`).

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::wire::EntryKind;

/// What there is at a path, as far as it matters whether it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub kind: EntryKind,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    /// Of a file its bytes, of a link its target; of a folder that is to go as a whole, all that is in it. As their BLAKE3.
    pub content: Option<[u8; 32]>,
}

/// One path that the fork changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Absolute.
    pub path: PathBuf,
    /// What both began with.
    pub base: Option<Facts>,
    /// What the sandbox has.
    pub ours: Option<Facts>,
    /// What the fork has.
    pub theirs: Option<Facts>,
    /// Whether the sandbox has the folder that this is in.
    pub home: bool,
}

/// Why a path was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Both changed it, differently.
    Changed,
    /// Both made it, differently.
    Added,
    /// One changed what the other removed.
    Removed,
    /// The folder that it would be in is not there, or is something else.
    Ancestor,
    /// Its name is no text, so that the sandbox cannot be told of it.
    Name,
    /// It is a pipe or a socket, which only programs make.
    Kind,
    /// The sandbox refused it.
    Refused(String),
}

/// A path that was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Absolute; bytes that are no text are replaced.
    pub path: String,
    /// Why.
    pub why: Why,
}

/// What is to be done about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    Same,
    Conflict(Why),
}

/// Judges all changes, which are in the order of their paths.
pub(crate) fn judge(changes: &[Changed]) -> Vec<Verdict> {
    let mut made: BTreeSet<&Path> = BTreeSet::new();
    let mut judged = Vec::new();
    for change in changes {
        let home = change.home || change.path.parent().is_some_and(|folder| made.contains(folder));
        let verdict = judge_one(change, home);
        if verdict == Verdict::Take && change.theirs.as_ref().is_some_and(|theirs| theirs.kind == EntryKind::Folder) {
            made.insert(&change.path);
        }
        judged.push(verdict);
    }
    judged
}

fn judge_one(change: &Changed, home: bool) -> Verdict {
    let Changed { path, base, ours, theirs, .. } = change;
    if ours == theirs {
        return Verdict::Same;
    }
    if path.to_str().is_none() {
        return Verdict::Conflict(Why::Name);
    }
    if theirs.as_ref().is_some_and(|theirs| theirs.kind == EntryKind::Other) {
        return Verdict::Conflict(Why::Kind);
    }
    if base != ours {
        return Verdict::Conflict(match (base, ours, theirs) {
            (None, _, _) => Why::Added,
            (_, None, _) | (_, _, None) => Why::Removed,
            _ => Why::Changed,
        });
    }
    if theirs.is_some() && !home { Verdict::Conflict(Why::Ancestor) } else { Verdict::Take }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn facts(content: u8) -> Facts {
        Facts { kind: EntryKind::File, mode: 0o644, user: 1, group: 1, content: Some([content; 32]) }
    }

    fn one(base: Option<u8>, ours: Option<u8>, theirs: Option<u8>) -> Verdict {
        let [base, ours, theirs] = [base, ours, theirs].map(|content| content.map(facts));
        judge(&[Changed { path: "/f".into(), base, ours, theirs, home: true }]).remove(0)
    }

    #[test]
    fn what_only_the_fork_changed_is_taken() {
        assert_eq!(one(Some(1), Some(1), Some(2)), Verdict::Take);
        assert_eq!(one(None, None, Some(2)), Verdict::Take);
        assert_eq!(one(Some(1), Some(1), None), Verdict::Take);
        assert_eq!(one(Some(1), Some(2), Some(2)), Verdict::Same);
        assert_eq!(one(Some(1), None, None), Verdict::Same);
        assert_eq!(one(Some(1), Some(2), Some(3)), Verdict::Conflict(Why::Changed));
        assert_eq!(one(Some(1), Some(2), None), Verdict::Conflict(Why::Removed));
        assert_eq!(one(Some(1), None, Some(2)), Verdict::Conflict(Why::Removed));
        assert_eq!(one(None, Some(1), Some(2)), Verdict::Conflict(Why::Added));
    }

    #[test]
    fn what_has_no_folder_to_be_in_is_a_conflict() {
        let folder = Facts { kind: EntryKind::Folder, content: None, ..facts(0) };
        let change =
            |path: &str, ours: Option<Facts>, theirs| Changed { path: path.into(), base: None, ours, theirs: Some(theirs), home: false };
        let made = [Changed { home: true, ..change("/d", None, folder.clone()) }, change("/d/f", None, facts(1))];
        assert_eq!(judge(&made), [Verdict::Take, Verdict::Take]);
        let blocked = [Changed { home: true, ..change("/d", Some(facts(9)), folder) }, change("/d/f", None, facts(1))];
        assert_eq!(judge(&blocked), [Verdict::Conflict(Why::Added), Verdict::Conflict(Why::Ancestor)]);
        let name = std::os::unix::ffi::OsStrExt::from_bytes(b"/\xff");
        let name: &std::ffi::OsStr = name;
        assert_eq!(judge(&[Changed { path: name.into(), home: true, ..change("/x", None, facts(1)) }]), [Verdict::Conflict(Why::Name)]);
    }

    proptest! {
        /// Of files: what the sandbox alone has changed is never touched, and what is taken is what the fork has.
        #[test]
        fn nobody_s_change_is_lost(paths in proptest::collection::btree_map("[a-c]", proptest::array::uniform3(proptest::option::of(0..3u8)), 0..4)) {
            let changes: Vec<Changed> = paths.iter().filter(|(_, [base, _, theirs])| base != theirs).map(|(path, [base, ours, theirs])| {
                Changed { path: Path::new("/").join(path), base: base.map(facts), ours: ours.map(facts), theirs: theirs.map(facts), home: true }
            }).collect();
            let verdicts: BTreeMap<&Path, Verdict> = changes.iter().map(|change| &*change.path).zip(judge(&changes)).collect();
            for (path, [base, ours, theirs]) in &paths {
                let after = match verdicts.get(&*Path::new("/").join(path)) {
                    Some(Verdict::Take) => theirs,
                    _ => ours,
                };
                if base != ours {
                    prop_assert_eq!(after, ours);
                } else {
                    prop_assert_eq!(after, theirs);
                }
            }
        }
    }
}
