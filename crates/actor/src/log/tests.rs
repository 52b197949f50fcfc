//! The log's backends, each under the whole suite.

use std::sync::Arc;

use super::{DurableLog, MemoryLog, conformance};

impl conformance::Place for MemoryLog {
    fn open(&self) -> Arc<dyn DurableLog> {
        Arc::new(self.clone())
    }
}

#[tokio::test]
async fn the_log_in_memory_conforms() {
    conformance::all(MemoryLog::new).await;
}
