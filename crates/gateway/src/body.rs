//! Bodies between HTTP and isolates.

use std::error::Error;

use bytes::Bytes;
use http_body_util::BodyExt;
use skep_isolate::{Body, BodyError};

/// An HTTP body as an isolate reads it, at the isolate's pace: what the isolate does not read is not read from the connection.
pub fn from_http<B>(mut body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Error + Send + Sync,
{
    if body.is_end_stream() {
        return Body::Bytes(Bytes::new());
    }
    let length = body.size_hint().exact();
    let (writer, mut stream) = Body::channel();
    stream.length = length;
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = writer.closed() => return,
            };
            let sent = match frame {
                None => return,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => writer.write(bytes).await,
                    // Trailers have no place in the fetch standard.
                    Err(_) => Ok(()),
                },
                Some(Err(error)) => return writer.abort(BodyError(error.to_string())).await,
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Body::Stream(stream)
}
