//! From what a caller asks for to a sandbox that runs.

use std::collections::BTreeMap;

use skep_id::SandboxId;
use skep_sandbox::{Image, ImageError, Limits, Network, OnTimeout, Policy, Profile, Rootfs, SnapshotId, Spec};

use super::{
    Facts, Owned, Reach, SandboxError, Sandboxes, Setup,
    network::rules,
    profile_of,
    templates::{Made, USUAL, is_build, setup},
};

/// Most entries of metadata, and of variables.
const ENTRIES_MAX: usize = 256;

/// Most bytes of all metadata, and of all variables: variables go with every command, in one packet.
const ENTRIES_BYTES_MAX: usize = 32 << 10;

/// Longest time that can be asked for: a year, in milliseconds.
pub(super) const TIMEOUT_MAX_MS: u64 = 365 * 86_400_000;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    /// The key that asks.
    pub owner: String,
    /// Whose snapshots it may begin with; `None`: everybody's.
    pub sees: Option<String>,
    /// What it begins with.
    pub template: String,
    /// How tight it is; the node's configuration decides when absent.
    pub profile: Option<Profile>,
    /// What it may use; the node's configuration decides when absent.
    pub limits: Option<Limits>,
    /// How long it runs, in milliseconds; `None`: until it is told otherwise.
    pub timeout_ms: Option<u64>,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// Whether traffic wakes it.
    pub auto_resume: bool,
    /// What its owner wants to find it by.
    pub metadata: BTreeMap<String, String>,
    /// Variables of every command.
    pub env: BTreeMap<String, String>,
    /// Whether calls to its envd must show a token.
    pub secured: bool,
    /// What it may reach, and who may reach it.
    pub reach: Reach,
}

impl NewSandbox {
    /// One of `owner`, made from `template`, secured, that goes after `timeout_ms`.
    #[must_use]
    pub fn of(owner: &str, template: &str, timeout_ms: Option<u64>) -> Self {
        Self {
            owner: owner.to_owned(),
            sees: Some(owner.to_owned()),
            template: template.to_owned(),
            profile: None,
            limits: None,
            timeout_ms,
            on_timeout: OnTimeout::Remove,
            auto_resume: false,
            metadata: BTreeMap::new(),
            env: BTreeMap::new(),
            secured: true,
            reach: Reach::default(),
        }
    }

    fn check(&self) -> Result<(), SandboxError> {
        let invalid = |what: &str| Err(SandboxError::Invalid(what.to_owned()));
        for (what, entries) in [("metadata", &self.metadata), ("environment", &self.env)] {
            let bytes: usize = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
            if entries.len() > ENTRIES_MAX || bytes > ENTRIES_BYTES_MAX {
                return invalid(&format!("{what} has at most {ENTRIES_MAX} entries and {ENTRIES_BYTES_MAX} bytes"));
            }
        }
        let named = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        if self.env.iter().any(|(name, value)| !named(name) || value.contains('\0')) {
            return invalid("a variable has a name without `=`, and neither name nor value has a zero byte");
        }
        if self.timeout_ms.is_some_and(|timeout| timeout > TIMEOUT_MAX_MS) {
            return invalid("a timeout is at most a year");
        }
        Ok(())
    }
}

impl Sandboxes {
    /// Makes a sandbox, which runs when this returns. It is made even if the caller leaves in the meantime.
    ///
    /// # Errors
    /// When what was asked for cannot be, or the sandbox does not start; nothing is left of it then.
    pub async fn create(&self, new: NewSandbox) -> Result<Owned, SandboxError> {
        new.check()?;
        rules(&new.reach)?;
        let most = self.inner.config.sandboxes_max;
        if self.inner.held.read().len() >= most {
            return Err(SandboxError::Full(most));
        }
        let sandboxes = self.clone();
        let made = tokio::spawn(async move { sandboxes.make(new).await });
        made.await.unwrap_or(Err(SandboxError::Here("making the sandbox broke off")))
    }

    async fn make(&self, new: NewSandbox) -> Result<Owned, SandboxError> {
        let Begins { files, setup, env, limits, template } = self.begins(&new).await?;
        let env = env.into_iter().chain(new.env).collect();
        let facts = self.facts(NewSandbox { env, limits: new.limits.or(limits), ..new }, setup)?;
        let spec = spec_of(facts.profile, facts.limits, self.inner.network.spec())?;
        let id = spec.id.clone();
        let policy = Policy { timeout_ms: facts.timeout_ms, on_timeout: facts.on_timeout, auto_resume: facts.auto_resume };
        let written = {
            let (records, id, facts) = (self.inner.records.clone(), id.clone(), facts.clone());
            tokio::task::spawn_blocking(move || records.put(&id, &facts))
        };
        let made = match files {
            Files::Snapshot(snapshot) => self.inner.core.restore(&snapshot, spec, policy).await,
            Files::Image(rootfs) => self.inner.core.create(spec, rootfs, policy).await,
        };
        let written = written.await.map_err(|_| SandboxError::Here("writing a row broke off"))?;
        match (made, written) {
            (Ok(boxed), Ok(())) => {
                let owned = self.inner.hold(boxed, facts);
                let begun = match owned.attach().await {
                    Ok(()) => owned.begin().await,
                    Err(error) => Err(error),
                };
                if let Err(error) = begun {
                    // Without its device, or what its template starts, it is not what was asked for.
                    let _ = owned.remove().await;
                    return Err(error);
                }
                if let Some(template) = template {
                    self.count(template);
                }
                Ok(owned)
            }
            (Ok(boxed), Err(error)) => {
                // Nobody could find it after a restart; what cannot be removed now is then removed.
                let _ = boxed.happen(skep_sandbox::Input::Remove).await;
                Err(error.into())
            }
            (Err(error), _) => {
                let _ = self.inner.records.remove(&id);
                Err(error.into())
            }
        }
    }

