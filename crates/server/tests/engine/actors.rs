//! Actors end to end: real code, real state, real clients.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::house::House;

/// A counter in SQL, one in the heap, alarms, sockets, facets.
const COUNTER: &str = r#"
import { DurableObject } from 'cloudflare:workers';
export class Counter extends DurableObject {
    calls = 0;
    constructor(ctx, env) {
        super(ctx, env);
        ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL)');
        ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair('ping', 'pong'));
    }
    count() {
        this.calls += 1;
        const { sql } = this.ctx.storage;
        sql.exec('INSERT INTO counter SELECT coalesce(max(n), 0) + 1 FROM counter');
        return `${sql.exec('SELECT max(n) AS n FROM counter').one().n} ${this.calls}`;
    }
    async ring(ms) {
        await this.ctx.storage.setAlarm(Date.now() + ms);
        return 'set';
    }
    async alarm() {
        await this.ctx.storage.put('rang', ((await this.ctx.storage.get('rang')) ?? 0) + 1);
    }
    async rang() {
        return String((await this.ctx.storage.get('rang')) ?? 0);
    }
    abort() {
        this.ctx.storage.kv.put('never', 1);
        this.ctx.abort('enough');
    }
    never() {
        return String(this.ctx.storage.kv.get('never') ?? 'never');
    }
    async receipt() {
        return JSON.stringify(await this.ctx.checkpoint());
    }
    async slow() {
        await scheduler.wait(800);
        return 'finished ' + this.count();
    }
    fetch(request) {
        const [mine, yours] = Object.values(new WebSocketPair());
        this.ctx.acceptWebSocket(mine, ['tagged']);
        mine.serializeAttachment({ since: this.calls });
        return new Response(null, { status: 101, webSocket: yours });
    }
    webSocketMessage(socket, message) {
        const found = this.ctx.getWebSockets('tagged').length;
        socket.send(`${this.count()} ${found} ${socket.deserializeAttachment().since} ${message}`);
    }
    async webSocketClose(socket, code) {
        await this.ctx.storage.put('closed', code);
    }
    async closed() {
        return String((await this.ctx.storage.get('closed')) ?? 'open');
    }
}
export default {
    async fetch(request, env) {
        const [, name, verb, arg] = new URL(request.url).pathname.split('/');
        const stub = env.COUNTERS.getByName(name);
        if (verb === 'ws') return stub.fetch(request);
        if (verb === 'foreign') {
            try {
                return new Response(String(env.COUNTERS.get(env.COUNTERS.idFromString(arg))));
            } catch (e) {
                return new Response(e.name);
            }
        }
        try {
            return new Response(await stub[verb](arg === undefined ? undefined : Number(arg)));
        } catch (e) {
            return new Response(`${e.name}: ${e.message}`, { status: 500 });
        }
    },
};
"#;

fn bindings() -> Value {
    json!({ "COUNTERS": { "type": "actors", "class_name": "Counter" } })
}

/// A house whose actors fall asleep at once.
async fn drowsy() -> House {
    let house = House::with(|node, _| node.actors.idle_ms = 100).await;
    house.deploy("app", COUNTER, bindings()).await;
    house
}

