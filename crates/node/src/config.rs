//! What one can set about a node. Every field has a default that suits one machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skep_actor::log::{Settings, Trust};
use skep_gateway::Egress;
use skep_isolate::{EngineConfig, Limits};

/// The node's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of everything that lasts: databases, modules, keys, compiled code. One node to a folder. Default `.skep`.
    pub data: PathBuf,
    /// The domain below which workers answer by host, `<name>.<domain>`. Default `localhost`, which browsers resolve to this
    /// machine by themselves.
    pub domain: String,
    /// The limits of every isolate. A worker or a caller may ask for less: the lower wins.
    pub limits: Limits,
    /// The engine below: slots, native stacks, threads.
    pub engine: EngineConfig,
    /// A guest image other than the one of this build, for work on the guest (`xtask image` makes them). Default none.
    pub image: Option<PathBuf>,
    /// How many isolates are kept.
    pub pool: PoolConfig,
    /// What is taken as code.
    pub code: CodeConfig,
    /// What leaves the node.
    pub egress: Egress,
    /// Actors: how long they stay awake, how many, how far their past goes. `dir` is within the data folder. Default folder `actors`.
    pub actors: skep_actor::Config,
    /// Sandboxes: how tight, how much each may use, how many. `dir` is within the data folder.
    pub sandboxes: SandboxesConfig,
    /// The log that makes what actors do last. Its folder is `log` in that of the actors.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from(".skep"),
            domain: "localhost".to_owned(),
            limits: Limits::default(),
            engine: EngineConfig::default(),
            image: None,
            pool: PoolConfig::default(),
            code: CodeConfig::default(),
            egress: Egress::Public,
            actors: skep_actor::Config::default(),
            sandboxes: SandboxesConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// Sandboxes. What a caller does not ask for is decided here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxesConfig {
    /// Whether the node has any, where the host has the fences. Default true.
    pub enabled: bool,
    /// Their folder, within the data folder: on a disk that an overlay can lie on. Default `sandboxes`.
    pub dir: PathBuf,
    /// Whether they are `strict`: one user, no capability, every fence demanded; else `workstation`: root within its own ids. Default false.
    pub strict: bool,
    /// Memory of one, MiB. Default 512.
    pub memory_mb: u64,
    /// Computing time of one, in thousandths of a core. Default 2,000.
    pub cpu_millis: u32,
    /// Processes and threads of one. Default 1,024.
    pub pids: u32,
    /// `/run` and `/dev/shm` of one together, MiB, counted in its memory. Default 64.
    pub tmp_mb: u64,
    /// What one keeps on the disk of that which it changes, MiB. Where the data folder's file system does not keep to such bounds (the fence
    /// `disk_quota` of `skep doctor`) no sandbox is started then, unless `disk_counted`. Default: no bound.
    pub disk_mb: Option<u64>,
    /// Files and folders that one makes or changes; the same holds. Default: no bound.
    pub inodes: Option<u64>,
    /// Whether it will do, where the fence is missing, that these two are looked at every few seconds: over them the node writes no files into the
    /// sandbox, whose own programs are not held back. Default false.
    pub disk_counted: bool,
    /// Most sandboxes, in whatever state. Default 2,000.
    pub sandboxes_max: usize,
    /// Whether the template `base` is made at the start, unless it is there: the host's programs, and what of bash, git, curl, python, node is missing
    /// among them. Else `base` is the host's programs as they are. Default false.
    pub make_base: bool,
    /// Object storage that snapshots are saved to. Default none: they are on this node's disk alone.
    pub chunks: Option<ChunksConfig>,
}

/// A bucket, or a part of one, that is this node's alone. The store speaks S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunksConfig {
    /// Where the store answers: `https://s3.eu-central-1.amazonaws.com`. Without TLS only on this machine.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// What keys begin with. Default nothing.
    #[serde(default)]
    pub prefix: String,
    /// Default `us-east-1`, which is what stores without regions take.
    #[serde(default = "usual_region")]
    pub region: String,
    /// Whether the bucket is a part of the path and not of the host, as stores of one's own often have it. Default false.
    #[serde(default)]
    pub path_style: bool,
    /// A file with `aws_access_key_id = …` and `aws_secret_access_key = …` (and perhaps `aws_session_token = …`), readable by its owner only.
    pub credentials: PathBuf,
}

