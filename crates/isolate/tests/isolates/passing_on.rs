//! `return fetch(…)`: an answer that nobody looks at goes on without another turn, and nobody can tell. The operation count says whether it did.

use std::sync::Arc;

use bytes::Bytes;
use skep_isolate::{Body, Entry};
use skep_isolate::{BoxFuture, CallError, Isolate, Meter, Request, Response, Target, Worker};
use tokio::sync::oneshot;

use crate::worlds::{get, image, worker};

/// A way out that answers what the path asks for.
#[derive(Debug)]
struct Origin;

impl Target for Origin {
    fn fetch(&self, request: Request) -> BoxFuture<Result<Response, CallError>> {
        Box::pin(async move {
            let path = request.url.strip_prefix("http://origin/").unwrap().to_owned();
            let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let mut response = Response { status: 200, headers: vec![header("x-path", &path)], ..Response::default() };
            response.body = Body::Bytes(Bytes::from_static(b"twelve bytes"));
            match path.as_str() {
                "teapot" => (response.status, response.status_text) = (418, "Short And Stout".into()),
                "cookies" => response.headers.extend([header("set-cookie", "a=1"), header("set-cookie", "b=2")]),
                "bodyless" => response.body = Body::None,
                "204" => response.status = 204,
                "304" => response.status = 304,
                "moved" => (response.status, response.headers) = (302, vec![header("location", "http://origin/there")]),
                "gzip" => response.headers.push(header("content-encoding", "gzip")),
                "stream" => {
                    let (writer, stream) = Body::channel();
                    tokio::spawn(async move {
                        for _ in 0..3 {
                            writer.write(Bytes::from_static(b"piece ")).await.unwrap();
                        }
                    });
                    response.body = Body::Stream(stream);
                }
                "large" => response.body = Body::Bytes(vec![b'x'; 2 << 20].into()),
                "too many headers" => response.headers.extend((0..20_000).map(|i| header(&format!("x-{i}"), &"v".repeat(30)))),
                "broken" => return Err(CallError::Network("the origin broke the connection".into())),
                "refused" => return Err(CallError::Refused("not there".into())),
                _ => {}
            }
            tokio::task::yield_now().await;
            Ok(response)
        })
    }
}

fn facing_origin(code: &str) -> Worker {
    let mut worker = worker(code);
    worker.outbound = Some(Arc::new(Origin));
    worker.limits.output_bytes = 1 << 20;
    worker
}

/// All that a caller sees of an answer, as text, and what the call used.
async fn seen(isolate: &Isolate, method: &str) -> (String, Meter) {
    let (tx, rx) = oneshot::channel();
    let request = Request { method: method.into(), url: "http://worker/".into(), ..Request::default() };
    let answer = isolate.fetch_reported(Entry::default(), request, Some(tx)).await;
    let text = match answer {
        Ok(Response { status, status_text, headers, body, .. }) => {
            let length = body.collect(64 << 20).await.map(|bytes| bytes.len());
            format!("{status} {status_text} {length:?} {} {:?}", headers.len(), headers.iter().take(4).collect::<Vec<_>>())
        }
        Err(outcome) => format!("{outcome}"),
    };
    let report = rx.await.unwrap();
    (format!("{text} | {}", report.outcome), report.meter)
}

#[tokio::test]
async fn what_is_passed_on_is_what_would_have_been_returned() {
    let paths =
        ["ok", "teapot", "cookies", "bodyless", "204", "304", "moved", "gzip", "stream", "large", "too many headers", "broken", "refused"];
    for (path, method) in paths.iter().flat_map(|path| [(path, "GET"), (path, "HEAD")]) {
        let url = format!("'http://origin/{path}', {{ method: request.method }}");
        let passes =
            Isolate::start(image(), Arc::new(facing_origin(&format!("export default {{ fetch(request) {{ return fetch({url}) }} }}"))));
        let looks = Isolate::start(
            image(),
            Arc::new(facing_origin(&format!(
                "export default {{ async fetch(request) {{ const answer = await fetch({url}); return answer }} }}"
            ))),
        );
        let ((passed, short), (returned, long)) = (seen(&passes, method).await, seen(&looks, method).await);
        assert_eq!(passed, returned, "{method} {path}");
        assert!(short.operations < long.operations, "{method} {path}: it took another turn: {short:?} {long:?}");
        assert_eq!(
            (short.subrequests, short.bytes_in, short.bytes_out),
            (long.subrequests, long.bytes_in, long.bytes_out),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn what_somebody_still_looks_at_is_not_passed_on() {
    let unseen = Isolate::start(image(), Arc::new(facing_origin("export default { fetch() { return fetch('http://origin/ok') } }")));
    let base = get(&unseen).await.report.meter.operations;
    // What is seen afterwards is in `after`, the answer to the second request.
    let cases = [
        ("the promise is kept", "kept = fetch(url); return kept", "return new Response(String((await kept).status))", "200"),
        (
            "it is listened to",
            "const p = fetch(url); p.then(r => { kept = r.headers.get('x-path') }); return p",
            "return new Response(kept)",
            "ok",
        ),
        (
            "the call waits for more",
            "ctx.waitUntil(scheduler.wait(1).then(() => { kept = 'waited' })); return fetch(url)",
            "return new Response(kept)",
            "waited",
        ),
        ("the context is kept", "kept = ctx; return fetch(url)", "return new Response(typeof kept.waitUntil)", "function"),
        ("the request is kept", "kept = request; return fetch(url)", "return new Response(kept.method + kept.signal.aborted)", "GETfalse"),
        (
            "a microtask is to come",
            "Promise.resolve().then(() => ctx.waitUntil(scheduler.wait(1).then(() => { kept = 'late' }))); return fetch(url)",
            "return new Response(kept)",
            "late",
        ),
        (
            "a timer is to come",
            "setTimeout(() => { kept = 'timed' }, 0); return fetch(url)",
            "await scheduler.wait(20); return new Response(kept)",
            "timed",
        ),
        (
            "it can be aborted",
            "kept = new AbortController(); return fetch(url, { signal: kept.signal })",
            "kept.abort(); return new Response('aborted')",
            "aborted",
        ),
        ("another was started since", "const p = fetch(url); fetch(url); return p", "return new Response('two')", "two"),
    ];
    for (what, first, then, expected) in cases {
        let code = format!(
            "let kept, n = 0; const url = 'http://origin/ok';
            const first = (request, ctx) => {{ {first} }}, then = async () => {{ {then} }};
            export default {{ fetch(request, env, ctx) {{ return n++ ? then() : first(request, ctx) }} }}"
        );
        let isolate = Isolate::start(image(), Arc::new(facing_origin(&code)));
        let ran = get(&isolate).await;
        assert_eq!(ran.answer.as_deref(), Ok("twelve bytes"), "{what}");
        assert!(ran.report.meter.operations > base, "{what}: {} {base}", ran.report.meter.operations);
        assert_eq!(get(&isolate).await.answer.as_deref(), Ok(expected), "{what}");
    }
}
