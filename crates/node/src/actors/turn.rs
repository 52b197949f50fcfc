//! Order among calls that may first have to wake whom they call: a stub's, a socket's. Each takes its turn when it is made, and holds it
//! until it is on its way; one that is given up in between does not let those behind it overtake those before.

use std::{fmt, pin::Pin, sync::Arc, task};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Gives turns, in order.
#[derive(Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<()>>);

impl Turns {
    /// The next turn.
    pub fn next(&self) -> Turn {
        let mut waiting: BoxFuture<'static, OwnedMutexGuard<()>> = Box::pin(Arc::clone(&self.0).lock_owned());
        // The lock is fair, but one stands in its queue only once one has asked.
        match (&mut waiting).now_or_never() {
            Some(held) => Turn::Come(Some(held)),
            None => Turn::Waiting(waiting),
        }
    }
}

/// A place in the order: a future of the moment at which it comes. Whoever has it drops it when the next may go.
pub(crate) enum Turn {
    Come(Option<OwnedMutexGuard<()>>),
    Waiting(BoxFuture<'static, OwnedMutexGuard<()>>),
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Come(_)) { "Turn::Come" } else { "Turn::Waiting" })
    }
}

impl Future for Turn {
    type Output = Option<OwnedMutexGuard<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<Self::Output> {
        match &mut *self {
            Self::Come(held) => task::Poll::Ready(held.take()),
            Self::Waiting(waiting) => waiting.poll_unpin(cx).map(Some),
        }
    }
}

/// Polls `call` once while `turn` is held, which puts it on its way, and lets the next one go.
pub(crate) async fn send<F: Future + Unpin>(turn: Option<OwnedMutexGuard<()>>, mut call: F) -> F::Output {
    let first = futures_util::poll!(&mut call);
    drop(turn);
    match first {
        task::Poll::Ready(answer) => answer,
        task::Poll::Pending => call.await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::Turns;

    #[tokio::test]
    async fn who_gives_up_lets_nobody_overtake() {
        let (turns, order) = (Turns::default(), Arc::new(Mutex::new(Vec::new())));
        let (first, second, third) = (turns.next(), turns.next(), turns.next());
        let held = first.await;
        drop(second);
        let seen = Arc::clone(&order);
        let waiting = tokio::spawn(async move {
            let _held = third.await;
            seen.lock().push(3);
        });
        tokio::task::yield_now().await;
        order.lock().push(1);
        drop(held);
        waiting.await.unwrap();
        assert_eq!(*order.lock(), [1, 3]);
        assert!(turns.next().await.is_some());
    }
}
