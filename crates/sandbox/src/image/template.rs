//! Templates: an image made by steps, each run in a real sandbox over what the steps before it made.
//!
//! A step that changes files leaves a layer, named by the digest of everything that led to it: the same steps find it again. Every step has a sandbox
//! of its own, so nothing that one leaves running is there for the next, and what it changed *is* the layer: it is moved, not copied. It
//! is not: where a step's network comes from; the node opens the sandboxes ([`Workshop`]).

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{
    Credentials, HOST, Image, ImageConfig, ImageError, Images, Making, Source,
    making::{Level, Log},
    oci::{Digest, place},
};
use crate::{
    sandbox::{Command, Running, Sandbox},
    sandboxes::{Boxed, LifeError},
    spec::{Place, Rootfs},
    state::Input,
    wire::Status,
};

/// Opens a sandbox for a step, of this root and in the workstation profile; what it may use and reach is up to who opens it. It is stopped and
/// removed when the step is done.
pub type Workshop = Arc<dyn Fn(Rootfs) -> Pin<Box<dyn Future<Output = Result<Boxed, LifeError>> + Send>> + Send + Sync>;

/// How an image is made by steps.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What it begins with.
    pub from: Base,
    /// One after the other.
    pub steps: Vec<RecipeStep>,
    /// A line for the shell that is started in each sandbox of the template.
    pub start: Option<String>,
    /// A line that ends well once what was started is ready; tried again and again.
    pub ready: Option<String>,
    /// Every step is run, also one that was run before.
    pub force: bool,
}

/// What a template begins with.
#[derive(Clone, Debug)]
pub enum Base {
    /// An image that is here, or [`HOST`].
    Image(String),
    /// One that is made first, unless it is here.
    Source(Source, Option<Credentials>),
}

/// One step.
#[derive(Clone, Debug)]
pub struct RecipeStep {
    /// What is done.
    pub action: Action,
    /// It is run, with all that follow, also if it was run before.
    pub force: bool,
}

/// What a step does.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Runs a line of the shell; it must end well.
    Run {
        /// The line.
        line: String,
        /// Who runs it. `None`: who the step before was told.
        user: Option<String>,
    },
    /// Copies files out of an archive into the image.
    Copy {
        /// A tar on this host, packed or not; it is unpacked within the sandbox.
        #[serde(skip)]
        files: PathBuf,
        /// Of the files: the same digest, the same layer.
        digest: String,
        /// A path in the archive, perhaps with `*`.
        source: String,
        /// Where to; of a folder, its content.
        target: String,
        /// Whose they are. `None`: who the step before was told.
        user: Option<String>,
        /// Permission bits of the files. `None`: as in the archive.
        mode: Option<u32>,
    },
    /// Sets variables.
    Env(BTreeMap<String, String>),
    /// Where lines are run from now on; made where it is missing.
    Workdir(String),
    /// Who runs lines from now on, and commands in the sandboxes of the template.
    User(String),
}

/// The ordinary user of every sandbox, unless an image says otherwise.
const USER: &str = "user";
const HOME: &str = "/home/user";
/// How long what was started has to become ready.
const READY: Duration = Duration::from_secs(300);
/// What one stream of one step may say without a line's end.
const MOST_LINE: u64 = 4 << 10;
const MOST_STEPS: usize = 200;
/// Layers that an image can have, and still be one that a sandbox begins with.
const MOST_LAYERS: usize = 22;
/// Layers of the template itself; further steps share one.
const MOST_OWN: usize = 10;

