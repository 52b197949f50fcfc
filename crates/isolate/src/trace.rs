//! Tails: what happened in one call of a worker, written down while it runs and sent to the worker's tails once the call, with
//! everything that it started, has ended. Driven by the isolate's task. The form is that of the open-source `tail(events)` handler;
//! its classes are made in the guest (`guest/src/tail.ts`).
//!
//! Nothing here ever waits: a tail that is slow, or gone, loses traces. What a trace holds is bounded and on the traced isolate's
//! account; what waits to be delivered has a bound of its own.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::chain::Chain;
use crate::held::{Charge, Held};
use crate::outcome::{Exception, Outcome, Report};
use crate::target::Target;

/// Log lines and exceptions kept for one trace, each; what is beyond is left out and the trace says `truncated`.
const ENTRIES_MAX: usize = 256;

/// Bytes of log lines, exceptions and event kept for one trace.
const BYTES_MAX: usize = 256 << 10;

/// Traces of one worker that its tails have not taken yet, in KiB over all tails. Further ones are lost: a tail that is slow must not
/// make the host keep what a worker writes.
const UNDELIVERED_KIB: usize = 4 << 10;

/// Deepest nesting of an argument of `console.log` that is passed on as data: a traced worker shall not be able to write traces that
/// its tails cannot read.
const DEPTH_MAX: usize = 64;

/// The tails of a worker. Empty for most.
#[derive(Clone, Debug)]
pub struct Tails {
    to: Vec<Arc<dyn Target>>,
    undelivered: Arc<Semaphore>,
}

impl Default for Tails {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Tails {
    /// Traces go to each of these.
    pub fn new(to: Vec<Arc<dyn Target>>) -> Self {
        Self { to, undelivered: Arc::new(Semaphore::new(UNDELIVERED_KIB)) }
    }

    /// Whether there is nobody to tell.
    pub fn is_empty(&self) -> bool {
        self.to.is_empty()
    }

    /// Sends a finished trace, unless the chain of calls behind it has come through too many tails.
    pub(crate) fn send(&self, trace: Trace, chain: &mut Chain, report: &Report) {
        let Some(chain) = chain.tail() else { return };
        let text: Arc<str> = trace.finished(report).into();
        let kib = u32::try_from(text.len() >> 10).unwrap_or(u32::MAX).saturating_add(1);
        for tail in &self.to {
            let Ok(place) = self.undelivered.clone().try_acquire_many_owned(kib) else { return };
            let told = tail.tail(text.to_string(), chain.clone());
            // A tail that fails or hangs is its own affair; its wall limit ends it.
            tokio::spawn(async move {
                let _ = told.await;
                drop(place);
            });
        }
    }
}

/// What happened in one call.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The event as JSON, without the status of an answer.
    event: Value,
    status: Option<u16>,
    began_ms: f64,
    entrypoint: Option<String>,
    /// The id of the actor that it happened in.
    actor: Option<String>,
    /// Each as a JSON text.
    logs: Vec<(String, Charge)>,
    exceptions: Vec<(String, Charge)>,
    bytes: usize,
    truncated: bool,
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64
}

impl Trace {
    pub(crate) fn new(event: Value, entrypoint: Option<String>) -> Self {
        let (logs, exceptions) = (Vec::new(), Vec::new());
        Self { event, entrypoint, actor: None, status: None, began_ms: now_ms(), logs, exceptions, bytes: 0, truncated: false }
    }

    /// As one of an actor.
    pub(crate) fn of_actor(self, id: &str) -> Self {
        Self { actor: Some(id.to_owned()), ..self }
    }

