//! What leaves a node: whom workers reach, what of a secret anybody sees, and what props carry.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::{House, Peer};

const VALUE: &str = "s3cr3t-of-the-owner";

/// A worker that fetches what `?to=` says, with its placeholder in a header, the URL and the body.
const SENDER: &str = "
    export default { async fetch(request, env) {
        const to = new URL(request.url).searchParams.get('to');
        const answer = await fetch(to + '?key=' + env.KEY, { method: 'POST', headers: { 'x-key': env.KEY, authorization: 'Bearer ' + env.KEY }, body: 'body ' + env.KEY });
        const text = await answer.text();
        console.log('it said', text, answer.headers.get('x-echo'));
        return Response.json({ key: env.KEY, echo: answer.headers.get('x-echo'), url: answer.url });
    } };";

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_out_of_reach_unless_the_owner_says_so() {
    let source = "export default { async fetch(request) {
        const to = new URL(request.url).searchParams.get('to');
        try { return new Response(await (await fetch(to)).text()); } catch (e) { return new Response(`${e}`); }
    } };";
    let (peer, house) = (Peer::start().await, House::start().await);
    house.deploy("w", source, json!({})).await;
    let port = peer.address.port();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1", "169.254.169.254"] {
        let (_, text) = house.call(&format!("w/?to=http://{host}:{port}/")).await;
        assert!(text.starts_with("TypeError"), "{host}: {text}");
    }
    assert_eq!(peer.heard(), "");
    let house = House::open_to_all().await;
    house.deploy("w", source, json!({})).await;
    let (_, text) = house.call(&format!("w/?to=http://127.0.0.1:{port}/hello")).await;
    assert!(text.starts_with("GET /hello HTTP/1.1"), "{text}");
}

async fn sender(peer: &Peer) -> House {
    let house = House::open_to_all().await;
    let put = json!({ "value": VALUE, "hosts": [peer.url()] });
    let (status, text) = house.control(Method::PUT, "/v1/secrets/KEY", &put).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(!text.contains(VALUE));
    house.deploy("w", SENDER, json!({ "KEY": { "type": "secret", "name": "KEY" } })).await;
    house
}

