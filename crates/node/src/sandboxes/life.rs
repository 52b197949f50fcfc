//! One sandbox and its owner: found, woken, paused, given more time, removed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard, RwLock};
use skep_id::SandboxId;
use skep_sandbox::{Boxed, ImageConfig, Input, Sandbox, State, Stop};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    sync::{Semaphore, watch},
};

use super::{
    Facts, Level, LogEntry, Reach, Sample, SandboxError, Setup,
    create::TIMEOUT_MAX_MS,
    log::Log,
    network::{Joined, Network, rules},
    records::Records,
    samples::Samples,
};

/// How long what a template starts has to become ready.
const READY: Duration = Duration::from_secs(60);

/// Longest line of it that is kept, in bytes.
const LINE_BYTES_MAX: u64 = 4 << 10;

/// A sandbox as its owner has it. Cheap to clone.
#[derive(Clone)]
pub struct Owned {
    inner: Arc<Inner>,
}

struct Inner {
    boxed: Boxed,
    facts: RwLock<Facts>,
    records: Arc<Records>,
    waiting: Arc<Semaphore>,
    log: Mutex<Log>,
    samples: Mutex<Samples>,
    network: Joined,
    /// The run, by its init, in which what the template starts was started.
    begun: tokio::sync::Mutex<Option<i32>>,
}

/// What was found, or done, by somebody who wants a sandbox to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// It ran.
    Ran,
    /// It was paused or stopped, and now runs.
    Now,
}

impl Owned {
    pub(super) fn new(boxed: Boxed, facts: Facts, network: &Network, records: Arc<Records>, waiting: Arc<Semaphore>) -> Self {
        let network = Joined::new(network.clone(), &facts.reach);
        let (log, samples) = (Mutex::default(), Mutex::default());
        let begun = tokio::sync::Mutex::default();
        Self { inner: Arc::new(Inner { boxed, facts: RwLock::new(facts), records, waiting, log, samples, network, begun }) }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        self.inner.boxed.id()
    }

