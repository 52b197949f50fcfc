//! The messages of `process.proto` and `filesystem.proto` as JSON. Pure.
//!
//! Fields may be missing (then they are the type's zero), unknown ones are passed over, numbers may be text: so says the mapping of protocol
//! buffers to JSON. What is zero is not written.

use std::collections::BTreeMap;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use skep_sandbox::{ChangeKind, Entry, EntryKind, Status};

/// Both alphabets, padded or not.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Empty {}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessConfig {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_zero")]
    pub cmd: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_zero")]
    pub args: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_zero")]
    pub envs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pty {
    pub size: Option<Size>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Size {
    #[serde(deserialize_with = "number")]
    pub cols: u32,
    #[serde(deserialize_with = "number")]
    pub rows: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StartRequest {
    pub process: Option<ProcessConfig>,
    pub pty: Option<Pty>,
    pub tag: Option<String>,
    pub stdin: Option<bool>,
}

/// One of both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Selector {
    #[serde(deserialize_with = "number_or_none")]
    pub pid: Option<u32>,
    pub tag: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Selected {
    pub process: Option<Selector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct UpdateRequest {
    pub process: Option<Selector>,
    pub pty: Option<Pty>,
}

/// One of both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProcessInput {
    #[serde(deserialize_with = "bytes")]
    pub stdin: Option<Vec<u8>>,
    #[serde(deserialize_with = "bytes")]
    pub pty: Option<Vec<u8>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SendInputRequest {
    pub process: Option<Selector>,
    pub input: Option<ProcessInput>,
}

/// One of the three.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StreamInputRequest {
    pub start: Option<Selected>,
    pub data: Option<InputData>,
    pub keepalive: Option<Empty>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct InputData {
    pub input: Option<ProcessInput>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SendSignalRequest {
    pub process: Option<Selector>,
    pub signal: Enumeration,
}

/// By name or by number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Enumeration {
    Name(String),
    Number(i64),
}

impl Default for Enumeration {
    fn default() -> Self {
        Self::Number(0)
    }
}

#[derive(Debug, Serialize)]
pub struct ListResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessInfo>,
}

#[derive(Debug, Serialize)]
pub struct ProcessInfo {
    pub config: ProcessConfig,
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// What a stream of a command or of a watch tells.
#[derive(Debug, Serialize)]
pub struct Told<E> {
    pub event: E,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessEvent {
    Start { pid: u32 },
    End(EndEvent),
    Keepalive {},
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndEvent {
    #[serde(skip_serializing_if = "is_zero")]
    pub exit_code: i32,
    #[serde(skip_serializing_if = "is_false")]
    pub exited: bool,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl EndEvent {
    /// As Go says it, whose words the packages show.
    pub fn of(status: Status) -> Self {
        match status {
            Status::Code(code) => {
                let status = format!("exit status {code}");
                Self { exit_code: code, exited: true, error: (code != 0).then(|| status.clone()), status }
            }
            Status::Signal(signal) => {
                let status = format!("signal: {}", signal_name(signal));
                Self { exit_code: -1, exited: false, error: Some(status.clone()), status }
            }
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct OnPath {
    #[serde(deserialize_with = "or_zero")]
    pub path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct MoveRequest {
    #[serde(deserialize_with = "or_zero")]
    pub source: String,
    #[serde(deserialize_with = "or_zero")]
    pub destination: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListDirRequest {
    #[serde(deserialize_with = "or_zero")]
    pub path: String,
    #[serde(deserialize_with = "number")]
    pub depth: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WatchRequest {
    #[serde(deserialize_with = "or_zero")]
    pub path: String,
    #[serde(deserialize_with = "or_zero")]
    pub recursive: bool,
    #[serde(alias = "include_entry", deserialize_with = "or_zero")]
    pub include_entry: bool,
    #[serde(alias = "allow_network_mounts", deserialize_with = "or_zero")]
    pub allow_network_mounts: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WatcherRequest {
    #[serde(alias = "watcher_id", deserialize_with = "or_zero")]
    pub watcher_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateWatcherResponse {
    pub watcher_id: String,
}

#[derive(Debug, Serialize)]
pub struct WatcherEvents {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<FilesystemEvent>,
}

/// Of `WatchDir`: one of the three, without anything around it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchEvent {
    Start {},
    Filesystem(Box<FilesystemEvent>),
    Keepalive {},
}

#[derive(Clone, Debug, Serialize)]
pub struct FilesystemEvent {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryInfo>,
}

/// The name of what happened.
pub fn event_type(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Created => "EVENT_TYPE_CREATE",
        ChangeKind::Written => "EVENT_TYPE_WRITE",
        ChangeKind::Removed => "EVENT_TYPE_REMOVE",
        ChangeKind::Renamed => "EVENT_TYPE_RENAME",
        ChangeKind::Attributes => "EVENT_TYPE_CHMOD",
    }
}

#[derive(Debug, Serialize)]
pub struct OneEntry {
    pub entry: EntryInfo,
}

#[derive(Debug, Serialize)]
pub struct ListDirResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<EntryInfo>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryInfo {
    pub name: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    pub path: String,
    /// 64 bits are text in JSON.
    pub size: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    pub permissions: String,
    pub owner: String,
    pub group: String,
    pub modified_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl From<Entry> for EntryInfo {
    /// A link is shown as what it leads to; its target is the end of the way, or the link itself where that leads nowhere.
    fn from(entry: Entry) -> Self {
        let permissions = permissions(entry.kind, entry.mode);
        let (kind, mode, symlink_target) = match (entry.kind, &entry.leads) {
            (EntryKind::Link, Some(leads)) => (file_type(leads.kind), leads.mode & 0o777, Some(leads.path.clone())),
            (EntryKind::Link, None) => (None, 0, Some(entry.path.clone())),
            (kind, _) => (file_type(kind), entry.mode & 0o777, None),
        };
        Self {
            name: name(&entry.path).to_owned(),
            kind,
            size: entry.bytes.to_string(),
            mode,
            permissions,
            owner: entry.owner,
            group: entry.group_name,
            modified_time: timestamp(entry.modified_ms),
            symlink_target,
            metadata: entry.metadata,
            path: entry.path,
        }
    }
}

fn file_type(kind: EntryKind) -> Option<&'static str> {
    match kind {
        EntryKind::File => Some("FILE_TYPE_FILE"),
        EntryKind::Folder => Some("FILE_TYPE_DIRECTORY"),
        EntryKind::Link => Some("FILE_TYPE_SYMLINK"),
        EntryKind::Other => None,
    }
}

/// The last part of a path.
pub fn name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        Some("") | None => "/",
        Some(name) => name,
    }
}

/// As Go writes them: what is special first, then three times what may be done.
fn permissions(kind: EntryKind, mode: u32) -> String {
    let mut text = String::new();
    text.push_str(match kind {
        EntryKind::File => "",
        EntryKind::Folder => "d",
        EntryKind::Link => "L",
        EntryKind::Other => "?",
    });
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g'), (0o1000, 't')] {
        if mode & bit != 0 {
            text.push(letter);
        }
    }
    if text.is_empty() {
        text.push('-');
    }
    for bit in (0..9).rev() {
        text.push(if mode & (1 << bit) != 0 { ['x', 'w', 'r'][bit % 3] } else { '-' });
    }
    text
}

/// RFC 3339, in universal time.
pub fn timestamp(ms: i64) -> String {
    // What no calendar of four digits has.
    let ms = ms.clamp(-62_135_596_800_000, 253_402_300_799_999);
    let (seconds, millis) = (ms.div_euclid(1_000), ms.rem_euclid(1_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of the year 0, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

fn is_false(value: &bool) -> bool {
    !value
}

/// `null` is what is not there.
fn or_zero<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numeral {
    Number(f64),
    Text(String),
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Ok(number_or_none(from)?.unwrap_or_default())
}

fn number_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let number = match Option::<Numeral>::deserialize(from)? {
        None => return Ok(None),
        Some(Numeral::Number(number)) => number,
        Some(Numeral::Text(text)) => text.parse().map_err(|_| D::Error::custom("is no number"))?,
    };
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    if fits { Ok(Some(number as u32)) } else { Err(D::Error::custom("is no number of 32 bits without sign")) }
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<std::borrow::Cow<'de, str>>::deserialize(from)? else { return Ok(None) };
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode(text.as_bytes()).map(Some).map_err(|_| D::Error::custom("is no base64"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_are_read_as_protocol_buffers_say() {
        let start: StartRequest = serde_json::from_value(json!({
            "process": {"cmd": "/bin/bash", "args": ["-l"], "envs": {"A": "b"}, "cwd": null, "later": 1},
            "pty": {"size": {"cols": "80", "rows": 24.0}}, "stdin": false, "tag": "x"
        }))
        .unwrap();
        let process = start.process.unwrap();
        assert_eq!((process.cmd.as_str(), process.args.len(), process.envs["A"].as_str(), process.cwd), ("/bin/bash", 1, "b", None));
        let size = start.pty.unwrap().size.unwrap();
        assert_eq!((size.cols, size.rows, start.stdin, start.tag.as_deref()), (80, 24, Some(false), Some("x")));
        let input: SendInputRequest = serde_json::from_value(json!({"process": {"pid": 7}, "input": {"stdin": "_-8"}})).unwrap();
        assert_eq!((input.process.unwrap().pid, input.input.unwrap().stdin), (Some(7), Some(vec![0xff, 0xef])));
        for hostile in [
            json!({"process": {"pid": -1}}),
            json!({"process": {"pid": 1e10}}),
            json!({"process": {"pid": 1.5}}),
            json!({"process": {"pid": {}}}),
        ] {
            assert!(serde_json::from_value::<Selected>(hostile.clone()).is_err(), "{hostile}");
        }
        assert!(serde_json::from_value::<ProcessInput>(json!({"stdin": "%%%"})).is_err());
    }

    #[test]
    fn ends_are_said_as_go_says_them() {
        let written = |status| serde_json::to_value(EndEvent::of(status)).unwrap();
        assert_eq!(written(Status::Code(0)), json!({"exited": true, "status": "exit status 0"}));
        assert_eq!(written(Status::Code(7)), json!({"exitCode": 7, "exited": true, "status": "exit status 7", "error": "exit status 7"}));
        assert_eq!(written(Status::Signal(9)), json!({"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(timestamp(1_795_305_599_999), "2026-11-21T23:59:59.999Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!((timestamp(i64::MIN).len(), timestamp(i64::MAX).as_str()), (24, "9999-12-31T23:59:59.999Z"));
    }

    #[test]
    fn permissions_are_written_as_go_writes_them() {
        assert_eq!(permissions(EntryKind::File, 0o644), "-rw-r--r--");
        assert_eq!(permissions(EntryKind::Folder, 0o755), "drwxr-xr-x");
        assert_eq!(permissions(EntryKind::Folder, 0o1777), "dtrwxrwxrwx");
        assert_eq!(permissions(EntryKind::Link, 0o777), "Lrwxrwxrwx");
        assert_eq!((name("/"), name("/a/b/"), name("/a")), ("/", "b", "a"));
    }
}
