//! A request over a connection that is there already: to a server in a sandbox, whose connection its init made. Nothing is resolved, and nothing leaves.

use hyper_util::rt::TokioIo;
use skep_isolate::{CallError, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{header_text, outbound};

/// Sends a request by HTTP/1.1 and takes the answer; its body comes as it is read. The connection serves no other.
///
/// # Errors
/// When the request is none that can be sent, or the server breaks off before it answers.
pub async fn inward<S>(stream: S, request: Request) -> Result<Response, CallError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let url = request.url.clone();
    let outgoing = outbound::plain(request)?;
    let failed = |error: hyper::Error| CallError::Network(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with the body of the answer, or when nobody wants that any more.
    tokio::spawn(connection);
    let answer = sender.send_request(outgoing).await.map_err(failed)?;
    let headers = answer.headers().iter().map(|(name, value)| (name.as_str().to_owned(), header_text(value))).collect();
    // A server within that switches protocols has nobody to speak them with here.
    if answer.status() == 101 {
        return Err(CallError::Network("the server switched protocols".to_owned()));
    }
    Ok(Response { url, ..outbound::answer_in(answer, headers) })
}
