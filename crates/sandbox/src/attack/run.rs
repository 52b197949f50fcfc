//! Knocks at every door from within sandboxes of this very host, and tells which are open: for operators, without a node.

use std::{fs, io, path::Path};

use skep_id::SandboxId;

use super::{ARGUMENT, CASES};
use crate::{
    cgroup::Cgroups,
    connection::RequestError,
    fence::Host,
    image::host_image,
    profile::Profile,
    range::Range,
    sandbox::{Command, Sandbox, StartError},
    spec::{Limits, Network, Place, Spec},
    wire::Status,
    zygote::{Zygote, ZygoteError},
};

/// Where the attacker lies within.
const ATTACKER: &str = "/tmp/attacker";

/// The first id of ranges that no node gives out before four thousand others.
const LAST_RANGE: u32 = 0x7000_0000 + 3_999 * Range::LENGTH;

/// How one knock went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knock {
    /// The name of the case.
    pub case: &'static str,
    /// In which profile.
    pub profile: Profile,
    /// Which door is open, or why it could not be tried. `None`: it is shut.
    pub open: Option<String>,
}

/// Why nobody could knock.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// The zygote.
    #[error(transparent)]
    Zygote(#[from] ZygoteError),
    /// A sandbox does not start: then nothing can get out of one, either.
    #[error("a sandbox does not start: {0}")]
    Start(#[from] StartError),
    /// A file.
    #[error("a file: {0}")]
    File(#[from] io::Error),
    /// The attacker could not be brought in.
    #[error("the attacker could not be brought in: {0}")]
    Request(#[from] RequestError),
}

/// The fences of this host, tried in `folder`, which sandboxes would lie in.
pub async fn fences(program: &Path, folder: &Path) -> Result<Host, AttackError> {
    let (zygote, cgroups) = (Zygote::start(program)?, Cgroups::probe()?);
    Ok(zygote.probe(folder, &cgroups).await?)
}

/// Every case in both profiles. `program` is the binary whose `main` begins with [`crate::child`]; `folder` is empty, and on the disk that sandboxes
/// would lie on. Takes seconds.
pub async fn run(program: &Path, folder: &Path) -> Result<Vec<Knock>, AttackError> {
    let (zygote, cgroups) = (Zygote::start(program)?, Cgroups::probe()?);
    let host = zygote.probe(folder, &cgroups).await?;
    let bytes = fs::read(program)?;
    let mut knocks = Vec::new();
    for profile in [Profile::Strict, Profile::Workstation] {
        let sandbox = sandbox(&zygote, &host, &cgroups, folder, profile).await?;
        let knocked = knock_at_all(&sandbox, profile, &bytes).await;
        sandbox.remove().await?;
        knocks.extend(knocked?);
    }
    Ok(knocks)
}

async fn sandbox(zygote: &Zygote, host: &Host, cgroups: &Cgroups, folder: &Path, profile: Profile) -> Result<Sandbox, AttackError> {
    let mut random = [0; 13];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).map_err(io::Error::from)?;
    let id = SandboxId::from_random(random);
    let rootfs = host_image(&folder.join("image"))?;
    let place = Place { rootfs, folder: folder.join(id.as_str()), group: format!("skep-attack-{id}"), range: Range { first: LAST_RANGE } };
    let spec = Spec {
        id,
        profile,
        hostname: "attacked".to_owned(),
        limits: Limits::default(),
        network: Network::Loopback,
        volumes: Vec::new(),
        boot: "00000000-0000-4000-8000-000000000000".to_owned(),
    };
    Ok(Sandbox::start(zygote, host, cgroups, &spec, &place).await?)
}

async fn knock_at_all(sandbox: &Sandbox, profile: Profile, attacker: &[u8]) -> Result<Vec<Knock>, AttackError> {
    let (shown, user) = if profile.allows_root() { ("workstation", 0) } else { ("strict", 1_000) };
    sandbox.write_all(ATTACKER, 1_000, attacker).await?;
    sandbox.exec(Command::shell(&format!("chmod 755 {ATTACKER}"))).await?.output(1 << 10).await?;
    let mut knocks = Vec::new();
    for case in CASES {
        let tried = sandbox.exec(Command::new(&[ATTACKER, ARGUMENT, shown, case.name]).user(user)).await?.output(1 << 16).await?;
        let open = (tried.status != Status::Code(0)).then(|| {
            let said = format!("{}{}", String::from_utf8_lossy(&tried.stdout), String::from_utf8_lossy(&tried.stderr));
            format!("{} ({:?})", said.trim(), tried.status)
        });
        knocks.push(Knock { case: case.name, profile, open });
    }
    Ok(knocks)
}