    /// A request. Headers beyond the bound are left out.
    pub(crate) fn fetch(method: &str, url: &str, headers: &[(String, String)], cf: &str, entrypoint: Option<String>) -> Self {
        let mut left = BYTES_MAX / 4;
        let mut fits = |n: usize| {
            let fits = n <= left;
            left -= n.min(left);
            fits
        };
        let url = if fits(url.len()) { url } else { "" };
        let cf: Value = if fits(cf.len()) { serde_json::from_str(cf).unwrap_or_default() } else { Value::Null };
        let mut map = serde_json::Map::new();
        let mut truncated = false;
        for (name, value) in headers {
            if !fits(name.len() + value.len()) {
                truncated = true;
                continue;
            }
            match map.get_mut(name) {
                Some(Value::String(before)) => {
                    before.push_str(", ");
                    before.push_str(value);
                }
                _ => drop(map.insert(name.clone(), Value::String(value.clone()))),
            }
        }
        let mut request = json!({ "headers": map, "method": method, "url": url });
        if !cf.is_null() {
            request["cf"] = cf;
        }
        Self { truncated, bytes: BYTES_MAX / 4 - left, ..Self::new(json!({ "request": request }), entrypoint) }
    }

    fn takes(&mut self, entries: usize, bytes: usize) -> bool {
        let fits = entries < ENTRIES_MAX && self.bytes + bytes <= BYTES_MAX;
        match fits {
            true => self.bytes += bytes,
            false => self.truncated = true,
        }
        fits
    }