/// The template that a sandbox has whose owner asked for none: a shell, git, curl, Python and Node. Where the image has them nothing is installed, so
/// that over the host's own programs it is made without a network.
#[must_use]
pub fn base(from: Base) -> Recipe {
    let install = "missing=; for p in bash git curl python3 node npm; do command -v $p >/dev/null || missing=\"$missing $p\"; done\n\
                   if [ -n \"$missing\" ]; then\n\
                     command -v apt-get >/dev/null || { echo \"missing, and there is no apt-get to install them with:$missing\" >&2; exit 1; }\n\
                     apt-get update && apt-get install -y --no-install-recommends bash git curl ca-certificates python3 python3-pip nodejs npm\n\
                     rm -rf /var/lib/apt/lists/*\n\
                   fi\n\
                   command -v python >/dev/null || ln -s \"$(command -v python3)\" /usr/local/bin/python\n\
                   bash --version && git --version && curl --version && python --version && node --version";
    let step = |action| RecipeStep { action, force: false };
    let steps = vec![
        step(Action::Run { line: install.into(), user: Some("root".into()) }),
        step(Action::User(USER.into())),
        step(Action::Workdir("/home/user".into())),
    ];
    Recipe { from, steps, start: None, ready: None, force: false }
}

/// Who is not known to an image's files yet, and what every sandbox counts on.
const PREPARE: &str = "shell=/bin/sh; [ -x /bin/bash ] && shell=/bin/bash\n\
    grep -q '^user:' /etc/passwd || echo \"user:x:1000:1000:user:/home/user:$shell\" >> /etc/passwd\n\
    grep -q '^user:' /etc/group || echo 'user:x:1000:' >> /etc/group\n\
    mkdir -p /home/user /usr/local/bin && chown 1000:1000 /home/user";

/// Runs within: the archive, what of it, where to, whose, which bits.
const COPY: &str = r#"set -eu
IFS=
d=$(mktemp -d /tmp/copy.XXXXXX)
trap 'rm -rf "$d" "$1"' EXIT
tar -xf "$1" -C "$d"
chown -R "$4" "$d"
[ -z "$5" ] || find "$d" -type f -exec chmod "$5" {} +
n=0
for s in "$d"/$2; do if [ -e "$s" ] || [ -L "$s" ]; then n=$((n+1)); fi; done
[ "$n" -gt 0 ] || { echo "nothing in the files is called $2" >&2; exit 1; }
for s in "$d"/$2; do
  case "$3" in */) into=yes;; *) into=; [ ! -d "$3" ] || into=yes;; esac
  if [ -d "$s" ] && [ ! -L "$s" ]; then
    mkdir -p "$3"
    find "$s" -mindepth 1 -maxdepth 1 -exec cp -a {} "$3"/ \;
  elif [ "$n" -gt 1 ] || [ -n "$into" ]; then
    mkdir -p "$3"
    cp -a "$s" "$3"/
  else
    mkdir -p "$(dirname "$3")"
    cp -a "$s" "$3"
  fi
done"#;

/// What the steps so far have made.
struct Made {
    layers: Vec<String>,
    host: bool,
    config: ImageConfig,
    /// Of everything that led here.
    digest: String,
    /// Found so far, and not run.
    forced: bool,
}

impl Made {
    fn image(&self, name: &str) -> Image {
        let source = Source::Template { digest: self.digest.clone() };
        Image {
            version: 1,
            name: name.into(),
            layers: self.layers.clone(),
            host: self.host,
            config: self.config.clone(),
            source,
            made_ms: 0,
        }
    }

    fn lead(&mut self, what: &impl Serialize, force: bool) -> Result<(), ImageError> {
        self.forced |= force;
        let mut text = serde_json::to_vec(&(&self.digest, what)).map_err(io::Error::other)?;
        if self.forced {
            // Under a name that no earlier run found.
            let mut random = [0; 16];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).map_err(io::Error::from)?;
            text.extend(random);
        }
        self.digest = Digest::of(&text).hex().to_owned();
        Ok(())
    }
}

/// One build.
struct Build<'a> {
    images: &'a Images,
    workshop: &'a Workshop,
    log: &'a Log,
}

/// Whether what a recipe says can be followed, and what of it two builds must share to be the same one.
pub(crate) fn key(recipe: &Recipe) -> String {
    format!("{recipe:?}")
}

