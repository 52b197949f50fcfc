//! Numbers about the node, and where request ids come from.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use skep_id::RequestId;
use skep_isolate::Report;

/// Upper bounds of the latency histogram, ms.
const BUCKETS_MS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 500, 2_500, 10_000];

/// The words of [`Outcome::word`], in the order of the counters.
const OUTCOMES: [&str; 10] = ["ok", "exception", "cpu", "wall", "memory", "subrequests", "startup", "reset", "cancelled", "internal"];

/// Request ids: a random start and a counter, so that ids of two runs do not meet and none costs a system call.
pub(crate) struct Ids {
    start: u64,
    next: AtomicU64,
}

impl Ids {
    pub fn new() -> Self {
        let mut start = [0; 8];
        // Without randomness ids are merely less unique; nothing rests on their being hard to guess.
        let _ = getrandom::fill(&mut start);
        Self { start: u64::from_le_bytes(start), next: AtomicU64::new(0) }
    }

    pub fn next(&self) -> RequestId {
        let counter = self.next.fetch_add(1, Relaxed);
        RequestId::from_number(u128::from(self.start) << 64 | u128::from(counter))
    }
}

/// How values are spread.
pub(crate) struct Histogram {
    pub name: &'static str,
    pub help: &'static str,
    /// Upper bounds, ascending.
    pub bounds: Vec<f64>,
    /// Values below each bound and not below the one before it.
    pub buckets: Vec<u64>,
    /// All values, those beyond the last bound too.
    pub count: u64,
    pub sum: f64,
}

impl Histogram {
    fn write(&self, text: &mut String) {
        let Self { name, help, count, sum, .. } = self;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            below += bucket;
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

/// Counters since the start of the node.
pub(crate) struct Metrics {
    pub ids: Ids,
    outcomes: [AtomicU64; OUTCOMES.len()],
    buckets: [AtomicU64; BUCKETS_MS.len()],
    latency_us: AtomicU64,
    cpu_us: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    subrequests: AtomicU64,
    pub deploys: AtomicU64,
    pub executes: AtomicU64,
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            ids: Ids::new(),
            outcomes: Default::default(),
            buckets: Default::default(),
            latency_us: AtomicU64::new(0),
            cpu_us: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            subrequests: AtomicU64::new(0),
            deploys: AtomicU64::new(0),
            executes: AtomicU64::new(0),
        }
    }

    pub fn ended(&self, report: &Report, took: Duration) {
        let word = report.outcome.word();
        if let Some(at) = OUTCOMES.iter().position(|known| *known == word) {
            self.outcomes[at].fetch_add(1, Relaxed);
        }
        let took_ms = took.as_millis() as u64;
        if let Some(at) = BUCKETS_MS.iter().position(|bound| took_ms < *bound) {
            self.buckets[at].fetch_add(1, Relaxed);
        }
        self.latency_us.fetch_add(took.as_micros() as u64, Relaxed);
        self.cpu_us.fetch_add(report.meter.cpu_us, Relaxed);
        self.bytes_in.fetch_add(report.meter.bytes_in, Relaxed);
        self.bytes_out.fetch_add(report.meter.bytes_out, Relaxed);
        self.subrequests.fetch_add(u64::from(report.meter.subrequests), Relaxed);
    }

    /// The Prometheus text format, with what others keep.
    pub fn render(&self, histograms: &[Histogram], gauges: &[(&str, &str, f64)], counters: &[(&str, &str, u64)]) -> String {
        let mut text = String::from(
            "# HELP skep_requests_total Requests that workers and snippets ended, by outcome.\n# TYPE skep_requests_total counter\n",
        );
        let mut count = 0;
        for (word, counter) in OUTCOMES.iter().zip(&self.outcomes) {
            let value = counter.load(Relaxed);
            count += value;
            let _ = writeln!(text, "skep_requests_total{{outcome=\"{word}\"}} {value}");
        }
        let requests = Histogram {
            name: "skep_request_seconds",
            help: "From a request's arrival to the end of all that it started.",
            bounds: BUCKETS_MS.iter().map(|bound| *bound as f64 / 1e3).collect(),
            buckets: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            count,
            sum: self.latency_us.load(Relaxed) as f64 / 1e6,
        };
        requests.write(&mut text);
        histograms.iter().for_each(|histogram| histogram.write(&mut text));
        for (name, help, counter) in self.counters() {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}", counter.load(Relaxed));
        }
        for (name, help, value) in gauges {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        for (name, help, value) in counters {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
        text
    }

    fn counters(&self) -> [(&'static str, &'static str, &AtomicU64); 6] {
        [
            ("skep_cpu_microseconds_total", "CPU time of guests.", &self.cpu_us),
            ("skep_bytes_in_total", "Bytes into guests.", &self.bytes_in),
            ("skep_bytes_out_total", "Bytes out of guests.", &self.bytes_out),
            ("skep_subrequests_total", "Outgoing requests of guests.", &self.subrequests),
            ("skep_deploys_total", "Versions deployed.", &self.deploys),
            ("skep_executes_total", "Snippets run.", &self.executes),
        ]
    }
}
