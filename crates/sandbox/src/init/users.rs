//! Who a command or a file operation is for, as the sandbox's own files say. Those files are anybody's: read with bounds, and never trusted
//! with more than names and places.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
};

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::Within;
use crate::{
    range::Range,
    wire::{Account, Fault, FaultKind},
};

/// Of `passwd` and `group`.
const MOST_BYTES: u64 = 256 << 10;
/// As many as the kernel takes without allocating pages for them.
const MOST_GROUPS: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub id: u32,
    pub group: u32,
    pub groups: Vec<u32>,
    pub name: String,
    pub home: String,
    /// There are no other ids: it is always the one that init has, too, whatever it is called.
    pub single: bool,
}

/// The user of this id. One that no file knows has a group of the same number and no home.
pub(super) fn find(id: u32, within: Within) -> Result<User, Fault> {
    if id >= Range::LENGTH - 1 {
        return Err(Fault::new(FaultKind::Invalid, format!("there is no user {id}")));
    }
    if id == 0 && !within.profile.allows_root() {
        return Err(Fault::new(FaultKind::Denied, "the profile of this sandbox has no root"));
    }
    let user = named(id, &text("/etc/passwd"), &text("/etc/group"));
    Ok(if within.single { User { groups: vec![], single: true, ..user } } else { user })
}

/// The user of this name.
pub(super) fn account(name: &str, within: Within) -> Result<Account, Fault> {
    let unknown = || Fault::new(FaultKind::NotFound, format!("unknown user {name}"));
    let id = id_of(name, &text("/etc/passwd")).ok_or_else(unknown)?;
    let User { id, group, name, home, .. } = find(id, within)?;
    let home = if home.starts_with('/') && !home.contains('\0') { home } else { "/".to_owned() };
    Ok(Account { id, group, name, home })
}

fn id_of(name: &str, passwd: &str) -> Option<u32> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find_map(|fields| if fields.len() == 7 && fields[0] == name { fields[2].parse().ok() } else { None })
}

/// What ids are called, as of one moment.
pub(super) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub(super) fn read() -> Self {
        Self { users: numbered(&text("/etc/passwd")), groups: numbered(&text("/etc/group")) }
    }

    pub(super) fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    pub(super) fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// In both files the name is first and the number third; of several names of one number the first counts.
fn numbered(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(id).or_insert_with(|| name.chars().take(64).collect());
        }
    }
    names
}

fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn named(id: u32, passwd: &str, group: &str) -> User {
    let number = |field: &str| field.parse::<u32>().ok().filter(|number| *number < Range::LENGTH - 1);
    let mut user = User { id, group: id, groups: vec![], name: id.to_string(), home: "/".into(), single: false };
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, found, group, _, home, _] = fields[..]
            && number(found) == Some(id)
        {
            user = User { group: number(group).unwrap_or(id), name: name.into(), home: home.into(), ..user };
            break;
        }
    }
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, id, members] = fields[..] else { return None };
        members.split(',').any(|member| member == user.name).then(|| number(id)).flatten()
    };
    user.groups = group.lines().filter_map(member).take(MOST_GROUPS).collect();
    user
}

impl User {
    /// Does it with this user's rights, and takes them off again. Of this thread only.
    pub(super) fn does<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        if self.single {
            return Ok(work());
        }
        set_thread_groups(&self.gids())?;
        set_thread_res_gid(None, Some(Gid::from_raw(self.group)), None)?;
        set_thread_res_uid(None, Some(Uid::from_raw(self.id)), None)?;
        let done = work();
        let back = set_thread_res_uid(None, Some(Uid::ROOT), None).and_then(|()| set_thread_res_gid(None, Some(Gid::ROOT), None));
        if back.and_then(|()| set_thread_groups(&[])).is_err() {
            // Never another's rights for the next who asks.
            std::process::exit(1);
        }
        Ok(done)
    }

    pub(super) fn gids(&self) -> Vec<Gid> {
        self.groups.iter().map(|group| Gid::from_raw(*group)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn names_are_found_both_ways() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:/bin/sh\nuser2:x:1000:1000::/x:/y\nbad:x:nan:0:::\nshort:x:7\n";
        assert_eq!(
            (id_of("user", passwd), id_of("bad", passwd), id_of("", passwd), id_of("short", passwd)),
            (Some(1_000), None, None, None)
        );
        let names = numbered(passwd);
        assert_eq!((names[&1_000].as_str(), names[&0].as_str(), names.get(&7).map(String::as_str)), ("user", "root", Some("short")));
    }

    #[test]
    fn hostile_files_name_nobody_they_should_not() {
        let user = named(1_000, "evil:x:1000:4294967295::/:/bin/sh\n", "a:x:99999999:evil\nb:x:27:evil,x\n:::\nc:x:-1:evil\n");
        assert_eq!((user.group, user.groups, user.name.as_str()), (1_000, vec![27], "evil"));
        assert_eq!(named(7, "", "").home, "/");
        let of = |profile| Within { profile, single: false };
        assert_eq!(find(0, of(Profile::Strict)).unwrap_err().kind, FaultKind::Denied);
        assert_eq!(find(65_535, of(Profile::Workstation)).unwrap_err().kind, FaultKind::Invalid);
        assert_eq!(find(u32::MAX, of(Profile::Workstation)).unwrap_err().kind, FaultKind::Invalid);
    }
}
