//! What sandboxes use, looked at every few seconds and kept for a while.

use std::{
    collections::VecDeque,
    path::Path,
    sync::Weak,
    time::{Duration, Instant},
};

use skep_sandbox::State;

use super::{Inner, Owned};

/// Samples kept of one sandbox: an hour of them, 50 KiB.
const SAMPLES_MAX: usize = 720;

/// What a sandbox used at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// ms since the epoch.
    pub at_ms: i64,
    /// Of the computing time that its limit allows since the sample before, 0 to 100 and, by imprecise clocks, a little more.
    pub cpu_percent: f64,
    /// Memory of all its processes, page cache included, in bytes.
    pub memory_bytes: u64,
    /// Of it, page cache.
    pub cache_bytes: u64,
    /// Bytes used on the disk that its changes are on.
    pub disk_bytes: u64,
    /// Bytes of that disk.
    pub disk_total_bytes: u64,
}

#[derive(Default)]
pub(super) struct Samples {
    kept: VecDeque<Sample>,
    last: Option<(Instant, u64)>,
}

impl Samples {
    pub fn between(&self, from_ms: i64, to_ms: i64) -> Vec<Sample> {
        self.kept.iter().filter(|sample| (from_ms..=to_ms).contains(&sample.at_ms)).copied().collect()
    }

    pub fn newest(&self) -> Option<Sample> {
        self.kept.back().copied()
    }

    fn add(&mut self, now: Instant, cpu_us: u64, cpu_millis: u32, mut sample: Sample) {
        if let Some((then, before)) = self.last.replace((now, cpu_us)) {
            let allowed_us = now.duration_since(then).as_secs_f64() * f64::from(cpu_millis.max(1)) * 1e3;
            // A sandbox that started anew counts from zero again.
            sample.cpu_percent = if allowed_us > 0.0 { cpu_us.saturating_sub(before) as f64 / allowed_us * 100.0 } else { 0.0 };
        }
        if self.kept.len() == SAMPLES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(sample);
    }
}

/// Looks at all that run, again and again, until the last handle is gone.
pub(super) async fn sample(inner: Weak<Inner>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let all: Vec<Owned> = inner.held.read().values().cloned().collect();
        let folder = inner.folder.clone();
        drop(inner);
        let mut groups = Vec::new();
        for owned in all {
            let runs = matches!(*owned.state_changes().borrow(), State::Running { .. });
            if runs && let Some(sandbox) = owned.boxed().sandbox().await {
                groups.push((owned, sandbox));
            }
        }
        // A few small files of the kernel each; with a thousand sandboxes that is no work for a thread that serves.
        let _ = tokio::task::spawn_blocking(move || {
            let (disk_bytes, disk_total_bytes) = disk(&folder);
            for (owned, sandbox) in groups {
                let usage = sandbox.group().usage();
                let sample = Sample {
                    at_ms: crate::now_ms(),
                    cpu_percent: 0.0,
                    memory_bytes: usage.memory_bytes,
                    cache_bytes: usage.cache_bytes,
                    disk_bytes,
                    disk_total_bytes,
                };
                owned.samples().add(Instant::now(), usage.cpu_micros, owned.facts().limits.cpu_millis, sample);
            }
        })
        .await;
    }
}

/// Bytes used and there on the disk of a folder.
fn disk(folder: &Path) -> (u64, u64) {
    let Ok(found) = rustix::fs::statvfs(folder) else { return (0, 0) };
    (found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_time_is_a_share_of_what_is_allowed() {
        let (mut samples, began) = (Samples::default(), Instant::now());
        let empty = Sample { at_ms: 0, cpu_percent: 0.0, memory_bytes: 0, cache_bytes: 0, disk_bytes: 0, disk_total_bytes: 0 };
        for (seconds, cpu_us) in [(0, 0), (5, 5_000_000), (10, 15_000_000), (15, 0)] {
            let sample = Sample { at_ms: seconds * 1_000, ..empty };
            samples.add(began + Duration::from_secs(seconds as u64), cpu_us, 2_000, sample);
        }
        let shown: Vec<f64> = samples.between(0, 20_000).iter().map(|sample| sample.cpu_percent.round()).collect();
        assert_eq!(shown, [0.0, 50.0, 100.0, 0.0]);
        assert_eq!(samples.between(5_000, 10_000).len(), 2);
    }
}
