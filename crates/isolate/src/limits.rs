//! What one isolate may use. A policy gives the defaults, a worker or a caller may ask for less: the lower wins.

use serde::{Deserialize, Serialize};

/// Limits in force. Per *call* means per request, event or execution; the rest holds for the isolate as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// CPU time of one call, in milliseconds. Exceeding it ends the isolate (it cannot be trusted to stop by itself). The start
    /// of a worker may use as much, and so may, in each wall limit, what goes on when no call is in flight.
    pub cpu_ms: u32,
    /// Wall time of one call from arrival until its response is complete, in milliseconds; of a worker's start as well.
    pub wall_ms: u32,
    /// Memory of the isolate in MiB: linear memory, image included, and what the host holds for it.
    pub memory_mb: u32,
    /// Outgoing requests of one call (fetch, service stubs, sockets).
    pub subrequests: u32,
    /// Bytes that one call may send out (response bodies, results, messages, requests), in bytes.
    pub output_bytes: u64,
    /// Total size of a worker's modules, in bytes.
    pub code_bytes: u64,
    /// Operations in flight and host streams, codecs and sockets open at once, each.
    pub pending: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_ms: 30_000,
            wall_ms: 300_000,
            memory_mb: 128,
            subrequests: 1_000,
            output_bytes: 1 << 30,
            code_bytes: 64 << 20,
            pending: 4_096,
        }
    }
}

/// Limits asked for; absent means "as the policy says".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsAsked {
    /// See [`Limits::cpu_ms`].
    pub cpu_ms: Option<u32>,
    /// See [`Limits::wall_ms`].
    pub wall_ms: Option<u32>,
    /// See [`Limits::memory_mb`].
    pub memory_mb: Option<u32>,
    /// See [`Limits::subrequests`].
    pub subrequests: Option<u32>,
    /// See [`Limits::output_bytes`].
    pub output_bytes: Option<u64>,
}

impl Limits {
    /// These limits, lowered by what was asked for; asking for more changes nothing.
    #[must_use]
    pub fn lowered(self, asked: &LimitsAsked) -> Self {
        fn lower<T: Ord>(policy: T, asked: Option<T>) -> T {
            asked.into_iter().fold(policy, Ord::min)
        }
        Self {
            cpu_ms: lower(self.cpu_ms, asked.cpu_ms),
            wall_ms: lower(self.wall_ms, asked.wall_ms),
            memory_mb: lower(self.memory_mb, asked.memory_mb),
            subrequests: lower(self.subrequests, asked.subrequests),
            output_bytes: lower(self.output_bytes, asked.output_bytes),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_wins() {
        let policy = Limits { cpu_ms: 50, memory_mb: 64, ..Limits::default() };
        let asked = LimitsAsked { cpu_ms: Some(10), memory_mb: Some(4096), ..LimitsAsked::default() };
        let got = policy.lowered(&asked);
        assert_eq!((got.cpu_ms, got.memory_mb, got.wall_ms), (10, 64, policy.wall_ms));
    }
}