fn usual_region() -> String {
    "us-east-1".to_owned()
}

impl Default for SandboxesConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: PathBuf::from("sandboxes"),
            strict: false,
            memory_mb: 512,
            cpu_millis: 2_000,
            pids: 1_024,
            tmp_mb: 64,
            disk_mb: None,
            inodes: None,
            disk_counted: false,
            sandboxes_max: 2_000,
            make_base: false,
            chunks: None,
        }
    }
}

/// How many isolates are kept and how they are shared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Most live isolates of deployed workers. When a further one is needed, the one that was idle longest goes; when none is idle, the
    /// request is refused. Default 1,000.
    pub isolates_max: usize,
    /// Most isolates of one worker version: JavaScript is single-threaded, so more than there are cores gains nothing. Default: the
    /// number of cores.
    pub isolates_per_worker_max: usize,
    /// Requests that one isolate serves at once before another isolate is started. Default 32.
    pub requests_per_isolate: usize,
    /// Requests that one isolate serves at once at most; beyond it they are refused. Default 1,024.
    pub requests_per_isolate_max: usize,
    /// Snippets that run at once; beyond it they wait. Default 256.
    pub executes_max: usize,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            isolates_max: 1_000,
            isolates_per_worker_max: std::thread::available_parallelism().map_or(1, usize::from),
            requests_per_isolate: 32,
            requests_per_isolate_max: 1_024,
            executes_max: 256,
        }
    }
}

/// The log of the actors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Bytes of one of its files, 4 KiB to 1 GiB; space is reserved, and given back, by files. Default 64 MiB.
    pub segment_bytes: u64,
    /// Bytes beyond which records are brought to the files of their actors, so that the log can give space back. Default 256 MiB.
    pub log_bytes: u64,
    /// Bytes that may wait to be written; beyond it, actors are told that the disk is full. Default 64 MiB.
    pub queue_bytes: usize,
    /// Whether new files are filled with zeros first, so that a sync has nothing but data to write. Default true.
    pub fill: bool,
    /// Whether a folder is taken that may not keep the promise of a sync: in memory, on a network, in a program. What is acknowledged may then
    /// be lost with the power. Default false: such a node does not start.
    pub trust_any_folder: bool,
    /// Whether a log is opened that has lost acknowledged records of actors that cannot be named. Default false: such a node does not start.
    pub accept_losses: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        let Settings { segment_bytes, log_bytes, queue_bytes, fill, accept_losses, .. } = Settings::default();
        Self { segment_bytes, log_bytes, queue_bytes, fill, trust_any_folder: false, accept_losses }
    }
}

impl LogConfig {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            segment_bytes: self.segment_bytes,
            log_bytes: self.log_bytes,
            queue_bytes: self.queue_bytes,
            fill: self.fill,
            trust: if self.trust_any_folder { Trust::Anything } else { Trust::LocalDisk },
            accept_losses: self.accept_losses,
            ..Settings::default()
        }
    }
}

/// What is taken as code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodeConfig {
    /// Most modules of a version. Default 1,000.
    pub modules_max: usize,
    /// Most bytes of all bindings of a version. Default 1 MiB.
    pub bindings_bytes_max: usize,
    /// Versions kept of each worker; the oldest go first, the active one never. Default 50.
    pub versions_max: u32,
    /// Compile children at once. Default 2.
    pub compile_children_max: usize,
    /// Whether code is compiled only where every fence around the compile child stands (Landlock, seccomp, …; `skep doctor` shows
    /// them). Otherwise those stand that the kernel has. Default false.
    pub compile_fences_required: bool,
}

impl Default for CodeConfig {
    fn default() -> Self {
        Self { modules_max: 1_000, bindings_bytes_max: 1 << 20, versions_max: 50, compile_children_max: 2, compile_fences_required: false }
    }
}
