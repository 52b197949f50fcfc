//! What a call asked for and what must not outlive it: requests under way, and streams that came. A value; `task.rs` keeps one with each call, and of an
//! actor's calls, whose work goes on after their answers, those in which something still goes on.

use std::collections::HashMap;

use tokio::sync::watch;

use crate::body::Until;

/// Dropped, it ends all that it was asked for.
#[derive(Default)]
pub(super) struct Bounds {
    ends: Option<watch::Sender<()>>,
    /// By the numbers that the guest knows them under.
    readers: HashMap<u32, watch::Sender<()>>,
}

impl Bounds {
    /// For a request.
    pub(super) fn until(&mut self) -> Until {
        self.ends.get_or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// For a stream that came.
    pub(super) fn reads(&mut self, reader: u32) -> Until {
        let (ends, until) = watch::channel(());
        self.readers.insert(reader, ends);
        until
    }

    /// The guest reads a stream no more. One that is being read right now ends, too.
    pub(super) fn let_go(&mut self, reader: u32) {
        self.readers.remove(&reader);
    }

    /// Streams that came, whoever has them by now.
    pub(super) fn readers(&self) -> impl Iterator<Item = u32> {
        self.readers.keys().copied()
    }

    /// Whether nothing that was asked for goes on.
    pub(super) fn is_over(&self) -> bool {
        self.ends.as_ref().into_iter().chain(self.readers.values()).all(|ends| ends.receiver_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::over;

    #[tokio::test]
    async fn what_was_asked_for_ends_when_it_is_dropped() {
        let mut bounds = Bounds::default();
        assert!(bounds.is_over());
        let (mut asked, mut first, mut second) = (bounds.until(), bounds.reads(1), bounds.reads(2));
        assert!(!bounds.is_over());
        bounds.let_go(1);
        over(&mut first).await;
        assert_eq!(bounds.readers().collect::<Vec<_>>(), [2]);
        drop(bounds);
        over(&mut asked).await;
        over(&mut second).await;
    }
}
