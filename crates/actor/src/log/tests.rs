//! The log's backends, each under the whole suite.

mod damage;
mod model;

use std::sync::Arc;

use super::{DurableLog, LocalLog, MemoryLog, Settings, Trust, conformance};

impl conformance::Place for MemoryLog {
    fn open(&self) -> Arc<dyn DurableLog> {
        Arc::new(self.clone())
    }
}

#[tokio::test]
async fn the_log_in_memory_conforms() {
    conformance::all(MemoryLog::new).await;
}

struct OnDisk(tempfile::TempDir);

impl conformance::Place for OnDisk {
    fn open(&self) -> Arc<dyn DurableLog> {
        let settings = Settings { segment_bytes: 256 << 10, fill: false, trust: Trust::Anything, ..Settings::default() };
        Arc::new(LocalLog::open(self.0.path(), settings).unwrap())
    }
}

#[tokio::test]
async fn the_local_log_conforms() {
    conformance::all(|| OnDisk(tempfile::tempdir().unwrap())).await;
}