/// Makes the image that a recipe says.
pub(crate) async fn build(images: &Images, recipe: Recipe, workshop: &Workshop, making: &Making, name: &str) -> Result<Image, ImageError> {
    let log = making.log_to();
    if recipe.steps.len() > MOST_STEPS {
        return Err(ImageError::Document("recipe", format!("more than {MOST_STEPS} steps")));
    }
    let base = begin(images, &recipe.from, log).await?;
    let build = Build { images, workshop, log };
    let digest = Digest::of(format!("{:?} {}", base.layers, base.host).as_bytes()).hex().to_owned();
    let room = MOST_LAYERS.saturating_sub(base.layers.len() + 2).min(MOST_OWN);
    if room == 0 {
        return Err(ImageError::Document(
            "recipe",
            format!("it begins with an image of {} layers, which leaves no room for its own", base.layers.len()),
        ));
    }
    let most = base.layers.len() + room;
    let mut made = Made { layers: base.layers, host: base.host, config: base.config, digest, forced: recipe.force };
    (made.config.start, made.config.ready) = (None, None);
    // Where lines run whose image does not say.
    made.config.workdir.get_or_insert_with(|| HOME.to_owned());
    if !made.host {
        build.prepare(&mut made).await?;
    }
    let mut steps = recipe.steps.iter().zip(1..).peekable();
    while let Some((step, number)) = steps.next() {
        let log = log.of_step(number);
        let failed = |why: ImageError| ImageError::Step { step: number, why: why.to_string() };
        made.lead(&step.action, step.force)?;
        log.say(Level::Info, shown(&step.action));
        let mut together = vec![(step, log)];
        // A template of many steps: the rest of them share a layer.
        if made.layers.len() >= most {
            for (step, number) in steps.by_ref() {
                made.lead(&step.action, step.force)?;
                together.push((step, build.log.of_step(number)));
            }
        }
        build.steps(&mut made, &together).await.map_err(failed)?;
    }
    (made.config.start, made.config.ready) = (recipe.start, recipe.ready);
    build.trial(&made).await.map_err(|error| ImageError::Trial(error.to_string()))?;
    let Made { layers, host, config, digest, .. } = made;
    images.write(name, layers, host, config, Source::Template { digest })
}

fn shown(action: &Action) -> String {
    match action {
        Action::Run { line, .. } => format!("RUN {line}"),
        Action::Copy { source, target, .. } => format!("COPY {source} {target}"),
        Action::Env(values) => format!("ENV {}", values.keys().map(String::as_str).collect::<Vec<_>>().join(" ")),
        Action::Workdir(path) => format!("WORKDIR {path}"),
        Action::User(name) => format!("USER {name}"),
    }
}

async fn begin(images: &Images, from: &Base, log: &Log) -> Result<Image, ImageError> {
    match from {
        Base::Image(name) if name == HOST => {
            images.rootfs(HOST)?;
            let layers = vec![];
            let (config, source) = (ImageConfig::default(), Source::Host);
            Ok(Image { version: 1, name: HOST.into(), layers, host: true, config, source, made_ms: 0 })
        }
        Base::Image(name) => images.get(name).ok_or_else(|| ImageError::NoSuch(name.clone())),
        Base::Source(source, credentials) => {
            let text = serde_json::to_vec(source).map_err(io::Error::other)?;
            let name = format!("from-{}", &Digest::of(&text).hex()[..32]);
            let making = images.make(&name, source.clone(), credentials.clone());
            let mut heard = 0;
            loop {
                let ended = making.ended();
                for line in making.log(heard) {
                    heard += 1;
                    log.say(line.level, line.text);
                }
                match ended {
                    Some(Ok(image)) => return Ok(image),
                    Some(Err(error)) => return Err(ImageError::Tool(error.to_string())),
                    None => making.grown(heard).await,
                }
            }
        }
    }
}

fn life(error: impl std::fmt::Display) -> ImageError {
    ImageError::Tool(error.to_string())
}