fn parsed((status, text): (StatusCode, String)) -> Value {
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_to_its_host_in_headers_and_nowhere_else() {
    let peer = Peer::start().await;
    let house = sender(&peer).await;
    let said = parsed(house.call(&format!("w/?to={}/", peer.url())).await);
    let placeholder = said["key"].as_str().unwrap();
    assert!(placeholder.starts_with("skep-secret-") && placeholder.len() == 52, "{said}");
    assert_eq!(said["echo"], placeholder, "a header that comes back");
    let heard = peer.heard();
    assert!(heard.contains(&format!("x-key: {VALUE}\r\n")) && heard.contains(&format!("Bearer {VALUE}\r\n")), "{heard}");
    assert!(heard.contains(&format!("key={placeholder} ")) && heard.ends_with(&format!("body {placeholder}")), "{heard}");
    assert_eq!(heard.matches(VALUE).count(), 2, "{heard}");
    // A new value holds at once; a new version has a new placeholder.
    house.control(Method::PUT, "/v1/secrets/KEY", &json!({ "value": "another-one", "hosts": [peer.url()] })).await;
    parsed(house.call(&format!("w/?to={}/", peer.url())).await);
    assert!(peer.heard().contains("x-key: another-one\r\n"));
    house.deploy("w", &format!("{SENDER} // v2"), json!({ "KEY": { "type": "secret", "name": "KEY" } })).await;
    let again = parsed(house.call(&format!("w/?to={}/", peer.url())).await);
    assert_ne!(again["key"], placeholder);
    // Deleted, the placeholder is all there is.
    assert_eq!(house.control(Method::DELETE, "/v1/secrets/KEY", &json!({})).await.0, StatusCode::NO_CONTENT);
    parsed(house.call(&format!("w/?to={}/", peer.url())).await);
    assert!(peer.heard().contains(&format!("x-key: {}\r\n", again["key"].as_str().unwrap())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_sent_to_another_host_stays_a_placeholder() {
    let (peer, other) = (Peer::start().await, Peer::start().await);
    let house = sender(&peer).await;
    parsed(house.call(&format!("w/?to={}/", other.url())).await);
    parsed(house.call(&format!("w/?to=http://localhost:{}/", peer.address.port())).await);
    assert!(other.heard().contains("x-key: skep-secret-") && !other.heard().contains(VALUE), "{}", other.heard());
    assert!(!peer.heard().contains(VALUE), "the same address under another name: {}", peer.heard());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_gets_no_secret() {
    let (peer, other) = (Peer::start().await, Peer::start().await);
    let house = sender(&peer).await;
    let said = parsed(house.call(&format!("w/?to={}/to/{}/x", peer.url(), other.address)).await);
    assert!(said["url"].as_str().unwrap().starts_with(&format!("{}/x?key=skep-secret-", other.url())), "{said}");
    assert!(peer.heard().contains(VALUE));
    let heard = other.heard();
    assert!(heard.contains("x-key: skep-secret-") && !heard.contains(VALUE) && !heard.to_lowercase().contains("authorization"), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reflected_into_a_log_is_hidden_and_no_route_shows_it() {
    let peer = Peer::start().await;
    let house = sender(&peer).await;
    let mut tail = house.tail("w").await;
    parsed(house.call(&format!("w/?to={}/", peer.url())).await);
    tail.until("\"outcome\":\"ok\"").await;
    assert!(tail.seen.contains("it said") && !tail.seen.contains(VALUE), "{}", tail.seen);
    for path in ["/v1/secrets", "/v1/workers", "/v1/workers/w/versions", "/v1/node", "/metrics", "/openapi.json"] {
        let (status, text) = house.control(Method::GET, path, &json!({})).await;
        assert!(status.is_success() && !text.contains(VALUE), "{path}: {text}");
    }
    let stored = std::fs::read(house.data().join("workers.sqlite")).unwrap();
    assert!(!stored.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()), "a version holds the secret");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(house.data().join("secrets.sqlite")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_breaks_a_rule_is_refused() {
    let house = House::start().await;
    let good = json!(["api.example.com"]);
    for (name, value, hosts) in [
        ("KEY", "short", good.clone()),
        ("KEY", "line\r\nx-injected: 1", good.clone()),
        ("KEY", VALUE, json!([])),
        ("KEY", VALUE, json!(["*"])),
        ("KEY", VALUE, json!(["*.com"])),
        ("KEY", VALUE, json!(["https://a.example.com/path"])),
        ("1KEY", VALUE, good.clone()),
        ("K%2fY", VALUE, good),
    ] {
        let (status, text) = house.control(Method::PUT, &format!("/v1/secrets/{name}"), &json!({ "value": value, "hosts": hosts })).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name} {value} {hosts}: {text}");
        assert!(!text.contains(value), "{text}");
    }
    let (status, text) = house.try_deploy("w", SENDER, json!({ "KEY": { "type": "secret", "name": "NONE" } })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert_eq!(house.control(Method::DELETE, "/v1/secrets/NONE", &json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn props_of_a_service_binding_reach_the_callee() {
    let house = House::start().await;
    let callee = "import { WorkerEntrypoint } from 'cloudflare:workers';
        export default { fetch(request, env, ctx) { return Response.json(ctx.props); } };
        export class Named extends WorkerEntrypoint { props() { return this.ctx.props; } }";
    house.deploy("callee", callee, json!({})).await;
    let caller = "export default { async fetch(request, env) {
        return Response.json([await (await env.A.fetch('http://a/')).json(), await env.B.props(), await (await env.C.fetch('http://a/')).json()]);
    } };";
    let bindings = json!({
        "A": { "type": "service", "worker": "callee", "props": { "who": "a", "list": [1, { "deep": null }] } },
        "B": { "type": "service", "worker": "callee", "entrypoint": "Named", "props": { "__proto__": 1, "who": "b" } },
        "C": { "type": "service", "worker": "callee" },
    });
    house.deploy("caller", caller, bindings).await;
    let said = parsed(house.call("caller/").await);
    assert_eq!((&said[0], &said[1]["who"], &said[2]), (&json!({ "who": "a", "list": [1, { "deep": null }] }), &json!("b"), &json!({})));
    let bind = |props: Value| json!({ "A": { "type": "service", "worker": "callee", "props": props } });
    for (props, status) in [(json!([1]), 400), (json!("text"), 400), (json!(5), 400), (json!({ "big": "x".repeat(20_000) }), 413)] {
        assert_eq!(house.try_deploy("caller", caller, bind(props)).await.0.as_u16(), status);
    }
    let (_, openapi) = house.control(Method::GET, "/openapi.json", &json!({})).await;
    let openapi: Value = serde_json::from_str(&openapi).unwrap();
    assert!(openapi["components"]["schemas"]["Binding"].to_string().contains("\"props\""));
}
