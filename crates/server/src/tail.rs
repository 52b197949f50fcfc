//! A worker's events as they happen, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    response::{
        IntoResponse, Response, Sse,
        sse::{self, KeepAlive},
    },
};
use futures_util::{Stream, StreamExt, stream};
use skep_api::{ErrorCode, TailEvent};
use skep_node::Event;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{control::Control, convert::event_out, reply::Failure, workers::worker_name};

pub(crate) async fn tail(State(control): State<Control>, Path(name): Path<String>) -> Result<Response, Failure> {
    let name = worker_name(&name)?;
    let events = control.node.tail(&name).ok_or_else(|| {
        Failure::new(ErrorCode::NotFound, format!("there is no worker {name}"), "`skep workers ls` shows what is deployed.")
    })?;
    let stopping = control.stopping.clone();
    let lines = lines(events).take_until(async move { stopping.cancelled().await });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(lines).keep_alive(keep_alive).into_response())
}

fn lines(events: Receiver<Arc<Event>>) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold(events, |mut events| async move {
        let event = match events.recv().await {
            Ok(event) => event_out(&event),
            Err(RecvError::Lagged(count)) => TailEvent::Lost { count },
            Err(RecvError::Closed) => return None,
        };
        let data = serde_json::to_string(&event).unwrap_or_default();
        Some((Ok(sse::Event::default().data(data)), events))
    })
}
