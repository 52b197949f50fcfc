//! Redirects of `fetch`, after the fetch standard: one for all ways out, service stubs included. A value with rules; `task.rs` sends each
//! further request as it sent the first, on the same account.

use std::sync::Arc;

use bytes::Bytes;

use crate::body::Body;
use crate::chain::Chain;
use crate::held::Charge;
use crate::host::{HostError, locate};
use crate::target::{Request, Response, Target};

/// Redirects that one `fetch` follows, as in the standard.
const HOPS_MAX: u32 = 20;

/// Longest URL that a redirect may lead to, in bytes: what waits for an answer is kept.
const URL_BYTES_MAX: usize = 16 << 10;

/// Headers that describe a body, and go with it.
const OF_THE_BODY: [&str; 5] = ["content-encoding", "content-language", "content-length", "content-location", "content-type"];

/// Headers that are meant for one origin.
const OF_THE_ORIGIN: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// The body of the request, to be sent again.
#[derive(Debug)]
enum Again {
    Nothing,
    Bytes(Bytes),
    /// It was a stream, and is gone.
    Gone,
}

/// A request whose redirects are followed, or refused.
#[derive(Debug)]
pub(super) struct Redirects {
    target: Arc<dyn Target>,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Again,
    chain: Chain,
    hops: u32,
    /// `redirect: "error"`.
    refuses: bool,
    /// For what it keeps, on the isolate's account.
    pub(super) charge: Option<Charge>,
}

/// What to do about an answer.
pub(super) enum Step {
    /// It is the answer.
    Arrived(Box<Response>),
    /// It leads here.
    Onward(Request),
}

impl Redirects {
    /// For a request that is about to be sent; absent where redirects are the guest's own business, or make no sense.
    pub(super) fn of(target: &Arc<dyn Target>, request: &Request, mode: &str) -> Option<Box<Self>> {
        let upgrades = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
        if mode == "manual" || upgrades {
            return None;
        }
        let body = match &request.body {
            Body::None => Again::Nothing,
            Body::Bytes(bytes) => Again::Bytes(bytes.clone()),
            Body::Stream(_) => Again::Gone,
        };
        Some(Box::new(Self {
            target: target.clone(),
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.clone(),
            body,
            chain: request.chain.clone(),
            hops: 0,
            refuses: mode == "error",
            charge: None,
        }))
    }

    pub(super) fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    /// Bytes of the host's memory that it takes while the answer is awaited, its body apart.
    pub(super) fn footprint(&self) -> usize {
        self.method.len() + self.url.len() + self.headers.iter().map(|(name, value)| name.len() + value.len() + 64).sum::<usize>()
    }

    /// What follows from an answer to the latest request.
    pub(super) fn next(&mut self, mut response: Response) -> Result<Step, HostError> {
        let Some(location) = location(&response) else {
            response.redirected = self.hops > 0;
            return Ok(Step::Arrived(Box::new(placed(response, &self.url))));
        };
        if self.refuses {
            return Err(network("the server redirects, and the request says redirect: \"error\""));
        }
        self.hops += 1;
        if self.hops > HOPS_MAX {
            return Err(network("too many redirects"));
        }
        self.go(response.status, location)?;
        let body = match &self.body {
            Again::Nothing => Body::None,
            Again::Bytes(bytes) => Body::Bytes(bytes.clone()),
            Again::Gone => return Err(network("the server redirects, and a streamed body cannot be sent again")),
        };
        Ok(Step::Onward(Request {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
            cf: String::new(),
            chain: self.chain.clone(),
        }))
    }

    fn go(&mut self, status: u16, location: &str) -> Result<(), HostError> {
        let (from, to) = (locate(&self.url, None), locate(location, Some(&self.url)));
        let Some(to) = to.filter(|to| to.is_http && to.href.len() <= URL_BYTES_MAX) else {
            return Err(network("the server redirects to something that is no http URL, or too long"));
        };
        let to_get = match status {
            301 | 302 => self.method == "POST",
            303 => self.method != "GET" && self.method != "HEAD",
            _ => false,
        };
        if to_get {
            self.method = "GET".into();
            self.body = Again::Nothing;
            self.headers.retain(|(name, _)| !is_one_of(name, &OF_THE_BODY));
        }
        if from.is_none_or(|from| from.origin != to.origin) {
            self.headers.retain(|(name, _)| !is_one_of(name, &OF_THE_ORIGIN));
        }
        self.url = to.href;
        Ok(())
    }
}