    fn facts(&self, new: NewSandbox, setup: Setup) -> Result<Facts, SandboxError> {
        let config = &self.inner.config;
        let now = crate::now_ms();
        Ok(Facts {
            owner: new.owner,
            template: new.template,
            metadata: new.metadata,
            env: new.env,
            profile: new.profile.unwrap_or(profile_of(config)),
            limits: new.limits.unwrap_or(limits_of(config)),
            timeout_ms: new.timeout_ms,
            on_timeout: new.on_timeout,
            auto_resume: new.auto_resume,
            envd_token: new.secured.then(token).transpose()?,
            traffic_token: new.reach.private_ports.then(token).transpose()?,
            reach: new.reach,
            setup,
            created_ms: now,
            started_ms: now,
        })
    }

    /// What a name stands for, in this order: a snapshot, a template of the caller's, an image, and, for the usual ones, the host's own programs.
    async fn begins(&self, new: &NewSandbox) -> Result<Begins, SandboxError> {
        let sees = new.sees.as_deref();
        if let Some(snapshot) = self.find_snapshot(sees, &new.template)? {
            let setup = self.inner.records.snapshot_setup(&snapshot.id)?;
            let files = Files::Snapshot(snapshot.id);
            return Ok(Begins { files, setup, env: BTreeMap::new(), limits: None, template: None });
        }
        if let Some(Made { template, image, limits }) = self.made(sees, &new.template)? {
            let begins = self.image(&image.name).await?;
            return Ok(Begins { limits: Some(limits), template: Some(template), ..begins });
        }
        if is_build(&new.template) {
            return Err(missing(&new.template));
        }
        self.image(&new.template).await
    }

    async fn image(&self, name: &str) -> Result<Begins, SandboxError> {
        let wanted = if USUAL.contains(&name) { self.usual(name).await } else { name.to_owned() };
        let images = self.inner.core.images().clone();
        let found = tokio::task::spawn_blocking(move || Ok::<_, ImageError>((images.rootfs(&wanted)?, images.get(&wanted))));
        match found.await.map_err(|_| SandboxError::Here("looking for an image broke off"))? {
            Ok((rootfs, image)) => Ok(Begins::of(rootfs, image.as_ref())),
            Err(ImageError::NoSuch(_) | ImageError::Name(_)) => Err(missing(name)),
            Err(ImageError::Here(error)) => Err(error.into()),
            Err(error) => Err(SandboxError::Invalid(error.to_string())),
        }
    }
}

/// What a sandbox begins with.
struct Begins {
    files: Files,
    setup: Setup,
    env: BTreeMap<String, String>,
    limits: Option<Limits>,
    /// The template that is counted.
    template: Option<String>,
}

enum Files {
    Snapshot(SnapshotId),
    Image(Rootfs),
}

impl Begins {
    fn of(rootfs: Rootfs, image: Option<&Image>) -> Self {
        let env = image.map(|image| image.config.env.clone()).unwrap_or_default();
        Self { files: Files::Image(rootfs), setup: image.map(setup).unwrap_or_default(), env, limits: None, template: None }
    }
}

fn missing(template: &str) -> SandboxError {
    SandboxError::NoTemplate(template.chars().take(200).collect())
}

pub(super) fn limits_of(config: &crate::SandboxesConfig) -> Limits {
    Limits {
        memory_bytes: config.memory_mb << 20,
        pids: config.pids,
        cpu_millis: config.cpu_millis,
        tmp_bytes: config.tmp_mb << 20,
        disk_bytes: config.disk_mb.map(|mb| mb.saturating_mul(1 << 20)),
        inodes: config.inodes,
        counted: config.disk_counted,
        ..Limits::default()
    }
}

/// A new sandbox's, with an id of its own.
pub(super) fn spec_of(profile: Profile, limits: Limits, network: Network) -> Result<Spec, SandboxError> {
    let id = SandboxId::from_random(random()?);
    Ok(Spec { hostname: id.to_string(), id, profile, limits, network, volumes: vec![], boot: uuid()? })
}

/// 256 bits that nobody guesses, in hexadecimal.
pub(super) fn token() -> Result<String, SandboxError> {
    Ok(hex(&random::<32>()?))
}

/// A random UUID, version 4.
pub(super) fn uuid() -> Result<String, SandboxError> {
    let mut bytes = random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    Ok([&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-"))
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], SandboxError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SandboxError::Here("the system gives no random bytes"))?;
    Ok(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_wishes_are_refused() {
        let fine = NewSandbox::of("key", "base", Some(1_000));
        assert!(fine.check().is_ok());
        let with = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for env in [with("", "x"), with("A=B", "x"), with("A\0", "x"), with("A", "x\0y"), with("A", &"x".repeat(40_000))] {
            assert!(NewSandbox { env, ..fine.clone() }.check().is_err());
        }
        let metadata = (0..300).map(|n| (n.to_string(), String::new())).collect();
        assert!(NewSandbox { metadata, ..fine.clone() }.check().is_err());
        assert!(NewSandbox { timeout_ms: Some(u64::MAX), ..fine }.check().is_err());
    }

    #[test]
    fn boots_have_uuids() {
        let text = uuid().unwrap();
        assert!(text.len() == 36 && text.as_bytes()[14] == b'4' && b"89ab".contains(&text.as_bytes()[19]), "{text}");
        assert_ne!(token().unwrap(), token().unwrap());
    }
}