    /// What is known of it.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.inner.facts.read().clone()
    }

    /// The sandbox as the core has it.
    #[must_use]
    pub fn boxed(&self) -> &Boxed {
        &self.inner.boxed
    }

    /// Where its row is.
    pub(super) fn records(&self) -> &Records {
        &self.inner.records
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.boxed.state().borrow().clone()
    }

    /// Where it is in its life, now and as it changes.
    #[must_use]
    pub fn state_changes(&self) -> watch::Receiver<State> {
        self.inner.boxed.state()
    }

    /// Joins the device of the present run with the gateway.
    pub(super) async fn attach(&self) -> Result<(), SandboxError> {
        match self.inner.boxed.sandbox().await {
            Some(sandbox) => self.inner.network.attach(self.id(), &sandbox).await,
            None => Ok(()),
        }
    }

    /// Starts what its template says, once in each run, and returns when it is ready.
    pub(super) async fn begin(&self) -> Result<(), SandboxError> {
        let Setup { user, workdir, start, ready } = self.facts().setup;
        if start.is_none() && ready.is_none() {
            return Ok(());
        }
        let Some(sandbox) = self.inner.boxed.sandbox().await else { return Ok(()) };
        let mut begun = self.inner.begun.lock().await;
        if *begun == Some(sandbox.pid()) {
            return Ok(());
        }
        *begun = Some(sandbox.pid());
        let config = ImageConfig { env: self.facts().env, user, workdir, start, ready, ..ImageConfig::default() };
        let started = config.begin(&sandbox, READY).await.map_err(|error| SandboxError::NotReady(error.to_string()))?;
        if let Some(mut running) = started {
            let (out, err) = (running.stdout.take(), running.stderr.take());
            tokio::spawn(self.clone().hear(out, Level::Info));
            tokio::spawn(self.clone().hear(err, Level::Warn));
        }
        Ok(())
    }

    /// What was started may write for ever: its lines go to the log, and it is never kept waiting.
    async fn hear(self, from: Option<impl AsyncRead + Unpin>, level: Level) {
        let Some(from) = from else { return };
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            self.say(level, String::from_utf8_lossy(&line).trim_end(), BTreeMap::new());
            line.clear();
        }
    }

    /// The running sandbox, for its owner's calls; one that stands still is not woken.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn running(&self) -> Result<Sandbox, SandboxError> {
        match self.state() {
            State::Running { .. } | State::Starting => self.inner.boxed.sandbox().await.ok_or_else(|| self.gone()),
            State::Paused | State::Stopped { .. } => Err(SandboxError::Asleep(self.id().clone())),
            State::Removing => Err(self.gone()),
        }
    }

    /// The running sandbox, for traffic: one that stands still is woken, if its owner decided so.
    ///
    /// # Errors
    /// When it does not wake by itself, or too many wait already.
    pub async fn for_traffic(&self) -> Result<Sandbox, SandboxError> {
        let state = self.state();
        if matches!(state, State::Paused | State::Stopped { .. }) {
            if !self.inner.facts.read().auto_resume {
                return Err(SandboxError::Asleep(self.id().clone()));
            }
            let _place = self.inner.waiting.try_acquire().map_err(|_| SandboxError::Busy)?;
            self.inner.boxed.happen(Input::Traffic).await?;
            self.woke("woken by traffic", &state).await?;
        }
        self.running().await
    }

    /// Makes it run, and for at least `timeout_ms` from now where that is given: time is added, never taken.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn connect(&self, timeout_ms: Option<u64>) -> Result<Woken, SandboxError> {
        let woken = match self.state() {
            State::Running { deadline_ms } => {
                let ends = timeout_ms.map(ends_in).transpose()?;
                // Without a deadline it has all the time there is.
                if deadline_ms.is_some() && ends.is_some_and(|ends| deadline_ms.is_some_and(|deadline| ends > deadline)) {
                    self.inner.boxed.happen(Input::Until(ends)).await?;
                }
                Woken::Ran
            }
            _ => self.resume(timeout_ms).await?,
        };
        Ok(woken)
    }

    /// Makes it run, for `timeout_ms` from now, or as long as its maker decided.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn resume(&self, timeout_ms: Option<u64>) -> Result<Woken, SandboxError> {
        let ends = timeout_ms.map(ends_in).transpose()?;
        let state = self.state();
        self.inner.boxed.happen(Input::Resume).await?;
        if ends.is_some() {
            self.inner.boxed.happen(Input::Until(ends)).await?;
        }
        if matches!(state, State::Running { .. }) {
            return Ok(Woken::Ran);
        }
        self.woke("resumed", &state).await?;
        Ok(Woken::Now)
    }

    async fn woke(&self, how: &str, before: &State) -> Result<(), SandboxError> {
        self.attach().await?;
        self.say(Level::Info, how, BTreeMap::new());
        if matches!(before, State::Stopped { .. })
            && let Err(error) = self.begin().await
        {
            // Its owner can look within why.
            self.say(Level::Error, &error.to_string(), BTreeMap::new());
        }
        self.change(|facts| facts.started_ms = crate::now_ms()).await
    }

    /// Stands it still with its memory, or, without, ends its processes and keeps its files.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn pause(&self, memory: bool) -> Result<(), SandboxError> {
        if !matches!(self.state(), State::Running { .. }) {
            return Err(SandboxError::Asleep(self.id().clone()));
        }
        Ok(self.inner.boxed.happen(if memory { Input::Pause } else { Input::Stop }).await?)
    }

    /// Ends its processes; its files stay. Nothing happens to one that has none.
    ///
    /// # Errors
    /// When they cannot be ended.
    pub async fn stop(&self) -> Result<(), SandboxError> {
        Ok(self.inner.boxed.happen(Input::Stop).await?)
    }

    /// Its time is up so many milliseconds from now; `None`: never.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn set_timeout(&self, timeout_ms: Option<u64>) -> Result<(), SandboxError> {
        let ends = timeout_ms.map(ends_in).transpose()?;
        if !matches!(self.state(), State::Running { .. }) {
            return Err(SandboxError::Asleep(self.id().clone()));
        }
        Ok(self.inner.boxed.happen(Input::Until(ends)).await?)
    }

    /// Removes it with all that it has; it is done when this returns, even if the caller leaves.
    ///
    /// # Errors
    /// When its processes or files cannot be removed now; it goes on going.
    pub async fn remove(&self) -> Result<(), SandboxError> {
        let boxed = self.inner.boxed.clone();
        let done = tokio::spawn(async move { boxed.happen(Input::Remove).await });
        done.await.map_err(|_| SandboxError::Here("removing a sandbox broke off"))??;
        Ok(())
    }

    /// What it may reach from now on, also for what is connected.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn set_reach(&self, reach: Reach) -> Result<(), SandboxError> {
        let rules = rules(&reach)?;
        self.change(|facts| facts.reach = reach).await?;
        self.inner.network.change(rules);
        Ok(())
    }

    async fn change(&self, change: impl FnOnce(&mut Facts)) -> Result<(), SandboxError> {
        let facts = {
            let mut facts = self.inner.facts.write();
            change(&mut facts);
            facts.clone()
        };
        let (records, id) = (Arc::clone(&self.inner.records), self.id().clone());
        let written = tokio::task::spawn_blocking(move || records.put(&id, &facts)).await;
        Ok(written.map_err(|_| SandboxError::Here("writing a row broke off"))??)
    }

    /// When its time is up, ms since the epoch. `None`: never, or it does not run.
    #[must_use]
    pub fn ends_ms(&self) -> Option<i64> {
        match self.state() {
            State::Running { deadline_ms } => i64::try_from(deadline_ms?).ok(),
            _ => None,
        }
    }

    /// Adds a line to its log.
    pub fn say(&self, level: Level, message: &str, fields: BTreeMap<String, String>) {
        self.inner.log.lock().add(LogEntry { at_ms: crate::now_ms(), level, message: message.to_owned(), fields });
    }

    /// The newest lines of its log, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.inner.log.lock().lines()
    }

    /// What it used between two times, ms since the epoch.
    #[must_use]
    pub fn used_between(&self, from_ms: i64, to_ms: i64) -> Vec<Sample> {
        self.inner.samples.lock().between(from_ms, to_ms)
    }

    /// What it used when it was last looked at.
    #[must_use]
    pub fn newest_sample(&self) -> Option<Sample> {
        self.inner.samples.lock().newest()
    }

    pub(super) fn samples(&self) -> MutexGuard<'_, Samples> {
        self.inner.samples.lock()
    }

    /// Writes each change of its life to its log, until it is gone.
    pub(super) async fn keep_log(&self, changes: &mut watch::Receiver<State>) {
        loop {
            let state = changes.borrow_and_update().clone();
            self.inner.network.detach_if(|| matches!(self.state(), State::Stopped { .. } | State::Removing));
            match state {
                State::Removing => return,
                State::Running { .. } | State::Starting => {}
                State::Paused => self.say(Level::Info, "paused", BTreeMap::new()),
                State::Stopped { why: Stop::InitEnded } => self.say(Level::Error, "its init ended", BTreeMap::new()),
                State::Stopped { why } => self.say(Level::Info, &format!("stopped: {why:?}"), BTreeMap::new()),
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn gone(&self) -> SandboxError {
        SandboxError::Gone(self.id().clone())
    }
}

pub(super) fn ends_in(timeout_ms: u64) -> Result<u64, SandboxError> {
    if timeout_ms > TIMEOUT_MAX_MS {
        return Err(SandboxError::Invalid("a timeout is at most a year".to_owned()));
    }
    Ok(u64::try_from(crate::now_ms()).unwrap_or_default().saturating_add(timeout_ms))
}
