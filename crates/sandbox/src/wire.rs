//! Packets between the node, its zygote and the sandboxes' inits: JSON, and descriptors beside it.
//!
//! One packet is one message (`SOCK_SEQPACKET`), so there is no framing to get wrong. Bytes of commands and files do not go through here:
//! a request carries the ends of pipes. Both sides refuse what they do not know; the node takes everything from a sandbox for hostile.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest packet: a plan with its volumes, or a page of a folder's entries. The kernel holds several of them for a socket.
pub(crate) const MOST_BYTES: usize = 64 << 10;

/// The longest request that goes beside a packet: what a program may be given at its start, and room.
pub(crate) const MOST_LONG: usize = 4 << 20;

/// Descriptors of one packet: those of cgroups, volumes, and the standard three.
pub(crate) const MOST_DESCRIPTORS: usize = 80;

/// Sends one packet. `WouldBlock`: the other side has not taken the earlier ones yet.
pub(crate) fn send(socket: impl AsFd, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MOST_BYTES || descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the packet is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes one packet. `None`: the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was longer than any of this protocol"));
    }
    Ok(Some((serde_json::from_slice(&buffer[..got.bytes])?, descriptors)))
}

/// What the node asks of init.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Chosen by the node; the answer has it.
    pub id: u64,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Ask {
    /// Start a command. Descriptors: standard input, output and error, without a terminal; none with one.
    Exec {
        argv: Vec<String>,
        env: BTreeMap<String, String>,
        cwd: Option<String>,
        user: u32,
        terminal: Option<PtySize>,
        /// What the node calls it, kept with the command.
        #[serde(default)]
        tag: Option<String>,
    },
    /// The commands that run, as lines of JSON ([`Active`]) into the pipe given.
    Commands,
    /// The user of this name.
    Account {
        name: String,
    },
    /// Send a signal to a command, or to its whole process group.
    Signal {
        pid: u32,
        signal: i32,
        group: bool,
    },
    /// Copy a file, or a part of it, into the pipe given.
    Read {
        path: String,
        user: u32,
        /// The first byte.
        #[serde(default)]
        from: u64,
        /// At most so many bytes.
        #[serde(default)]
        most: Option<u64>,
    },
    /// Copy the pipe given into a file.
    Write {
        path: String,
        user: u32,
        mode: u32,
        parents: bool,
        #[serde(default)]
        how: Writing,
        /// All bytes are in the pipe already: the answer comes when they are in the file.
        #[serde(default)]
        at_once: bool,
        /// Replaces what people wrote about the file; `None` leaves it.
        #[serde(default)]
        metadata: Option<BTreeMap<String, String>>,
    },
    /// Files one after the other into a new one; they are gone afterwards.
    Compose {
        from: Vec<String>,
        path: String,
        user: u32,
    },
    /// Changes below a folder, as lines of JSON ([`Noticed`]) into the pipe given. Ends when nobody reads the pipe any more.
    Watch {
        path: String,
        user: u32,
        watching: Watching,
    },
    /// What has changed so far is in the pipes of all watches when the answer comes.
    Settle,
    /// Room on the disk.
    Space,
    /// One entry, a link itself.
    Stat {
        path: String,
        user: u32,
    },
    /// The entries of a folder, as lines of JSON into the pipe given; `depth` 1 is the folder's own.
    List {
        path: String,
        user: u32,
        depth: u32,
    },
    /// A folder, and those it is in.
    MakeFolder {
        path: String,
        user: u32,
    },
    Rename {
        from: String,
        to: String,
        user: u32,
    },
    /// A file, or a folder with all that is in it.
    Remove {
        path: String,
        user: u32,
    },
    /// A symbolic link.
    Link {
        path: String,
        target: String,
        user: u32,
    },
    /// Who something belongs to, what may be done with it (not of a link), and when its content changed, in seconds and nanoseconds.
    Attributes {
        path: String,
        user: u32,
        mode: Option<u32>,
        owner: u32,
        group: u32,
        modified: (i64, u32),
    },
    /// A connection to a port, at 127.0.0.1 or else ::1.
    Connect {
        port: u16,
    },
    /// The network device.
    Tun,
    /// End everything.
    Shutdown,
    /// A request that is too long for a packet: its JSON is in the file in memory that is the last of the descriptors.
    Long,
}

impl Ask {
    /// Whether nothing in it is a caller's to make long.
    pub(crate) fn surely_short(&self) -> bool {
        !matches!(self, Self::Exec { .. } | Self::Compose { .. } | Self::Write { metadata: Some(_), .. })
    }
}

/// How a file comes to have its new content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writing {
    /// Written beside and renamed: a reader sees one or the other.
    #[default]
    Whole,
    /// Written where it is: who watches the folder sees one file created and written.
    InPlace,
}

/// What is wanted of a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watching {
    /// Folders within, too, also those that come later.
    pub recursive: bool,
    /// With each change, what is there now.
    pub entries: bool,
    /// Also where changes made by others are not told: on network file systems.
    pub network: bool,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly all are changes, and one is looked at at a time")]
pub enum Noticed {
    /// Something changed.
    Change(Change),
    /// So much changed at once that some of it was not kept.
    Lost,
}

