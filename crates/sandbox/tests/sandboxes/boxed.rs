//! A sandbox of a test's own, in a folder of its own.

use std::path::Path;

use skep_id::SandboxId;
use skep_sandbox::{
    Cgroups, Command, Finished, Host, Limits, Network, Place, Profile, Range, Sandbox, Spec, StartError, Status, Volume, Zygote, host_image,
};

/// The program whose `main` begins with `child()`.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_skep-boxed");

pub const BOTH: [Profile; 2] = [Profile::Strict, Profile::Workstation];

/// What sandboxes are started with.
pub struct Bench {
    pub zygote: Zygote,
    pub cgroups: Cgroups,
    pub host: Host,
    pub folder: tempfile::TempDir,
}

impl Bench {
    /// `None`: this is not root, or the machine has not what all profiles demand.
    pub async fn set_up() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("passed over: sandboxes with all fences need root");
            return None;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (zygote, cgroups) = (Zygote::start(Path::new(PROGRAM)).unwrap(), Cgroups::probe().unwrap().on(folder.path()));
        let host = zygote.probe(folder.path(), &cgroups).await.unwrap();
        let lacking =
            BOTH.iter().flat_map(|profile| profile.demands()).find_map(|&fence| host.missing(fence).map(|missing| (fence, missing)));
        if let Some((fence, missing)) = lacking {
            println!("passed over: this machine has no {fence:?}: {} ({})", missing.why, missing.fix);
            return None;
        }
        Some(Self { zygote, cgroups, host, folder })
    }

    pub fn spec(&self, profile: Profile) -> Spec {
        let mut random = [0; 13];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let boot = "00000000-0000-4000-8000-0000000000aa".to_owned();
        let id = SandboxId::from_random(random);
        Spec { id, profile, hostname: "box".into(), limits: Limits::default(), network: Network::Loopback, volumes: vec![], boot }
    }

    pub fn place(&self, spec: &Spec) -> Place {
        let mut random = [0; 2];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let range = Range { first: 0x7000_0000 + u32::from(u16::from_le_bytes(random)) % 4_000 * Range::LENGTH };
        let rootfs = host_image(&self.folder.path().join("image")).unwrap();
        Place { rootfs, folder: self.folder.path().join(spec.id.as_str()), group: format!("skep-test-{}", spec.id), range }
    }

    pub async fn start(&self, spec: &Spec) -> Result<Sandbox, StartError> {
        Sandbox::start(&self.zygote, &self.host, &self.cgroups, spec, &self.place(spec)).await
    }

    pub async fn sandbox(&self, profile: Profile) -> Sandbox {
        self.start(&self.spec(profile)).await.unwrap()
    }

    pub async fn with_volume(&self, profile: Profile, volume: Volume) -> Result<Sandbox, StartError> {
        self.start(&Spec { volumes: vec![volume], ..self.spec(profile) }).await
    }
}

/// A command's end and all that it wrote.
pub async fn run(sandbox: &Sandbox, command: Command) -> Finished {
    sandbox.exec(command).await.unwrap().output(1 << 20).await.unwrap()
}

/// What a line for the shell prints; it must end well.
pub async fn sh(sandbox: &Sandbox, line: &str) -> String {
    let finished = run(sandbox, Command::shell(line)).await;
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(finished.status, Status::Code(0), "{line}: {text}{}", String::from_utf8_lossy(&finished.stderr));
    text
}

/// The most powerful user of a profile.
pub fn most_powerful(profile: Profile) -> u32 {
    if profile.allows_root() { 0 } else { 1_000 }
}
