//! A stream of envelopes that is told as things happen: its start, what comes, signs of life while nothing does, and one end.
//!
//! What comes is up to its [`Source`]: a command's output, a watch's changes. It is not: where either is made, and not the form of an envelope.

use std::{future::pending, io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use tokio::time::{Instant, sleep, sleep_until};

use super::connect::{self, Code, Problem};

/// What a source has, in envelopes.
#[derive(Clone)]
pub enum Next {
    /// More may come.
    More(Bytes),
    /// Nothing comes after it but the end of the stream.
    Last(Bytes),
    /// It is the end of the stream.
    End(Bytes),
    /// What would have ended it is gone: the connection breaks off, and who asks then learns that the sandbox is not there.
    Gone,
}

impl Next {
    /// The stream ends with a problem.
    pub fn failed(problem: &Problem) -> Self {
        Self::End(connect::end(Some(problem)))
    }
}

/// Where envelopes come from.
pub trait Source: Send {
    /// The next one; a call that is dropped before it is done loses none.
    fn next(&mut self) -> impl Future<Output = Next> + Send;
}

/// How long a stream may be silent, and how long it may go on.
pub struct Pace {
    /// After so long without anything a sign of life is told.
    pub ping: Duration,
    /// Then it ends; what a source says of its end is not told any more.
    pub deadline: Option<Instant>,
}

/// The whole stream. `alive` is its sign of life.
pub fn tell(start: Bytes, alive: Bytes, pace: Pace, source: impl Source) -> impl Stream<Item = Result<Bytes, io::Error>> {
    unfold(Telling { state: State::Fresh(start), alive, pace, source }, |mut telling| async move {
        let piece = telling.piece().await?;
        Some((piece, telling))
    })
}

enum State {
    Fresh(Bytes),
    Open,
    /// All has been told but the end.
    Ending,
    Over,
}

struct Telling<S> {
    state: State,
    alive: Bytes,
    pace: Pace,
    source: S,
}

impl<S: Source> Telling<S> {
    async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Fresh(start) => {
                self.state = State::Open;
                return Some(Ok(start));
            }
            State::Ending => return Some(Ok(connect::end(None))),
            State::Over => return None,
            State::Open => {}
        }
        let next = self.heard().await;
        let is_late = self.pace.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let (piece, state) = match next {
            Next::More(piece) => (piece, State::Open),
            Next::Last(_) | Next::End(_) | Next::Gone if is_late => (late(), State::Over),
            Next::Last(piece) => (piece, State::Ending),
            Next::End(end) => (end, State::Over),
            Next::Gone => return Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the sandbox has ended"))),
        };
        self.state = state;
        Some(Ok(piece))
    }

    async fn heard(&mut self) -> Next {
        let deadline = async {
            match self.pace.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            next = self.source.next() => next,
            () = deadline => Next::End(late()),
            () = sleep(self.pace.ping) => Next::More(self.alive.clone()),
        }
    }
}

fn late() -> Bytes {
    connect::end(Some(&Problem::new(Code::DeadlineExceeded, "context deadline exceeded")))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    /// Says what it was given, and then nothing, for ever.
    struct Said(Vec<Next>);

    impl Source for Said {
        async fn next(&mut self) -> Next {
            if self.0.is_empty() { pending().await } else { self.0.remove(0) }
        }
    }

    const LONG: Duration = Duration::from_secs(3_600);

    fn told(said: Vec<Next>, ping: Duration, deadline: Option<Instant>) -> impl Stream<Item = Bytes> {
        tell("start".into(), "alive".into(), Pace { ping, deadline }, Said(said)).map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_stream_has_one_start_and_one_end() {
        let last = told(vec![Next::More("a".into()), Next::Last("b".into()), Next::More("never".into())], LONG, None);
        assert_eq!(last.collect::<Vec<_>>().await, ["start".into(), "a".into(), "b".into(), connect::end(None)]);
        let end = told(vec![Next::End("end".into()), Next::More("never".into())], LONG, None);
        assert_eq!(end.collect::<Vec<_>>().await, [Bytes::from("start"), "end".into()]);
    }

    #[tokio::test]
    async fn a_stream_whose_sandbox_is_gone_has_no_end() {
        let pace = Pace { ping: LONG, deadline: None };
        let all: Vec<_> = tell("start".into(), "alive".into(), pace, Said(vec![Next::More("a".into()), Next::Gone])).collect().await;
        assert!(matches!(&all[..], [Ok(_), Ok(_), Err(_)]), "{all:?}");
    }

    #[tokio::test]
    async fn silence_is_filled_until_the_deadline_ends_it() {
        let deadline = Instant::now() + Duration::from_millis(200);
        let all: Vec<Bytes> = told(vec![], Duration::from_millis(10), Some(deadline)).collect().await;
        assert!(all.len() > 3 && all[1..all.len() - 1].iter().all(|piece| piece == "alive"), "{all:?}");
        assert_eq!(*all.last().unwrap(), late());
    }

    #[tokio::test]
    async fn an_end_that_comes_too_late_is_not_told() {
        for next in [Next::Last("b".into()), Next::End("end".into()), Next::Gone] {
            let all: Vec<Bytes> = told(vec![Next::More("a".into()), next], LONG, Some(Instant::now())).collect().await;
            assert_eq!(all, ["start".into(), "a".into(), late()]);
        }
    }
}