/// An answer that says where it is from: the URL that was asked for, without its fragment.
pub(super) fn placed(mut response: Response, asked: &str) -> Response {
    if response.url.is_empty() {
        response.url = asked.split('#').next().unwrap_or_default().to_owned();
    }
    response
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|one| name.eq_ignore_ascii_case(one))
}

/// Where an answer leads, if it is a redirect.
fn location(response: &Response) -> Option<&str> {
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("location")).map(|(_, value)| value.as_str())
}

fn network(why: &str) -> HostError {
    HostError::type_error(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{BoxFuture, CallError};

    #[derive(Debug)]
    struct Nobody;

    impl Target for Nobody {
        fn fetch(&self, _request: Request) -> BoxFuture<Result<Response, CallError>> {
            Box::pin(async { Ok(Response::default()) })
        }
    }

    fn sent(method: &str, body: Body, mode: &str) -> Option<Box<Redirects>> {
        let headers = [("content-type", "text/plain"), ("authorization", "secret"), ("cookie", "c=1"), ("x-a", "1")];
        let request = Request {
            method: method.into(),
            url: "http://a.example/x/y#part".into(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body,
            ..Request::default()
        };
        Redirects::of(&(Arc::new(Nobody) as Arc<dyn Target>), &request, mode)
    }

    fn answer(status: u16, location: &str) -> Response {
        Response { status, headers: vec![("Location".into(), location.into())], ..Response::default() }
    }

    fn onward(redirects: &mut Redirects, response: Response) -> Request {
        match redirects.next(response).expect("followed") {
            Step::Onward(request) => request,
            Step::Arrived(response) => panic!("arrived: {response:?}"),
        }
    }

    fn names(request: &Request) -> Vec<&str> {
        request.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn methods_and_bodies_change_as_in_the_standard() {
        for (status, method, then) in [
            (301, "POST", "GET"),
            (302, "POST", "GET"),
            (303, "PUT", "GET"),
            (303, "HEAD", "HEAD"),
            (302, "PUT", "PUT"),
            (307, "POST", "POST"),
            (308, "DELETE", "DELETE"),
        ] {
            let mut redirects = sent(method, Body::Bytes(Bytes::from_static(b"b")), "follow").expect("follows");
            let request = onward(&mut redirects, answer(status, "../z?q"));
            assert_eq!((request.method.as_str(), request.url.as_str()), (then, "http://a.example/z?q"), "{status} {method}");
            assert_eq!(matches!(request.body, Body::Bytes(_)), then == method, "{status} {method}");
            assert_eq!(names(&request).contains(&"content-type"), then == method, "{status} {method}");
        }
    }

    #[test]
    fn credentials_stay_at_their_origin() {
        let mut redirects = sent("GET", Body::None, "follow").expect("follows");
        assert_eq!(names(&onward(&mut redirects, answer(302, "/here"))), ["content-type", "authorization", "cookie", "x-a"]);
        assert_eq!(names(&onward(&mut redirects, answer(302, "https://a.example/here"))), ["content-type", "x-a"]);
    }

    #[test]
    fn what_is_not_followed() {
        assert!(sent("GET", Body::None, "manual").is_none());
        assert!(sent("GET", Body::None, "error").is_some_and(|mut r| r.next(answer(302, "/")).is_err()));
        for bad in ["ftp://a/", "data:,x", "file:///etc/passwd", "http://", &format!("/{}", "x".repeat(20_000))] {
            assert!(sent("GET", Body::None, "follow").is_some_and(|mut r| r.next(answer(302, bad)).is_err()), "{bad}");
        }
        let (_writer, stream) = Body::channel();
        assert!(sent("POST", Body::Stream(stream), "follow").is_some_and(|mut r| r.next(answer(307, "/")).is_err()));
        let mut arrived = sent("GET", Body::None, "follow").expect("follows");
        assert!(matches!(arrived.next(answer(304, "/")), Ok(Step::Arrived(_))));
        assert!(matches!(arrived.next(Response { status: 302, ..Response::default() }), Ok(Step::Arrived(_))));
    }

    #[test]
    fn a_loop_ends() {
        let mut redirects = sent("GET", Body::None, "follow").expect("follows");
        for _ in 0..HOPS_MAX {
            onward(&mut redirects, answer(302, "/again"));
        }
        assert!(redirects.next(answer(302, "/again")).is_err());
    }
}
