//! The account of one call: who waits for its answer, what it may still use, what it has used. A value with rules;
//! `task.rs` applies them.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Reply;
use super::bound::Bounds;
use crate::chain::Chain;
use crate::instance::Used;
use crate::limits::Limits;
use crate::outcome::{Exception, Meter, Outcome, Report};
use crate::target::{Response, RpcMessage};
use crate::trace::Trace;

/// CPU time for the `cancel` event of a call whose wall time is over.
const LAST_MOMENT: Duration = Duration::from_millis(10);

pub(super) struct Call {
    /// Kind of event, for the report.
    event: &'static str,
    reply: Option<Reply>,
    report: Option<oneshot::Sender<Report>>,
    outcome: Outcome,
    pub(super) meter: Meter,
    /// For the worker's tails.
    pub(super) trace: Option<Box<Trace>>,
    arrived: Instant,
    /// The calls that led to it.
    pub(super) chain: Chain,
    /// Whether an outgoing request was refused for the limit.
    over_subrequests: bool,
    limits: Limits,
    /// What must not outlive it.
    pub(super) bounds: Bounds,
}

/// What is left of a call.
pub(super) struct Finished {
    pub(super) event: &'static str,
    pub(super) report: Report,
    pub(super) trace: Option<Box<Trace>>,
    pub(super) chain: Chain,
}

impl Call {
    pub(super) fn new(
        (event, chain): (&'static str, Chain),
        limits: Limits,
        arrived: Instant,
        reply: Reply,
        report: Option<oneshot::Sender<Report>>,
    ) -> Self {
        Self {
            event,
            chain,
            arrived,
            reply: Some(reply),
            report,
            outcome: Outcome::Ok,
            meter: Meter::default(),
            trace: None,
            over_subrequests: false,
            limits,
            bounds: Bounds::default(),
        }
    }

    /// With something that is written down for tails.
    pub(super) fn traced(mut self, trace: Option<Box<Trace>>) -> Self {
        self.trace = trace;
        self
    }

    /// CPU time it may still use, in microseconds.
    pub(super) fn cpu_left_us(&self) -> u64 {
        (u64::from(self.limits.cpu_ms) * 1_000).saturating_sub(self.meter.cpu_us)
    }

    /// CPU time that its next turn may use, in microseconds: a turn cannot be looked at from outside while it runs, and
    /// takes at least as long as the CPU time that it uses.
    pub(super) fn allowance_us(&self) -> u64 {
        let wall = Duration::from_millis(u64::from(self.limits.wall_ms));
        // A call that is overdue already gets a last moment to tidy up.
        let left = wall.saturating_sub(self.arrived.elapsed()).max(LAST_MOMENT);
        self.cpu_left_us().min(left.as_micros() as u64)
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.arrived.elapsed() > Duration::from_millis(u64::from(self.limits.wall_ms))
    }

    /// Counts an outgoing request; `false` when it is one too many.
    pub(super) fn subrequest(&mut self) -> bool {
        if self.meter.subrequests >= self.limits.subrequests {
            self.over_subrequests = true;
            return false;
        }
        self.meter.subrequests += 1;
        true
    }

    /// Counts bytes that leave; `false` when they are too many, and then they do not leave and are not counted.
    pub(super) fn output(&mut self, n: usize) -> bool {
        let total = self.meter.bytes_out.saturating_add(n as u64);
        if total > self.limits.output_bytes {
            return false;
        }
        self.meter.bytes_out = total;
        true
    }

    /// Puts on the account what a turn has used.
    pub(super) fn charge(&mut self, used: Used) {
        self.meter.cpu_us += used.cpu_us;
        self.meter.operations += used.operations;
        self.meter.host_calls += used.host_calls;
        self.meter.memory_peak_bytes = self.meter.memory_peak_bytes.max(used.memory_peak);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.reply.is_none()
    }

    /// Whether it is an event that nobody expects an answer of but its end, and that has not been answered.
    pub(super) fn is_told(&self) -> bool {
        matches!(self.event, "alarm" | "hibernatableWebSocket") && !self.is_answered()
    }

    pub(super) fn respond(&mut self, response: Response) {
        if let Some(trace) = &mut self.trace {
            trace.answered(response.status);
        }
        if let Some(Reply::Response(tx)) = self.reply.take() {
            let _ = tx.send(Ok(response));
        }
    }

    /// `failed`: the message carries an exception that the guest caught and wrote down for its caller.
    pub(super) fn result(&mut self, message: RpcMessage, failed: bool) {
        if failed && self.outcome == Outcome::Ok {
            self.outcome =
                Outcome::Exception(Exception { name: "Error".into(), message: "the called method threw".into(), stack: String::new() });
        }
        if let Some(Reply::Message(tx)) = self.reply.take() {
            let _ = tx.send(Ok(message));
        }
    }

    /// The handler threw.
    pub(super) fn fail(&mut self, exception: Exception) {
        let outcome = if self.over_subrequests { Outcome::Subrequests } else { Outcome::Exception(exception) };
        self.end(outcome);
    }

    /// Answers the caller with `outcome`, which is also what the report says. The first failure counts.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.end_telling(outcome.clone(), outcome);
    }

    /// The same where the caller is told something else than the report says.
    pub(super) fn end_telling(&mut self, told: Outcome, outcome: Outcome) {
        match self.reply.take() {
            Some(Reply::Response(tx)) => drop(tx.send(Err(told))),
            Some(Reply::Message(tx)) => drop(tx.send(Err(told))),
            None => {}
        }
        if self.outcome == Outcome::Ok {
            self.outcome = outcome;
        }
    }

    /// Everything the call started has ended.
    pub(super) fn finish(mut self) -> Finished {
        if !self.is_answered() {
            self.end(Outcome::Exception(Exception {
                name: "Error".into(),
                message: "The script will never generate a response.".into(),
                stack: String::new(),
            }));
        }
        self.meter.wall_us = self.arrived.elapsed().as_micros() as u64;
        let report = Report { outcome: self.outcome, meter: self.meter };
        if let Some(tx) = self.report.take() {
            let _ = tx.send(report.clone());
        }
        Finished { event: self.event, report, trace: self.trace, chain: self.chain }
    }
}