    /// A line of the log: its arguments as a JSON array where the guest gave them, or else its text.
    pub(crate) fn log(&mut self, level: &str, text: &str, arguments: Option<&str>, held: &Held) {
        let arguments = arguments.filter(|json| is_plain_array(json));
        if !self.takes(self.logs.len(), level.len() + arguments.map_or(text.len(), str::len)) {
            return;
        }
        let message = arguments.map_or_else(|| json!([text]).to_string(), str::to_owned);
        let entry = format!(r#"{{"timestamp":{},"level":{},"message":{message}}}"#, now_ms(), json!(level));
        let charge = held.charge(entry.len());
        self.logs.push((entry, charge));
    }

    /// An exception that nobody caught.
    pub(crate) fn exception(&mut self, Exception { name, message, stack }: &Exception, held: &Held) {
        if !self.takes(self.exceptions.len(), name.len() + message.len() + stack.len()) {
            return;
        }
        let mut entry = json!({ "timestamp": now_ms(), "name": if name.is_empty() { "Error" } else { name }, "message": message });
        if !stack.is_empty() {
            entry["stack"] = stack.as_str().into();
        }
        let entry = entry.to_string();
        let charge = held.charge(entry.len());
        self.exceptions.push((entry, charge));
    }

    /// The name of what an RPC call calls: it travels in a message that only guests read, so the guest says it.
    pub(crate) fn method(&mut self, name: &str) {
        if let Value::Object(event) = &mut self.event
            && let Some(place) = event.get_mut("rpcMethod")
        {
            *place = name.into();
        }
    }

    /// The status of the answer.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// Takes in what happened before it, on nobody's account.
    pub(crate) fn follow(&mut self, before: Self) {
        self.truncated |= before.truncated;
        self.bytes += before.bytes;
        self.logs.splice(0..0, before.logs);
        self.exceptions.splice(0..0, before.exceptions);
    }

    /// An array of one event, as JSON.
    fn finished(mut self, report: &Report) -> String {
        if let Some(said) = exception_of(&report.outcome) {
            self.exception(&said, &Held::default());
        }
        if let (Some(status), Value::Object(event)) = (self.status, &mut self.event) {
            event.insert("response".into(), json!({ "status": status }));
        }
        let mut out = String::with_capacity(self.bytes + 1_024);
        // Writing to a string does not fail.
        let _ = write!(out, r#"[{{"event":{},"eventTimestamp":{},"logs":["#, self.event, self.began_ms);
        join(&mut out, &self.logs);
        out.push_str(r#"],"exceptions":["#);
        join(&mut out, &self.exceptions);
        let _ = write!(
            out,
            r#"],"diagnosticsChannelEvents":[],"scriptName":null,"entrypoint":{},"outcome":"{}","executionModel":"{}",{}"truncated":{},"cpuTime":{},"wallTime":{}}}]"#,
            json!(self.entrypoint),
            word(&report.outcome),
            if self.actor.is_some() { "durableObject" } else { "stateless" },
            self.actor.as_ref().map(|id| format!(r#""durableObjectId":{},"#, json!(id))).unwrap_or_default(),
            self.truncated,
            report.meter.cpu_us / 1_000,
            report.meter.wall_us / 1_000,
        );
        out
    }
}

fn join(out: &mut String, entries: &[(String, Charge)]) {
    for (i, (entry, _)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(entry);
    }
}

/// How a call ended, in the words of the open-source runtime where it has one.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Exception(_) | Outcome::Startup(_) | Outcome::Reset(_) | Outcome::Subrequests => "exception",
        Outcome::Cpu => "exceededCpu",
        Outcome::Memory => "exceededMemory",
        Outcome::Wall => "exceededWallTime",
        Outcome::Cancelled(_) => "canceled",
        Outcome::Internal(_) => "unknown",
    }
}

fn exception_of(outcome: &Outcome) -> Option<Exception> {
    match outcome {
        Outcome::Ok | Outcome::Cancelled(_) => None,
        Outcome::Exception(exception) | Outcome::Startup(exception) | Outcome::Reset(exception) => Some(exception.clone()),
        other => Some(Exception { name: "Error".into(), message: other.to_string(), stack: String::new() }),
    }
}

/// Whether a text of the guest's is a JSON array, and not nested deeper than a reader could stand.
fn is_plain_array(json: &str) -> bool {
    if !json.starts_with('[') || serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth -= 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Meter;

    fn text(trace: Trace, outcome: Outcome) -> Value {
        serde_json::from_str(&trace.finished(&Report { outcome, meter: Meter::default() })).unwrap()
    }

    #[test]
    fn a_flood_of_lines_is_cut_off_and_says_so() {
        let held = Held::default();
        let mut trace = Trace::new(Value::Null, None);
        (0..1_000).for_each(|n| trace.log("log", &n.to_string(), None, &held));
        assert!(held.now() > 0, "what a trace holds is on the traced isolate's account");
        let told = text(trace, Outcome::Ok);
        assert_eq!((told[0]["logs"].as_array().unwrap().len(), &told[0]["truncated"]), (ENTRIES_MAX, &json!(true)));
        assert_eq!(held.now(), 0);
        let mut trace = Trace::new(Value::Null, None);
        (0..100).for_each(|_| trace.log("log", &"x".repeat(100_000), None, &held));
        assert_eq!(text(trace, Outcome::Ok)[0]["logs"].as_array().unwrap().len(), BYTES_MAX / 100_000);
    }

    #[test]
    fn forged_arguments_cannot_break_a_trace() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for forged in [r#"[1]},{"outcome":"ok""#, "[1", "", "{}", "null", "[1],[2]", "[\"\\\"]", &deep] {
            let mut trace = Trace::new(Value::Null, None);
            trace.log("log", "text", Some(forged), &Held::default());
            assert_eq!(text(trace, Outcome::Cpu)[0]["logs"][0]["message"], json!(["text"]), "{}", &forged[..forged.len().min(30)]);
        }
        let mut trace = Trace::new(Value::Null, None);
        trace.log("l\"", "text", Some(r#"["a]}",{"b":[1]}]"#), &Held::default());
        let told = text(trace, Outcome::Cpu);
        assert_eq!(told[0]["logs"][0]["message"], json!(["a]}", {"b": [1]}]));
        assert_eq!((&told[0]["outcome"], told[0]["exceptions"].as_array().unwrap().len()), (&json!("exceededCpu"), 1));
    }

    #[test]
    fn headers_beyond_the_bound_are_left_out() {
        let headers: Vec<_> = (0..100).map(|n| (format!("x-{n}"), "v".repeat(10_000))).collect();
        let trace = Trace::fetch("GET", "http://w/", &headers, "", None);
        assert!(trace.truncated && trace.bytes <= BYTES_MAX / 4);
        assert_eq!(text(trace, Outcome::Ok)[0]["event"]["request"]["method"], "GET");
    }
}
