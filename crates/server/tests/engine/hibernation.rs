//! What an actor takes along into its sleep: the largest heap there may be, and connections that it opened itself.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use crate::house::House;

/// Calls a method of an actor by path, `/<actor>/<method>/<argument>`.
const DOOR: &str = r#"
export default {
    async fetch(request, env) {
        const [, name, verb, ...rest] = new URL(request.url).pathname.split('/');
        try {
            return new Response(String(await env.COUNTERS.getByName(name)[verb](...rest.map(decodeURIComponent))));
        } catch (e) {
            return new Response(`${e.name}: ${e.message}`, { status: 500 });
        }
    },
};
"#;

/// Fills its heap with what does not compress.
const HOARD: &str = r#"
import { DurableObject } from 'cloudflare:workers';
export class Counter extends DurableObject {
    pile = [];
    born = crypto.randomUUID();
    fill(mebibytes) {
        for (let n = 0; n < mebibytes * 16; n++) this.pile.push(crypto.getRandomValues(new Uint8Array(65536)));
        return this.sum();
    }
    sum() {
        let sum = 0;
        for (const [n, piece] of this.pile.entries()) for (let i = n % 97; i < piece.length; i += 97) sum = (sum * 31 + piece[i]) >>> 0;
        return `${this.born} ${this.pile.length} ${sum}`;
    }
    async receipt() {
        return (await this.ctx.checkpoint()).tier;
    }
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_heap_as_large_as_it_may_be_is_written_down_and_wakes() {
    let house = House::with(|node, _| {
        node.actors.idle_ms = 1_000;
        node.limits.cpu_ms = 30_000;
        node.limits.memory_mb = 64;
    })
    .await;
    house.deploy("app", &format!("{HOARD}{DOOR}"), json!({ "COUNTERS": { "type": "actors", "class_name": "Counter" } })).await;
    // How much goes in: another one fills itself until its memory is at an end.
    let mut steps = 0;
    while !house.says("app/probe/fill/4").await.starts_with("Error") {
        steps += 1;
    }
    assert!((4..16).contains(&steps), "{steps} times 4 MiB of 64");
    let mut before = String::new();
    for _ in 0..steps {
        before = house.says("app/big/fill/4").await;
    }
    assert!(before.contains(&format!(" {} ", steps * 4 * 16)), "{before}");
    assert_eq!(house.says("app/big/receipt").await, "local-fsync");
    assert_eq!(house.says("app/big/sum").await, before, "it goes on");
    house.asleep("big").await;
    let began = std::time::Instant::now();
    assert_eq!(house.says("app/big/sum").await, before, "and wakes with all of it");
    println!("{} MiB woke and were added up in {:?}", steps * 4, began.elapsed());
    let shown = house.shown("big").await;
    assert!(shown["log"].to_string().contains("with its heap"), "{shown}");
}

/// Opens a connection to somewhere, and tries to keep it or just listens.
const LISTENER: &str = r#"
import { DurableObject } from 'cloudflare:workers';
export class Counter extends DurableObject {
    heard = [];
    async dial(url, how) {
        const { status, webSocket } = await fetch(url, { headers: { Upgrade: 'websocket' } });
        if (how === 'kept') {
            this.ctx.acceptWebSocket(webSocket);
        } else {
            webSocket.accept();
            webSocket.addEventListener('message', ({ data }) => this.heard.push(data));
            this.socket = webSocket;
        }
        this.heard.push('connected');
        webSocket.send('later');
        return status;
    }
    say(text) {
        this.socket.send(text);
        return 'said';
    }
    told() {
        return this.heard.join(', ');
    }
}
"#;

/// Answers what it is sent; `later` a while later, `bye` with a close.
const PEER: &str = r#"
export default {
    fetch() {
        const [theirs, ours] = Object.values(new WebSocketPair());
        ours.accept();
        ours.addEventListener('message', async ({ data }) => {
            if (data === 'bye') return ours.close(4000, 'bye');
            if (data === 'later') await scheduler.wait(1500);
            ours.send('echo ' + data);
        });
        return new Response(null, { status: 101, webSocket: theirs });
    },
};
"#;

/// A house with an actor that opened a connection, and what it said.
async fn listening(how: &str) -> (House, String) {
    let house = House::with(|node, _| {
        node.actors.idle_ms = 100;
        node.egress = skep_node::Egress::Any;
    })
    .await;
    house.deploy("app", &format!("{LISTENER}{DOOR}"), json!({ "COUNTERS": { "type": "actors", "class_name": "Counter" } })).await;
    house.deploy("peer", PEER, json!({})).await;
    let url = format!("http:%2F%2F{}%2Fw%2Fpeer%2F", house.address);
    let said = house.says(&format!("app/one/dial/{url}/{how}")).await;
    (house, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_an_actor_opened_cannot_be_kept() {
    let (house, said) = listening("kept").await;
    assert!(said.starts_with("Error: Cannot call `acceptWebSocket()` on this WebSocket"), "{said}");
    assert_eq!(house.says("app/one/told").await, "", "the actor goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_listens_to_a_connection_it_does_not_keep_stays_awake_for_it() {
    let (house, said) = listening("accepted").await;
    assert_eq!(said, "101");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(house.shown("one").await["state"], "awake", "it is not put to sleep with an open connection");
    house.until("app/one/told", "connected, echo later").await;
    // Memory that is wanted by others does not take it either.
    let (status, text) = house.control(Method::POST, "/v1/actors/app%2FCounter%2Fone/checkpoint", &json!({})).await;
    assert!(status == StatusCode::OK || text.contains("busy") || text.contains("WebSocket"), "{status} {text}");
    assert_eq!(house.says("app/one/say/hello").await, "said");
    house.until("app/one/told", "connected, echo later, echo hello").await;
    assert_eq!(house.says("app/one/say/bye").await, "said");
    // Nothing holds it any more.
    house.asleep("one").await;
    assert_eq!(house.says("app/one/told").await, "connected, echo later, echo hello", "with its heap");
}