/// One change below a watched folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Where, seen from the watched folder; `.` is the folder itself.
    pub path: String,
    /// What happened.
    pub kind: ChangeKind,
    /// Whether it is, or was, a folder.
    #[serde(default)]
    pub folder: bool,
    /// Whether it is there because it was elsewhere before.
    #[serde(default)]
    pub moved: bool,
    /// What is there now, where that was wanted and something is.
    #[serde(default)]
    pub entry: Option<Entry>,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is there now, and was not.
    Created,
    /// Its content.
    Written,
    /// It is gone.
    Removed,
    /// It is elsewhere.
    Renamed,
    /// Its permissions, owner or times.
    Attributes,
}

/// A user of the sandbox, as its own files say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its number within.
    pub id: u32,
    /// Its first group's number within.
    pub group: u32,
    /// Its name.
    pub name: String,
    /// Its folder: an absolute path.
    pub home: String,
}

/// A command that was started for the node and runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Active {
    /// Its number within.
    pub pid: u32,
    /// What the node calls it.
    pub tag: Option<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables that it was given.
    pub env: BTreeMap<String, String>,
    /// Where it began, if that was said.
    pub cwd: Option<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// What init says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Said {
    /// To a request, at once.
    Answer { id: u64, answer: Result<Answer, Fault> },
    /// The copy that a `Read`, `Write` or `List` began has ended.
    Copied { id: u64, bytes: u64, fault: Option<Fault> },
    /// A command ended.
    Exited { pid: u32, status: Status },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Answer {
    /// With a terminal: its master beside.
    Started {
        pid: u32,
    },
    /// Of `Read`: the file's size and time; the copy goes on.
    Opened {
        bytes: u64,
        #[serde(default)]
        modified_ms: i64,
    },
    /// Of a `Write` at once.
    Written {
        bytes: u64,
    },
    Entry(Entry),
    Account(Account),
    /// In bytes.
    Space {
        total: u64,
        free: u64,
    },
    /// The socket, or the device, is beside.
    Connected,
    Done,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PtySize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// A file, folder or link as its folder has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Absolute, as asked for.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Of a file: bytes.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// The owner's inner id.
    pub user: u32,
    /// The group's inner id.
    pub group: u32,
    /// When its content changed, in milliseconds since 1970.
    pub modified_ms: i64,
    /// Of a link: where it leads.
    pub target: Option<String>,
    /// The owner's name, or its number.
    #[serde(default)]
    pub owner: String,
    /// The group's name, or its number.
    #[serde(default)]
    pub group_name: String,
    /// Of a link: what is at its end, if anything is.
    #[serde(default)]
    pub leads: Option<Leads>,
    /// What people wrote about it: the extended attributes `user.e2b.*`, without that.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// What a link leads to, over as many links as there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leads {
    /// Absolute, without any link.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Bytes.
    File,
    /// Entries.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// Why something within the sandbox was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Fault {
    /// For programs.
    pub kind: FaultKind,
    /// For people.
    pub message: String,
}

/// Why, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// There is no such file, command or process.
    NotFound,
    /// There is one already.
    Exists,
    /// A folder was needed.
    NotFolder,
    /// A file was needed.
    IsFolder,
    /// The user may not.
    Denied,
    /// The disk, or a limit on it, is full.
    Full,
    /// Links lead in a circle.
    Loop,
    /// Asked wrongly.
    Invalid,
    /// Nobody listens.
    Refused,
    /// Anything else; the message says what.
    Failed,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn of(what: &str, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FaultKind::NotFound,
            io::ErrorKind::AlreadyExists => FaultKind::Exists,
            io::ErrorKind::NotADirectory => FaultKind::NotFolder,
            io::ErrorKind::IsADirectory => FaultKind::IsFolder,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FaultKind::Full,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => FaultKind::Invalid,
            io::ErrorKind::ConnectionRefused => FaultKind::Refused,
            _ if error.raw_os_error() == Some(libc::ELOOP) => FaultKind::Loop,
            _ => FaultKind::Failed,
        };
        Self { kind, message: format!("{what}: {error}") }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn packets_and_their_descriptors_arrive_whole() {
        let (here, there) = pair();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let ask = Request { id: 7, ask: Ask::Connect { port: 80 } };
        send(&here, &ask, &[writer.as_fd()]).unwrap();
        drop((writer, here));
        let mut buffer = vec![0; MOST_BYTES + 1];
        let (got, given) = receive::<Request>(&there, &mut buffer).unwrap().unwrap();
        assert!(got.id == 7 && matches!(got.ask, Ask::Connect { port: 80 }) && given.len() == 1);
        rustix::io::write(&given[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&reader, &mut [0; 4]).unwrap(), 1);
        assert!(receive::<Request>(&there, &mut buffer).unwrap().is_none());
    }

    #[test]
    fn hostile_packets_are_errors() {
        let (here, there) = pair();
        let mut buffer = vec![0; MOST_BYTES + 1];
        for hostile in
            [&b"{"[..], b"null", br#"{"Exited":{"pid":-1,"status":{"code":0}}}"#, br#"{"Exited":{"pid":1,"status":{"code":0},"more":1}}"#]
        {
            rustix::io::write(&here, hostile).unwrap();
            assert!(receive::<Said>(&there, &mut buffer).is_err(), "{}", String::from_utf8_lossy(hostile));
        }
        rustix::io::write(&here, &vec![b' '; MOST_BYTES + 100]).unwrap();
        assert!(receive::<Said>(&there, &mut buffer).is_err());
        assert!(send(&here, &"x".repeat(MOST_BYTES), &[]).is_err());
    }
}
