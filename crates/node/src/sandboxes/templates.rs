//! What sandboxes begin with, by the names that their owners give: templates, each made by steps, again and again.
//!
//! A template has builds; each that was made well is an image of the core, and tags of the template name builds. Names are an owner's own: two keys
//! may each have a template of one name, and neither sees the other's. A build that a node's end broke off has failed. It is not: how an image is made, which
//! is the core's, and not where the files of steps come from (`uploads.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use skep_sandbox::{
    Base, Boxed, Credentials, HOST, Image, ImageError, LifeError, Limits, Line, Making, OnTimeout, Platform, Policy, Profile, Recipe,
    RecipeStep, Rootfs, Source, Spec, State, Workshop,
};

use super::{
    Reach, SandboxError, Sandboxes, Setup,
    create::{hex, limits_of, random, spec_of, uuid},
    network::Joined,
};

/// The tag that a name without one means.
pub const DEFAULT_TAG: &str = "default";

/// Templates of a node.
const TEMPLATES_MAX: usize = 1_000;

/// Builds that are kept of one template; the oldest that no tag names go first.
const BUILDS_MAX: usize = 20;

/// Tags of one template.
const TAGS_MAX: usize = 200;

/// Builds that go on at once on a node; further ones wait.
pub(super) const BUILDING_MAX: usize = 4;

/// How long a step may take.
const STEP: Duration = Duration::from_secs(3_600);

/// E2B's own images, which promise what the node's own templates have.
const E2B_IMAGES: [(&str, &str); 2] = [("e2bdev/base", BASE), ("e2bdev/code-interpreter", "code-interpreter-v1")];

/// Templates that every node has.
pub(super) const USUAL: [&str; 2] = [BASE, "code-interpreter-v1"];

/// The one that the others are, where nobody made them.
const BASE: &str = "base";

/// A template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// `t` and 20 hexadecimal digits.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// The key that made it.
    pub owner: String,
    /// ms since the epoch.
    pub created_ms: i64,
    /// ms since the epoch.
    pub updated_ms: i64,
    /// Tags and the builds that they name.
    pub tags: BTreeMap<String, Tagged>,
    /// Oldest first.
    pub builds: Vec<Build>,
    /// Sandboxes that began with it.
    pub spawned: u64,
    /// When the last of them did, ms since the epoch.
    pub spawned_ms: Option<i64>,
}

/// What a tag names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tagged {
    /// A build of the template.
    pub build: String,
    /// Since when, ms since the epoch.
    pub since_ms: i64,
}

/// One making of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// A UUID.
    pub id: String,
    /// How it goes.
    pub state: BuildState,
    /// Tags that name it once it is ready.
    pub wanted: Vec<String>,
    /// Computing time of its sandboxes, in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory of its sandboxes, in bytes.
    pub memory_bytes: u64,
    /// ms since the epoch.
    pub created_ms: i64,
    /// ms since the epoch.
    pub finished_ms: Option<i64>,
}

/// How a build goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BuildState {
    /// Nobody has said yet of what it is made.
    Waiting,
    /// It is being made.
    Building,
    /// Sandboxes can begin with it.
    Ready,
    /// It failed.
    Failed {
        /// Why.
        why: String,
        /// Where.
        at: FailedAt,
    },
}

/// Where a build failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedAt {
    /// Before its steps.
    Base,
    /// In one of them; the first is 1.
    Step(u32),
    /// In what it starts.
    Start,
}

/// A build that somebody wants.
#[derive(Clone, Debug)]
pub struct NewBuild<'a> {
    /// The key that asks.
    pub owner: &'a str,
    /// The template's name or id, perhaps with a tag.
    pub template: &'a str,
    /// Further tags.
    pub tags: Vec<String>,
    /// Computing time of its sandboxes, in thousandths of a core; the node's configuration decides when absent.
    pub cpu_millis: Option<u32>,
    /// Memory of its sandboxes, in bytes; the node's configuration decides when absent.
    pub memory_bytes: Option<u64>,
}