impl House {
    pub async fn shown(&self, name: &str) -> Value {
        let (status, text) = self.control(Method::GET, &format!("/v1/actors/app%2FCounter%2F{name}"), &json!({})).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn asleep(&self, name: &str) {
        for _ in 0..500 {
            if self.shown(name).await["state"] == "asleep" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it stays awake: {}", self.shown(name).await);
    }

    pub async fn says(&self, path: &str) -> String {
        self.call(path).await.1
    }

    /// Asks until it says so.
    pub async fn until(&self, path: &str, what: &str) {
        for _ in 0..500 {
            if self.says(path).await == what {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} never said {what:?}, but {:?}", self.says(path).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heap_outlives_its_sleep_and_a_database_its_node() {
    let house = drowsy().await;
    assert_eq!(house.says("app/a/count").await, "1 1");
    assert_eq!(house.says("app/a/count").await, "2 2");
    house.asleep("a").await;
    assert_eq!(house.says("app/a/count").await, "3 3", "its heap was there when it woke");
    assert_eq!(house.says("app/b/count").await, "1 1", "another is another");
    let (ended, folder) = house.stopping();
    assert!(ended.await.unwrap(), "not in time");
    let house = House::on(folder, |node, _| node.actors.idle_ms = 100).await;
    assert_eq!(house.says("app/a/count").await, "4 4", "heap and database outlive the node");
    house.deploy("app", &format!("{COUNTER}\n// another version"), bindings()).await;
    house.until("app/a/closed", "open").await;
    let said = house.says("app/a/count").await;
    assert_eq!(said, "5 1", "other code begins with its constructor, on the same database");
    assert!(house.shown("a").await["log"].to_string().contains("constructed"), "{}", house.shown("a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_wakes_its_actor_also_after_a_restart() {
    let house = drowsy().await;
    assert_eq!(house.says("app/a/ring/300").await, "set");
    house.asleep("a").await;
    house.until("app/a/rang", "1").await;
    assert_eq!(house.says("app/a/ring/1500").await, "set");
    let (ended, folder) = house.stopping();
    assert!(ended.await.unwrap());
    let house = House::on(folder, |node, _| node.actors.idle_ms = 100).await;
    house.until("app/a/rang", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_stays_open_while_its_actor_sleeps() {
    let house = drowsy().await;
    let (mut client, _) = connect_async(format!("ws://{}/w/app/a/ws", house.address)).await.unwrap();
    client.send(Message::text("one")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("1 1 1 0 one"));
    house.asleep("a").await;
    let before = house.shown("a").await["seq"].clone();
    client.send(Message::text("ping")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("pong"));
    assert_eq!(
        (&house.shown("a").await["state"], &house.shown("a").await["seq"]),
        (&json!("asleep"), &before),
        "an auto-response wakes nobody"
    );
    client.send(Message::text("two")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("2 2 1 0 two"), "tag, attachment and heap are there");
    client.close(None).await.unwrap();
    house.until("app/a/closed", "1005").await;

    let (mut client, _) = connect_async(format!("ws://{}/w/app/b/ws", house.address)).await.unwrap();
    house.asleep("b").await;
    let (status, _) = house.control(Method::DELETE, "/v1/actors/app%2FCounter%2Fb", &json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(
        matches!(client.next().await, Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1001),
        "a deleted actor hangs up"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_aborted_turn_wrote_is_undone() {
    let house = drowsy().await;
    house.says("app/a/count").await;
    let (status, said) = house.call("app/a/abort").await;
    assert_eq!((status, said.contains("enough")), (StatusCode::INTERNAL_SERVER_ERROR, true), "{said}");
    assert_eq!(house.says("app/a/never").await, "never");
    assert_eq!(house.says("app/a/count").await, "2 1", "it begins again from what was acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_does_not_kill_work_in_flight() {
    let house = drowsy().await;
    let address = house.address;
    let slow =
        tokio::spawn(crate::house::send(http::Request::get(format!("http://{address}/w/app/a/slow")).body(Default::default()).unwrap()));
    for _ in 0..100 {
        if house.control(Method::GET, "/v1/actors/app%2FCounter%2Fa", &json!({})).await.1.contains("awake") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.deploy("app", &COUNTER.replace("'finished '", "'new '"), bindings()).await;
    assert_eq!(slow.await.unwrap().1, "finished 1 1");
    assert_eq!(house.says("app/a/slow").await, "new 2 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_namespace_leads_nowhere() {
    let house = drowsy().await;
    house.says("app/a/count").await;
    let own = house.shown("a").await["id"].as_str().unwrap().to_owned();
    assert_eq!(house.says(&format!("app/x/foreign/{own}")).await, "[object DurableObject]");
    let mut foreign = own.clone();
    foreign.replace_range(60.., if own.ends_with("0000") { "1111" } else { "0000" });
    assert_eq!(house.says(&format!("app/x/foreign/{foreign}")).await, "TypeError");
    assert_eq!(house.says("app/x/foreign/zz").await, "TypeError");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_shows_its_receipt_to_code_and_operator() {
    let house = drowsy().await;
    house.says("app/a/count").await;
    let inside: Value = serde_json::from_str(&house.says("app/a/receipt").await).unwrap();
    let (status, text) = house.control(Method::POST, "/v1/actors/app%2FCounter%2Fa/checkpoint", &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let outside: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(outside["tier"], "local-fsync");
    assert!(inside.to_string().contains("local-fsync"), "{inside}");
    let fork = house.control(Method::POST, "/v1/actors/app%2FCounter%2Fa/fork", &json!({ "name": "copy" })).await;
    assert_eq!(fork.0, StatusCode::CREATED, "{}", fork.1);
    assert_eq!(house.says("app/copy/count").await, "2 2", "a fork has the heap of its parent too");
    assert_eq!(house.says("app/a/count").await, "2 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_of_another_worker_and_of_loaded_code() {
    let house = drowsy().await;
    let caller = "export default { async fetch(request, env) { return new Response(await env.FAR.getByName('a').count()); } };";
    let far = json!({ "FAR": { "type": "actors", "class_name": "Counter", "worker": "app" } });
    house.deploy("near", caller, far).await;
    assert_eq!(house.says("near/").await, "1 1");
    assert_eq!(house.says("app/a/count").await, "2 2", "it is the same actor");

    let parent = r#"
        import { DurableObject } from 'cloudflare:workers';
        const CODE = `import { DurableObject } from 'cloudflare:workers';
            export class Inner extends DurableObject {
                add() { const n = (this.ctx.storage.kv.get('n') ?? 0) + 1; this.ctx.storage.kv.put('n', n); return n; }
                tables() { return this.ctx.storage.sql.exec("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'mine'").one().n; }
            }`;
        export class Room extends DurableObject {
            constructor(ctx, env) { super(ctx, env); ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS mine (x)'); }
            facet(name) {
                return this.ctx.facets.get(name, () => {
                    const worker = this.env.LOADER.get('v1', () => ({ compatibilityDate: '2026-01-01', mainModule: 'm.js', modules: { 'm.js': CODE } }));
                    return { class: worker.getDurableObjectClass('Inner') };
                });
            }
            async run(name) { const inner = this.facet(name); return `${await inner.add()} ${await inner.tables()}`; }
            async drop(name) { await this.ctx.facets.delete(name); return 'gone'; }
        }
        export default { async fetch(request, env) {
            const [, verb, name] = new URL(request.url).pathname.split('/');
            return new Response(await env.ROOMS.getByName('r')[verb](name));
        } };"#;
    let rooms = json!({ "ROOMS": { "type": "actors", "class_name": "Room" }, "LOADER": { "type": "loader" } });
    house.deploy("rooms", parent, rooms).await;
    assert_eq!(house.says("rooms/run/x").await, "1 0", "a facet has a database of its own");
    assert_eq!(house.says("rooms/run/x").await, "2 0");
    assert_eq!(house.says("rooms/run/y").await, "1 0");
    assert_eq!(house.says("rooms/drop/x").await, "gone");
    assert_eq!(house.says("rooms/run/x").await, "1 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_refuses_more_and_keeps_what_it_has() {
    let house = House::with(|node, _| node.actors.database.max_bytes = 512 << 10).await;
    let source = r#"
        import { DurableObject } from 'cloudflare:workers';
        export class Hoard extends DurableObject {
            constructor(ctx, env) { super(ctx, env); ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS pile (x BLOB)'); }
            fill() {
                try {
                    for (;;) this.ctx.storage.sql.exec('INSERT INTO pile VALUES (zeroblob(50000))');
                } catch (e) {
                    return e.message;
                }
            }
            size() { return this.ctx.storage.sql.exec('SELECT count(*) AS n FROM pile').one().n; }
            transact() {
                this.ctx.storage.sql.exec("INSERT INTO pile VALUES ('before')");
                try {
                    this.ctx.storage.transactionSync(() => { for (;;) this.ctx.storage.sql.exec('INSERT INTO pile VALUES (zeroblob(50000))'); });
                } catch (e) {
                    return `${e.message}; ${this.size()}`;
                }
            }
        }
        export default { async fetch(request, env) {
            const [, name, verb] = new URL(request.url).pathname.split('/');
            return new Response(String(await env.H.getByName(name)[verb]()));
        } };"#;
    house.deploy("app", source, json!({ "H": { "type": "actors", "class_name": "Hoard" } })).await;
    let said = house.says("app/a/fill").await;
    assert!(said.contains("SQLITE_FULL") || said.contains("full"), "{said}");
    let size: u32 = house.says("app/a/size").await.parse().unwrap();
    assert!((5..=10).contains(&size), "{size} of 50,000 bytes in 512 KiB");
    assert_eq!(house.says("app/b/size").await, "0", "another one has room");
    // Within a transaction it can be caught as well, outside of it: the transaction is undone, the turn is not.
    assert_eq!(house.says("app/c/transact").await, "database or disk is full: SQLITE_FULL; 1");
    assert_eq!(house.says("app/c/size").await, "1");
    let (ended, folder) = house.stopping();
    assert!(ended.await.unwrap());
    let house = House::on(folder, |_, _| {}).await;
    assert_eq!(house.says("app/a/size").await, size.to_string());
}
