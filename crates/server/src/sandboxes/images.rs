//! `/v1/images`: what sandboxes begin with. Making one takes its time: the answer tells line by line, and the work goes on when its reader leaves.

use std::convert::Infallible;

use axum::{
    Extension,
    body::Body as HttpBody,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream::unfold};
use http::{HeaderValue, StatusCode, header};
use skep_access::Principal;
use skep_api::{self as api, ErrorCode, ImageProgress};
use skep_node::{Credentials, Image, ImageError, ImageMaking, ImagePlatform, ImageSource};

use super::{all, invalid};
use crate::{
    control::{Control, Json},
    reply::{Failure, json},
};

pub(crate) async fn list(State(control): State<Control>) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &api::ImageList { images: all(&control)?.images().into_iter().map(out).collect() }))
}

pub(crate) async fn make(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    Json(body): Json<api::NewImage>,
) -> Result<Response, Failure> {
    let credentials = body.credentials.map(|api::ImageCredentials { user, password }| Credentials { user, password });
    let source = match (body.registry, body.debian) {
        (Some(reference), None) => ImageSource::Registry { reference, platform: ImagePlatform::default() },
        (None, Some(_)) if credentials.is_some() => return Err(invalid("`credentials` are for a registry".to_owned())),
        (None, Some(api::DebianImage { suite, mirror, packages })) => ImageSource::Debian { suite, mirror, packages },
        _ => return Err(invalid("an image is made either of `registry` or of `debian`".to_owned())),
    };
    tracing::info!(%name, by = %principal.key, "an image is to be made");
    Ok(told(all(&control)?.make_image(&name, source, credentials)?))
}

pub(crate) async fn load(
    State(control): State<Control>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let sandboxes = all(&control)?;
    let mut incoming = sandboxes.incoming().await?;
    let mut body = request.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| invalid("the body broke off".to_owned()))?;
        incoming.take(&piece).await?;
    }
    tracing::info!(%name, by = %principal.key, "an image is to be made of a file");
    Ok(told(sandboxes.make_image_of(&name, incoming).await?))
}

pub(crate) async fn remove(State(control): State<Control>, Path(name): Path<String>) -> Result<Response, Failure> {
    match all(&control)?.remove_image(&name).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => {
            Err(Failure::new(ErrorCode::NotFound, format!("there is no image {name:.60?}"), "`skep sandbox image ls` shows what there is."))
        }
    }
}

/// The lines of its log from the first on, and how it ended.
fn told(making: ImageMaking) -> Response {
    let stream = unfold(Some((making, 0)), |state| async move {
        let (making, from) = state?;
        making.grown(from).await;
        // Asked first: a line that comes between the two is told the next time.
        let ended = making.ended();
        let lines = making.log(from);
        let mut text = Vec::new();
        let next = from + lines.len();
        for line in lines {
            let level = serde_json::to_value(line.level).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
            put(&mut text, &ImageProgress::Said { at: line.at_ms, level, text: line.text });
        }
        let state = match ended {
            None => Some((making, next)),
            Some(Ok(image)) => {
                put(&mut text, &ImageProgress::Made(out(image)));
                None
            }
            Some(Err(error)) => {
                put(&mut text, &ImageProgress::Failed(failed(&error).0));
                None
            }
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), state))
    });
    let mut response = Response::new(HttpBody::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn put(text: &mut Vec<u8>, line: &ImageProgress) {
    // A value of ours: it is always JSON.
    text.extend(serde_json::to_vec(line).unwrap_or_default());
    text.push(b'\n');
}

fn out(image: Image) -> api::Image {
    let from = match image.source {
        ImageSource::Host => "host".to_owned(),
        ImageSource::Debian { suite, .. } => format!("debian {suite}"),
        ImageSource::Registry { reference, .. } => format!("registry {reference}"),
        ImageSource::Archive { .. } => "archive".to_owned(),
        ImageSource::Template { .. } => "template".to_owned(),
    };
    let made_at = i64::try_from(image.made_ms).unwrap_or(i64::MAX);
    api::Image { name: image.name, from, layers: image.layers.len(), host: image.host, made_at }
}

/// Why an image was not made, and what helps.
pub(super) fn failed(error: &ImageError) -> Failure {
    let (code, hint) = match error {
        ImageError::Name(_) | ImageError::Reference(_) => (ErrorCode::Invalid, ""),
        ImageError::NoSuch(_) => (ErrorCode::NotFound, "`skep sandbox image ls` shows what there is."),
        ImageError::Busy(_) => (ErrorCode::Conflict, "Wait until it is made, or take another name."),
        ImageError::Unreachable(..) => {
            (ErrorCode::Unavailable, "Private addresses are out of reach of registries unless the node's configuration allows them.")
        }
        ImageError::Registry { status: 401 | 403, .. } => (ErrorCode::Forbidden, "Does the registry know you? Give a user and a password."),
        ImageError::Registry { status: 404, .. } => (ErrorCode::NotFound, "Is the name, and its tag, spelt as the registry does?"),
        ImageError::Tool(_) => (ErrorCode::Unavailable, "On Debian: apt-get install mmdebstrap."),
        ImageError::Registry { .. } | ImageError::Platform(_) | ImageError::Stopped => (ErrorCode::Unavailable, ""),
        ImageError::Digest { .. } | ImageError::Document(..) | ImageError::Unpack(_) | ImageError::Step { .. } | ImageError::Trial(_) => {
            (ErrorCode::Invalid, "")
        }
        ImageError::Here(_) => return Failure::internal(error),
    };
    Failure::new(code, error.to_string(), hint)
}