/// What a build begins with.
#[derive(Clone, Debug)]
pub enum BuildFrom {
    /// An image of a registry.
    Image(String, Option<Credentials>),
    /// A template.
    Template(String),
}

/// Of what a build is made.
#[derive(Clone, Debug)]
pub struct BuildSteps {
    /// What it begins with.
    pub from: BuildFrom,
    /// One after the other.
    pub steps: Vec<RecipeStep>,
    /// A line for the shell that runs in each sandbox of the template.
    pub start: Option<String>,
    /// A line that ends well once what was started is ready.
    pub ready: Option<String>,
    /// Every step is run, also one that was run before.
    pub force: bool,
}

/// What a template's sandboxes are made of.
pub(super) struct Made {
    pub template: String,
    pub image: Image,
    pub limits: Limits,
}

/// Templates in memory; each change is written before it is seen.
pub(super) struct Templates {
    known: Mutex<BTreeMap<String, Template>>,
    /// Builds of this node's life, by their ids: their logs.
    makings: Mutex<HashMap<String, Making>>,
}

impl Templates {
    /// Those of an earlier node; what it was building is broken off.
    pub fn of(templates: Vec<Template>) -> Self {
        let mut known = BTreeMap::new();
        for mut template in templates {
            for build in &mut template.builds {
                if build.state == BuildState::Building {
                    build.state = BuildState::Failed { why: "the node ended before the build did".to_owned(), at: FailedAt::Base };
                }
            }
            known.insert(template.id.clone(), template);
        }
        Self { known: Mutex::new(known), makings: Mutex::default() }
    }
}

impl Template {
    /// The newest build.
    #[must_use]
    pub fn newest(&self) -> Option<&Build> {
        self.builds.last()
    }

    fn tagged(&self, tag: &str) -> Option<&Build> {
        let build = &self.tags.get(tag)?.build;
        self.builds.iter().find(|known| known.id == *build)
    }

    fn build(&mut self, id: &str) -> Option<&mut Build> {
        self.builds.iter_mut().find(|known| known.id == id)
    }

    /// The core's name of a build's image.
    fn image(&self, build: &str) -> String {
        format!("{}-{build}", self.id)
    }

    /// Takes away builds that are too many, and tells the images of them.
    fn prune(&mut self) -> Vec<String> {
        let mut gone = Vec::new();
        while self.builds.len() > BUILDS_MAX {
            let named = |build: &Build| self.tags.values().any(|tagged| tagged.build == build.id);
            let Some(at) = self.builds.iter().position(|build| build.state != BuildState::Building && !named(build)) else { break };
            let build = self.builds.remove(at);
            gone.push(self.image(&build.id));
        }
        gone
    }
}

/// A name and its tag. `None`: it is neither.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (name, tag) = text.split_once(':').unwrap_or((text, DEFAULT_TAG));
    (is_name(name) && is_name(tag)).then_some((name, tag))
}

fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn missing(text: &str) -> SandboxError {
    SandboxError::NoTemplate(text.chars().take(200).collect())
}

fn checked_tags(tags: &[String]) -> Result<(), SandboxError> {
    match tags.iter().find(|tag| !is_name(tag)) {
        Some(wrong) => Err(SandboxError::Invalid(format!("{wrong:.80?} is no tag"))),
        None => Ok(()),
    }
}

impl Sandboxes {
    /// Templates of this owner, by name; of all, where nobody is named.
    #[must_use]
    pub fn templates(&self, owner: Option<&str>) -> Vec<Template> {
        let known = self.inner.templates.known.lock();
        let mut found: Vec<Template> = known.values().filter(|one| owner.is_none_or(|owner| one.owner == owner)).cloned().collect();
        found.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        found
    }

    /// A template by its id or name, whatever tag is with it; of this owner, where one is named.
    #[must_use]
    pub fn template(&self, owner: Option<&str>, text: &str) -> Option<Template> {
        let (name, _) = parts(text)?;
        self.templates(owner).into_iter().find(|one| one.id == name || one.name == name)
    }