impl Build<'_> {
    /// An image of somebody else's may know no ordinary user.
    async fn prepare(&self, made: &mut Made) -> Result<(), ImageError> {
        made.lead(&"prepare", false)?;
        let prepared = self.layer(made, async |sandbox: &Sandbox| {
            let command = Command::new(&["/bin/sh", "-c", PREPARE]).user(0);
            match sandbox.exec(Command { cwd: Some("/".into()), ..command }).await {
                Ok(running) => self.told(running, self.log).await,
                Err(error) => Err(life(error)),
            }
        });
        match prepared.await {
            Err(ImageError::Here(error)) => Err(error.into()),
            Err(error) => {
                self.log.say(Level::Warn, format!("the image has no shell to be prepared with: {error}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn steps(&self, made: &mut Made, steps: &[(&RecipeStep, Log)]) -> Result<(), ImageError> {
        let changes = |action: &Action| matches!(action, Action::Run { .. } | Action::Copy { .. } | Action::Workdir(_));
        if !steps.iter().any(|(step, _)| changes(&step.action)) {
            steps.iter().for_each(|(step, _)| settle(&mut made.config, &step.action));
            return Ok(());
        }
        let name = format!("step-{}", made.digest);
        if self.images.layer(&name).is_dir() {
            steps.iter().for_each(|(step, log)| {
                log.say(Level::Info, "is here already");
                settle(&mut made.config, &step.action);
            });
            made.layers.insert(0, name);
            return Ok(());
        }
        let mut config = made.config.clone();
        self.layer(made, async |sandbox: &Sandbox| {
            for (step, log) in steps {
                settle(&mut config, &step.action);
                self.step(sandbox, &config, &step.action, log).await?;
            }
            Ok(())
        })
        .await?;
        made.config = config;
        Ok(())
    }

    /// Has something done in a sandbox of what is made so far, and keeps what it changed as the next layer.
    async fn layer(&self, made: &mut Made, work: impl AsyncFnOnce(&Sandbox) -> Result<(), ImageError>) -> Result<(), ImageError> {
        let name = format!("step-{}", made.digest);
        if !self.images.layer(&name).is_dir() {
            let boxed = (self.workshop)(self.images.rootfs_of(&made.image("step"))?).await.map_err(life)?;
            let done = match boxed.sandbox().await {
                Some(sandbox) => work(&sandbox).await,
                None => Err(ImageError::Tool("the sandbox has ended".into())),
            };
            let kept = match done {
                Ok(()) => self.keep(&boxed, &name).await,
                Err(error) => Err(error),
            };
            boxed.happen(Input::Remove).await.map_err(life)?;
            kept?;
        }
        made.layers.insert(0, name);
        Ok(())
    }

    async fn keep(&self, boxed: &Boxed, name: &str) -> Result<(), ImageError> {
        boxed.happen(Input::Stop).await.map_err(life)?;
        let (place_of, store, name) = (boxed.place().await, self.images.layers(), name.to_owned());
        let kept = tokio::task::spawn_blocking(move || place(&store, &name, |beside| Ok(moved(&place_of, beside)?)));
        kept.await.map_err(|_| ImageError::Stopped)?
    }

    async fn step(&self, sandbox: &Sandbox, config: &ImageConfig, action: &Action, log: &Log) -> Result<(), ImageError> {
        match action {
            Action::Run { line, user } => {
                let user = user.as_deref().or(config.user.as_deref()).unwrap_or(USER);
                let shell = if sandbox.stat("/bin/bash", 0).await.is_ok() { "/bin/bash" } else { "/bin/sh" };
                // E2B's words, which its packages' users look for.
                let unknown = |_| {
                    ImageError::Tool(format!("failed to run command '{line}': command failed: unauthenticated: invalid username: '{user}'"))
                };
                let command = config.command(&[shell, "-c", line]).user(user_id(sandbox, user).await.map_err(unknown)?);
                self.told(sandbox.exec(command).await.map_err(life)?, log).await
            }
            Action::Copy { files, source, target, user, mode, .. } => {
                let user = user.as_deref().filter(|user| !user.is_empty()).or(config.user.as_deref()).unwrap_or(USER);
                let owner = if user.contains(':') { user.to_owned() } else { format!("{user}:") };
                let within = "/tmp/.copied.tar";
                send(sandbox, files, within).await?;
                let mode = mode.map(|mode| format!("{:o}", mode & 0o777)).unwrap_or_default();
                let target = match config.workdir.as_deref() {
                    Some(workdir) if !target.starts_with('/') => format!("{workdir}/{target}"),
                    _ => target.clone(),
                };
                let command = Command::new(&["/bin/sh", "-c", COPY, "copy", within, source, &target, &owner, &mode]).user(0);
                let command = Command { cwd: Some("/".into()), ..command };
                self.told(sandbox.exec(command).await.map_err(life)?, log).await
            }
            Action::Workdir(path) => {
                let user = user_id(sandbox, config.user.as_deref().unwrap_or(USER)).await?;
                let make = "[ -d \"$1\" ] || { mkdir -p -- \"$1\" && chown \"$2\" -- \"$1\"; }";
                let path = config.workdir.as_deref().unwrap_or(path);
                let command = Command::new(&["/bin/sh", "-c", make, "workdir", path, &user.to_string()]).user(0);
                let command = Command { cwd: Some("/".into()), ..command };
                self.told(sandbox.exec(command).await.map_err(life)?, log).await
            }
            Action::Env(_) | Action::User(_) => Ok(()),
        }
    }

    /// A command whose lines go to the log, and which must end well.
    async fn told(&self, mut running: Running, log: &Log) -> Result<(), ImageError> {
        let (out, err) = (running.stdout.take(), running.stderr.take());
        tokio::try_join!(lines(out, log, Level::Info), lines(err, log, Level::Warn))?;
        match running.exited().await.map_err(life)? {
            Status::Code(0) => Ok(()),
            Status::Code(code) => Err(ImageError::Tool(format!("it ended with code {code}"))),
            Status::Signal(signal) => Err(ImageError::Tool(format!("it was ended by signal {signal}"))),
        }
    }

    /// What the template starts must become ready once, before it is a template.
    async fn trial(&self, made: &Made) -> Result<(), ImageError> {
        if made.config.start.is_none() && made.config.ready.is_none() {
            return Ok(());
        }
        let boxed = (self.workshop)(self.images.rootfs_of(&made.image("trial"))?).await.map_err(life)?;
        let tried = match boxed.sandbox().await {
            Some(sandbox) => {
                let (told, log) = (made.config.begin(&sandbox, READY), self.log);
                async {
                    if let Some(mut running) = told.await? {
                        let (out, err) = (running.stdout.take(), running.stderr.take());
                        let said = async { tokio::try_join!(lines(out, log, Level::Info), lines(err, log, Level::Warn)) };
                        // What it has said by now; it may go on for ever.
                        let _ = tokio::time::timeout(Duration::from_millis(200), said).await;
                    }
                    Ok(())
                }
                .await
            }
            None => Err(ImageError::Tool("the sandbox has ended".into())),
        };
        boxed.happen(Input::Remove).await.map_err(life)?;
        tried
    }
}

/// What a step means for those that follow.
fn settle(config: &mut ImageConfig, action: &Action) {
    match action {
        Action::Env(values) => config.env.extend(values.clone()),
        Action::Workdir(path) => {
            let below = config.workdir.clone().filter(|_| !path.starts_with('/'));
            config.workdir = Some(below.map_or_else(|| path.clone(), |below| format!("{below}/{path}")));
        }
        Action::User(name) => config.user = Some(name.clone()),
        Action::Run { .. } | Action::Copy { .. } => {}
    }
}

impl ImageConfig {
    /// A command as this image wants it: with its variables, where it begins.
    #[must_use]
    pub fn command(&self, argv: &[&str]) -> Command {
        Command { env: self.env.clone(), cwd: self.workdir.clone(), ..Command::new(argv) }
    }

    /// Starts what the template says, if it says so, and returns when it is ready: the command's streams are the caller's to read.
    pub async fn begin(&self, sandbox: &Sandbox, within: Duration) -> Result<Option<Running>, ImageError> {
        let user = user_id(sandbox, self.user.as_deref().unwrap_or(USER)).await?;
        let shell = |line: &str| self.command(&["/bin/sh", "-c", line]).user(user);
        let started = match &self.start {
            Some(line) => Some(sandbox.exec(shell(line)).await.map_err(life)?),
            None => None,
        };
        let Some(line) = &self.ready else { return Ok(started) };
        let (began, mut pause) = (Instant::now(), Duration::from_millis(50));
        loop {
            let tried = sandbox.exec(shell(line)).await.map_err(life)?.output(0).await.map_err(life)?;
            if tried.status == Status::Code(0) {
                return Ok(started);
            }
            if began.elapsed() > within {
                return Err(ImageError::Tool(format!("what it starts is not ready after {} s", within.as_secs())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

/// A user's number, as the sandbox's own files have it. `name:group` is the name's.
pub(crate) async fn user_id(sandbox: &Sandbox, user: &str) -> Result<u32, ImageError> {
    let name = user.split(':').next().unwrap_or_default();
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    if name == "root" {
        return Ok(0);
    }
    let (_, pipe, _) = sandbox.read("/etc/passwd", 1_000).await.map_err(life)?;
    let mut text = String::new();
    pipe.take(256 << 10).read_to_string(&mut text).await?;
    let found = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name));
    let number = found.and_then(|fields| fields.get(2)?.parse().ok());
    number.ok_or_else(|| ImageError::Tool(format!("there is no user {name:?} in the image")))
}

async fn send(sandbox: &Sandbox, file: &Path, to: &str) -> Result<(), ImageError> {
    let mut file = tokio::fs::File::open(file).await?;
    let (mut pipe, copied) = sandbox.write(to, 0, 0o600).await.map_err(life)?;
    tokio::io::copy(&mut file, &mut pipe).await?;
    pipe.shutdown().await?;
    drop(pipe);
    copied.await.map_err(|_| ImageError::Stopped)?.map(drop).map_err(life)
}

/// What a stream says, line by line; a line without an end is cut.
async fn lines(from: Option<impl AsyncRead + Unpin>, log: &Log, level: Level) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        if (&mut from).take(MOST_LINE).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        log.say(level, String::from_utf8_lossy(&line).trim_end());
    }
}

/// A stopped sandbox's changes, as one tree: those of the host's parts under their names.
fn moved(place: &Place, to: &Path) -> io::Result<()> {
    let changes = place.folder.join("fs");
    fs::rename(changes.join("root"), to)?;
    for part in &place.rootfs.parts {
        let from = changes.join(&part.name);
        if fs::read_dir(&from).is_ok_and(|mut entries| entries.next().is_some()) {
            let under = to.join(&part.name);
            // Only a mount's place could be here: it was covered for as long as the sandbox lived.
            crate::record::remove(&under)?;
            fs::rename(from, under)?;
        }
    }
    Ok(rustix::fs::syncfs(fs::File::open(to)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_steps_lead_to_the_same_place_unless_forced() {
        let made = || Made { layers: vec![], host: true, config: ImageConfig::default(), digest: "x".into(), forced: false };
        let run = |line: &str| Action::Run { line: line.into(), user: None };
        let lead = |actions: &[(&str, bool)]| {
            let mut made = made();
            actions.iter().for_each(|(line, force)| made.lead(&run(line), *force).unwrap());
            made.digest
        };
        assert_eq!(lead(&[("a", false), ("b", false)]), lead(&[("a", false), ("b", false)]));
        assert_ne!(lead(&[("a", false), ("b", false)]), lead(&[("b", false), ("a", false)]));
        assert_ne!(lead(&[("a", true), ("b", false)]), lead(&[("a", true), ("b", false)]), "what follows a forced step is run again");
    }

    #[test]
    fn settings_build_upon_each_other() {
        let mut config = ImageConfig::default();
        for action in [
            Action::Workdir("/a".into()),
            Action::Workdir("b".into()),
            Action::Env(BTreeMap::from([("K".into(), "1".into()), ("L".into(), "1".into())])),
            Action::Env(BTreeMap::from([("K".into(), "2".into())])),
            Action::User("root".into()),
        ] {
            settle(&mut config, &action);
        }
        assert_eq!((config.workdir.as_deref(), config.user.as_deref()), (Some("/a/b"), Some("root")));
        assert_eq!(config.env, BTreeMap::from([("K".to_owned(), "2".to_owned()), ("L".to_owned(), "1".to_owned())]));
    }
}