    /// Whether a name is a template that every node has.
    #[must_use]
    pub fn is_usual_template(name: &str) -> bool {
        USUAL.contains(&name)
    }

    /// What a template's sandboxes are made of. `None`: the owner has no template of this name.
    pub(super) fn made(&self, owner: Option<&str>, text: &str) -> Result<Option<Made>, SandboxError> {
        let (Some((_, tag)), Some(template)) = (parts(text), self.template(owner, text)) else { return Ok(None) };
        let build = template.tagged(tag).ok_or_else(|| missing(text))?;
        let image = self.inner.core.images().get(&template.image(&build.id)).ok_or_else(|| missing(text))?;
        let limits = Limits { cpu_millis: build.cpu_millis, memory_bytes: build.memory_bytes, ..limits_of(&self.inner.config) };
        Ok(Some(Made { template: template.id, image, limits }))
    }

    /// A further sandbox began with a template. That it is counted is waited for by nobody.
    pub(super) fn count(&self, template: String) {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let counted = this.change_template(&template, |template| {
                template.spawned += 1;
                template.spawned_ms = Some(crate::now_ms());
                Ok(())
            });
            if let Err(error) = counted {
                tracing::debug!(%template, %error, "a sandbox of a template was not counted");
            }
        });
    }

    /// A new build, of a template that is made where its owner has none of that name; the build's id.
    ///
    /// # Errors
    /// When the name or a tag is none, the name is the node's own, or there are too many.
    pub fn new_build(&self, new: NewBuild<'_>) -> Result<(Template, String), SandboxError> {
        let (name, tag) = parts(new.template).ok_or_else(|| {
            SandboxError::Invalid(format!("{:.80?} is no name for a template: a-z, 0-9, -, _ and ., at most 128 of them", new.template))
        })?;
        if USUAL.contains(&name) || name == HOST {
            return Err(SandboxError::Invalid(format!("{name:?} is the node's own template")));
        }
        let mut wanted = new.tags;
        if wanted.is_empty() || new.template.contains(':') {
            wanted.push(tag.to_owned());
        }
        wanted.sort();
        wanted.dedup();
        checked_tags(&wanted)?;
        let (usual, now) = (limits_of(&self.inner.config), crate::now_ms());
        let build = Build {
            id: uuid()?,
            state: BuildState::Waiting,
            wanted,
            cpu_millis: new.cpu_millis.unwrap_or(usual.cpu_millis),
            memory_bytes: new.memory_bytes.unwrap_or(usual.memory_bytes),
            created_ms: now,
            finished_ms: None,
        };
        let id = build.id.clone();
        let mut known = self.inner.templates.known.lock();
        let mut template = match known.values().find(|one| one.owner == new.owner && (one.name == name || one.id == name)) {
            Some(found) => found.clone(),
            None if known.len() >= TEMPLATES_MAX => return Err(SandboxError::Invalid(format!("the node has {TEMPLATES_MAX} templates"))),
            None => Template {
                id: format!("t{}", hex(&random::<10>()?)),
                name: name.to_owned(),
                owner: new.owner.to_owned(),
                created_ms: now,
                updated_ms: now,
                tags: BTreeMap::new(),
                builds: Vec::new(),
                spawned: 0,
                spawned_ms: None,
            },
        };
        if template.builds.iter().filter(|build| build.state == BuildState::Waiting).count() >= BUILDS_MAX {
            return Err(SandboxError::Invalid(format!("{BUILDS_MAX} builds of this template wait to be begun")));
        }
        template.updated_ms = now;
        template.builds.push(build);
        self.inner.records.put_template(&template)?;
        known.insert(template.id.clone(), template.clone());
        Ok((template, id))
    }

    /// Begins to make a build that nobody has begun yet.
    ///
    /// # Errors
    /// When there is no such build, it was begun, or there is not what it begins with.
    pub async fn make_build(&self, template: &Template, build: &str, steps: BuildSteps) -> Result<(), SandboxError> {
        let BuildSteps { from, steps, start, ready, force } = steps;
        let recipe = Recipe { from: self.base(&template.owner, from).await?, steps, start, ready, force };
        self.change_template(&template.id, |changed| {
            let build = changed.build(build).ok_or_else(|| missing(build))?;
            if build.state != BuildState::Waiting {
                return Err(SandboxError::Invalid("this build was begun already".to_owned()));
            }
            build.state = BuildState::Building;
            Ok(())
        })?;
        let making = self.inner.core.build(&template.image(build), recipe, self.workshop());
        self.inner.templates.makings.lock().insert(build.to_owned(), making.clone());
        tokio::spawn(self.clone().finish(template.id.clone(), build.to_owned(), making));
        Ok(())
    }

    /// Writes down how a build ended; what its tags named before is theirs no more.
    async fn finish(self, template: String, build: String, making: Making) {
        let done = making.done().await;
        let state = match &done {
            Ok(_) => BuildState::Ready,
            Err(error) => failed(error),
        };
        let ended = self.change_template(&template, |template| {
            let now = crate::now_ms();
            let found = template.build(&build).ok_or_else(|| missing(&build))?;
            found.finished_ms = Some(now);
            found.state = state.clone();
            if state == BuildState::Ready {
                for tag in found.wanted.clone() {
                    template.tags.insert(tag, Tagged { build: build.clone(), since_ms: now });
                }
            }
            Ok(template.prune())
        });
        match ended {
            Ok(pruned) => self.remove_images(pruned).await,
            Err(error) => {
                // Its template is gone, or the disk is full: nobody can begin with it.
                tracing::warn!(%template, %build, %error, "the end of a template's build could not be written down");
                self.remove_images(vec![format!("{template}-{build}")]).await;
            }
        }
    }

    async fn remove_images(&self, names: Vec<String>) {
        for name in names {
            self.inner.templates.makings.lock().retain(|build, _| !name.ends_with(build.as_str()));
            if let Err(error) = self.inner.core.remove_image(&name).await {
                tracing::warn!(%name, %error, "an image that no template has any more could not be removed");
            }
        }
    }

    /// Begins to make the template that a sandbox has whose owner asked for none, unless it is there.
    pub(super) fn make_base(&self) {
        if self.inner.core.images().get(BASE).is_some() {
            return;
        }
        let making = self.inner.core.build(BASE, skep_sandbox::base(Base::Image(HOST.to_owned())), self.workshop());
        tokio::spawn(async move {
            if let Err(error) = making.done().await {
                tracing::warn!(%error, "the template `base` could not be made: it is the host's programs as they are");
            }
        });
    }

    /// The image that a usual template is, once one that is being made is made.
    pub(super) async fn usual(&self, name: &str) -> String {
        let images = self.inner.core.images();
        if let Some(making) = images.making(BASE) {
            // One that failed is told in the log of the node.
            let _ = making.done().await;
        }
        let made = [name, BASE].into_iter().find(|name| images.get(name).is_some());
        made.unwrap_or(HOST).to_owned()
    }

    /// What a build begins with, as the core has it.
    async fn base(&self, owner: &str, from: BuildFrom) -> Result<Base, SandboxError> {
        let name = match from {
            BuildFrom::Image(reference, credentials) => {
                let plain = reference.strip_suffix(":latest").unwrap_or(&reference);
                match E2B_IMAGES.iter().find(|(image, _)| *image == plain) {
                    Some((_, name)) => self.usual(name).await,
                    None => return Ok(Base::Source(Source::Registry { reference, platform: Platform::default() }, credentials)),
                }
            }
            BuildFrom::Template(name) => match self.made(Some(owner), &name)? {
                Some(made) => made.image.name,
                None if USUAL.contains(&name.as_str()) => self.usual(&name).await,
                None if self.inner.core.images().get(&name).is_some() && !is_build(&name) => name,
                None => return Err(missing(&name)),
            },
        };
        Ok(Base::Image(name))
    }

    /// Each step has a sandbox of its own, that no node finds again.
    fn workshop(&self) -> Workshop {
        let this = self.clone();
        std::sync::Arc::new(move |rootfs: Rootfs| {
            let this = this.clone();
            Box::pin(async move { this.bench(rootfs).await })
        })
    }

    async fn bench(&self, rootfs: Rootfs) -> Result<Boxed, LifeError> {
        let here = |error: SandboxError| LifeError::Here(std::io::Error::other(error.to_string()));
        let place = self.inner.building.clone().acquire_owned().await.map_err(|_| here(SandboxError::Here("the node ends")))?;
        let limits = limits_of(&self.inner.config);
        let spec: Spec = spec_of(Profile::Workstation, limits, self.inner.network.spec()).map_err(here)?;
        let (id, time) = (spec.id.clone(), u64::try_from(STEP.as_millis()).ok());
        let policy = Policy { timeout_ms: time, on_timeout: OnTimeout::Remove, auto_resume: false };
        let boxed = self.inner.core.create(spec, rootfs, policy).await?;
        let joined = Joined::new(self.inner.network.clone(), &Reach::default());
        if let Some(sandbox) = boxed.sandbox().await
            && let Err(error) = joined.attach(&id, &sandbox).await
        {
            boxed.happen(skep_sandbox::Input::Remove).await?;
            return Err(here(error));
        }
        let mut state = boxed.state();
        tokio::spawn(async move {
            // The step is done, or its time is up: others may begin, and its network ends.
            let _ = state.wait_for(|state| matches!(state, State::Stopped { .. } | State::Removing)).await;
            drop((joined, place));
        });
        Ok(boxed)
    }

    /// Changes a template and writes that down.
    fn change_template<T>(&self, id: &str, change: impl FnOnce(&mut Template) -> Result<T, SandboxError>) -> Result<T, SandboxError> {
        let mut known = self.inner.templates.known.lock();
        let mut changed = known.get(id).cloned().ok_or_else(|| missing(id))?;
        let done = change(&mut changed)?;
        changed.updated_ms = crate::now_ms();
        self.inner.records.put_template(&changed)?;
        known.insert(changed.id.clone(), changed);
        Ok(done)
    }

    /// The lines of a build from one on. Empty for builds of an earlier node.
    #[must_use]
    pub fn build_log(&self, build: &str, from: usize) -> Vec<Line> {
        self.inner.templates.makings.lock().get(build).map(|making| making.log(from)).unwrap_or_default()
    }

    /// Lets tags name the build that `target`, a template with a tag, names; the build's id.
    ///
    /// # Errors
    /// When there is no such build, or a tag is none.
    pub fn tag(&self, owner: Option<&str>, target: &str, tags: &[String]) -> Result<String, SandboxError> {
        checked_tags(tags)?;
        let (_, tag) = parts(target).ok_or_else(|| missing(target))?;
        let template = self.template(owner, target).ok_or_else(|| missing(target))?;
        self.change_template(&template.id, |template| {
            let build = template.tagged(tag).ok_or_else(|| missing(target))?.id.clone();
            for tag in tags {
                template.tags.insert(tag.clone(), Tagged { build: build.clone(), since_ms: crate::now_ms() });
            }
            if template.tags.len() > TAGS_MAX {
                return Err(SandboxError::Invalid(format!("a template has at most {TAGS_MAX} tags")));
            }
            Ok(build)
        })
    }

    /// Takes tags away.
    ///
    /// # Errors
    /// When there is no such template, or it has not all of them.
    pub fn untag(&self, owner: Option<&str>, name: &str, tags: &[String]) -> Result<(), SandboxError> {
        let template = self.template(owner, name).ok_or_else(|| missing(name))?;
        self.change_template(&template.id, |template| {
            for tag in tags {
                template.tags.remove(tag).ok_or_else(|| missing(&format!("{name}:{tag}")))?;
            }
            Ok(())
        })
    }

    /// Removes a template with its builds; sandboxes that began with it go on. `false`: there is none.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn remove_template(&self, owner: Option<&str>, text: &str) -> Result<bool, SandboxError> {
        let Some(template) = self.template(owner, text) else { return Ok(false) };
        {
            let mut known = self.inner.templates.known.lock();
            self.inner.records.remove_template(&template.id)?;
            known.remove(&template.id);
        }
        // One that is still being made is removed when it is done: its template is gone then.
        let made = template.builds.iter().filter(|build| build.state == BuildState::Ready);
        self.remove_images(made.map(|build| template.image(&build.id)).collect()).await;
        Ok(true)
    }
}

/// Whether an image is a build of some template: those are found by their template alone.
pub(super) fn is_build(image: &str) -> bool {
    image
        .strip_prefix('t')
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(id, build)| id.len() == 20 && id.bytes().all(|b| b.is_ascii_hexdigit()) && build.len() == 36)
}

/// What is done in sandboxes of an image.
pub(super) fn setup(image: &Image) -> Setup {
    let name = image.config.user.as_deref().and_then(|user| user.split(':').next()).unwrap_or_default();
    let user = match name.parse::<u32>() {
        Ok(0) => Some("root".to_owned()),
        // Who is no more than a number has no home to begin in.
        Ok(_) => None,
        Err(_) => (!name.is_empty()).then(|| name.to_owned()),
    };
    let (start, ready) = (image.config.start.clone(), image.config.ready.clone());
    Setup { user, workdir: image.config.workdir.clone(), start, ready }
}

fn failed(error: &ImageError) -> BuildState {
    match error {
        ImageError::Step { step, why } => BuildState::Failed { why: why.clone(), at: FailedAt::Step(*step) },
        ImageError::Trial(why) => BuildState::Failed { why: why.clone(), at: FailedAt::Start },
        error => BuildState::Failed { why: error.to_string(), at: FailedAt::Base },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Template {
        Template {
            id: format!("t{}", "0".repeat(20)),
            name: "mine".into(),
            owner: "key".into(),
            created_ms: 1,
            updated_ms: 1,
            tags: BTreeMap::new(),
            builds: vec![],
            spawned: 0,
            spawned_ms: None,
        }
    }

    fn build(id: usize, state: BuildState) -> Build {
        Build { id: id.to_string(), state, wanted: vec![], cpu_millis: 1, memory_bytes: 1, created_ms: 1, finished_ms: None }
    }

    #[test]
    fn a_name_is_no_path_and_no_other_name() {
        assert_eq!(parts("a"), Some(("a", DEFAULT_TAG)));
        assert_eq!(parts("a.b_c-1:v1.0"), Some(("a.b_c-1", "v1.0")));
        for hostile in ["", ":", "a:", ":a", "a:b:c", "../a", "a/b", "A", "a b", "a\0", "-a", ".a", &"a".repeat(129)] {
            assert_eq!(parts(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn builds_that_a_tag_names_outlive_those_that_none_does() {
        let mut template = template();
        template.builds = (0..BUILDS_MAX + 3).map(|id| build(id, BuildState::Ready)).collect();
        template.builds[2].state = BuildState::Building;
        template.tags.insert("v1".into(), Tagged { build: "0".into(), since_ms: 1 });
        let gone = template.prune();
        assert_eq!(gone, ["1", "3", "4"].map(|build| template.image(build)));
        assert!(is_build(&template.image("3ff5e9b5-7a1e-4c84-8a6e-1d1d8f1f5a10")) && !is_build("base") && !is_build("t-1"));
        assert_eq!(template.builds.len(), BUILDS_MAX);
    }

    #[test]
    fn what_a_node_was_building_when_it_ended_has_failed() {
        let mut template = template();
        template.builds = vec![build(1, BuildState::Building), build(2, BuildState::Waiting), build(3, BuildState::Ready)];
        let templates = Templates::of(vec![template]);
        let known = templates.known.lock();
        let states: Vec<_> = known.values().next().unwrap().builds.iter().map(|build| build.state.clone()).collect();
        assert!(matches!(&states[..], [BuildState::Failed { .. }, BuildState::Waiting, BuildState::Ready]), "{states:?}");
    }
}
