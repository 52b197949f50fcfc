//! What actors have here and not elsewhere, with real code: named timers, forks, steps, checkpoints, snapshots by name, receipts; and what a deploy checks.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::house::{House, answer};

const AGENT: &str = r#"
import { DurableObject } from 'cloudflare:workers';
export class Agent extends DurableObject {
    heap = 0;
    ran = 0;
    constructor(ctx, env) {
        super(ctx, env);
        ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS note (x)');
    }
    notes() { return this.ctx.storage.sql.exec('SELECT x FROM note ORDER BY rowid').toArray().map((row) => row.x).join(); }
    note(x) {
        this.heap += 1;
        this.ctx.storage.sql.exec('INSERT INTO note VALUES (?)', x);
        return this.notes();
    }
    both() { return `${this.notes()} ${this.heap}`; }
    reset() { this.ctx.abort('enough'); }
    spin() { for (;;); }

    arm(ms) {
        const now = Date.now();
        this.ctx.timers.set('tea', now + Number(ms));
        this.ctx.timers.set('bread', now + 2 * Number(ms));
        this.ctx.timers.set('late', now + 3_600_000);
        return this.armed();
    }
    armed() { return [...this.ctx.timers.list().keys()].sort().join(); }
    disarm(name) { return [this.ctx.timers.get(name) > 0, this.ctx.timers.delete(name), this.ctx.timers.delete(name), this.ctx.timers.get(name)].join(); }
    alarm(info) { this.note(info.name); }

    async fork(name) { return String(await this.ctx.fork({ name })); }
    async bare(name) { return String(await this.ctx.fork({ name, heap: false, alarms: true })); }
    async checkpoint() { return JSON.stringify(await this.ctx.checkpoint()); }

    async step(name) { return this.ctx.step(name, async () => { await scheduler.wait(5); return `ran ${++this.ran}`; }); }
    async hang(name) { return this.ctx.step(name, () => new Promise(() => {})); }
    async told(name) {
        try {
            return await this.ctx.step(name, () => { this.ran += 1; throw new RangeError(`no ${this.ran}`); });
        } catch (e) {
            return [e.name, e.name === 'UnfinishedStepError' ? `${e.step} ${e.started instanceof Date}` : e.message].join();
        }
    }
    forget(name) { this.ctx.step.forget(name); return 'forgotten'; }

    async snap(name) { return (await this.ctx.storage.snapshot(name ? { name } : undefined)).bookmark; }
    async within() {
        this.note('x');
        const taken = this.ctx.storage.snapshot();
        this.note('y');
        const { bookmark } = await taken;
        this.note('z');
        return bookmark;
    }
    async kept() { return [...(await this.ctx.storage.snapshots()).keys()].join(); }
    async drop(name) { return [await this.ctx.storage.deleteSnapshot(name), await this.ctx.storage.deleteSnapshot(name)].join(); }
    give() { return this.ctx.storage.snapshot(); }
    async take(from) { await this.back(await this.env.AGENTS.getByName(from).give()); }
    async back(to) {
        await this.ctx.storage.onNextSessionRestore(to);
        this.ctx.abort('it goes back');
    }
    async wrong(what) {
        const long = { name: 'n'.repeat(65) };
        try {
            if (what === 'name') await this.ctx.storage.snapshot(long);
            if (what === 'many') for (let i = 0; i < 40; i++) await this.ctx.storage.snapshot({ name: `n${i}` });
            if (what === 'future') await this.ctx.storage.snapshot({ bookmark: 'ffffffffffffff00-0000000000000000-00000000' });
            if (what === 'stub') await this.ctx.storage.onNextSessionRestore(this.env.AGENTS);
        } catch (e) {
            return `${e.name}: ${e.message}`;
        }
    }
}
export const helper = { fetch() {} };
export default {
    async fetch(request, env) {
        const [, name, verb, arg] = new URL(request.url).pathname.split('/');
        if (verb === 'forged') return new Response('', { headers: { 'x-skep-receipt': 'actor=mine' } });
        try {
            return new Response(await env.AGENTS.getByName(name)[verb](arg));
        } catch (e) {
            return new Response([e.message, e.durableObjectReset].join(), { status: 500 });
        }
    },
};
"#;

async fn agents() -> House {
    let house = House::start().await;
    house.deploy("app", AGENT, json!({ "AGENTS": { "type": "actors", "class_name": "Agent" } })).await;
    house
}

impl House {
    async fn say(&self, path: &str) -> String {
        self.call(&format!("app/{path}")).await.1
    }

    async fn agent(&self, name: &str) -> Value {
        serde_json::from_str(&self.control(Method::GET, &format!("/v1/actors/app%2FAgent%2F{name}"), &json!({})).await.1).unwrap()
    }

    /// The receipts that come with an answer.
    async fn receipts(&self, request: http::request::Builder, body: &Value) -> (StatusCode, Vec<String>) {
        let request = request.header("authorization", format!("Bearer {}", self.token));
        let (parts, _) = answer(request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await;
        let receipts = parts.headers.get_all("x-skep-receipt").iter().map(|value| value.to_str().unwrap().to_owned());
        (parts.status, receipts.collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_ring_by_their_names() {
    let house = agents().await;
    assert_eq!(house.say("a/arm/100").await, "bread,late,tea");
    assert_eq!(house.agent("a").await["alarms"].as_object().unwrap().len(), 3);
    for _ in 0..500 {
        if house.say("a/notes").await == "tea,bread" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(house.say("a/notes").await, "tea,bread", "each once, in the order of their times");
    assert_eq!(house.say("a/armed").await, "late");
    assert_eq!(house.say("a/disarm/late").await, "true,true,false,");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_goes_its_own_way() {
    let house = agents().await;
    house.say("a/note/1").await;
    house.say("a/arm/3600000").await;
    let id = house.say("a/fork/b").await;
    assert_eq!(house.agent("b").await["id"], id);
    assert_eq!(house.say("a/note/2").await, "1,2");
    assert_eq!((house.say("b/both").await, house.say("b/armed").await), ("1 1".to_owned(), String::new()), "heap and database, no alarms");
    assert_eq!((house.say("b/note/3").await, house.say("a/notes").await), ("1,3".to_owned(), "1,2".to_owned()));
    house.say("a/bare/c").await;
    assert_eq!((house.say("c/both").await, house.say("c/armed").await), ("1,2 0".to_owned(), "bread,late,tea".to_owned()));
    assert!(house.say("a/fork/b").await.contains("exists"), "a name that is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_a_place_to_fork_from_with_its_heap() {
    let house = agents().await;
    house.say("a/note/1").await;
    let receipt: Value = serde_json::from_str(&house.say("a/checkpoint").await).unwrap();
    let shown = house.agent("a").await;
    assert_eq!((&receipt["sequence"], &receipt["tier"]), (&shown["seq"], &json!("local-fsync")));
    house.say("a/note/2").await;
    let fork = json!({ "name": "then", "as_of": shown["bookmark"] });
    assert_eq!(house.control(Method::POST, "/v1/actors/app%2FAgent%2Fa/fork", &fork).await.0, StatusCode::CREATED);
    assert_eq!(house.say("then/both").await, "1 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_done_once_and_one_that_was_cut_off_is_reported() {
    let house = agents().await;
    assert_eq!((house.say("a/step/pay").await, house.say("a/step/pay").await), ("ran 1".to_owned(), "ran 1".to_owned()));
    assert_eq!(
        (house.say("a/told/fail").await, house.say("a/told/fail").await),
        ("RangeError,no 2".to_owned(), "RangeError,no 2".to_owned())
    );
    let address = house.address;
    let hanging = tokio::spawn(answer(Request::get(format!("http://{address}/w/app/a/hang/send")).body(Full::default()).unwrap()));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(house.say("a/reset").await, "enough,true");
    assert_eq!(hanging.await.unwrap().0.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(house.say("a/step/pay").await, "ran 1", "known without a heap");
    for _ in 0..2 {
        assert_eq!(house.say("a/told/send").await, "UnfinishedStepError,send true", "never silently again");
    }
    assert_eq!(house.say("a/forget/send").await, "forgotten");
    assert_eq!(house.say("a/step/send").await, "ran 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_lead_back_and_into_other_actors() {
    let house = agents().await;
    house.say("a/note/1").await;
    let first = house.say("a/snap/first").await;
    house.say("a/note/2").await;
    assert_eq!(house.say("a/kept").await, "first");
    assert_eq!(house.agent("a").await["snapshots"]["first"], first);

    house.say("b/note/3").await;
    house.say("b/arm/3600000").await;
    assert_eq!(house.say("b/take/a").await, "it goes back,true");
    assert_eq!((house.say("b/both").await, house.say("b/armed").await), ("1,2 0".to_owned(), "bread,late,tea".to_owned()));
    assert_eq!((house.say("a/notes").await, house.say("b/kept").await), ("1,2".to_owned(), String::new()), "names stay where they are");

    house.say(&format!("a/back/{first}")).await;
    assert_eq!(house.say("a/notes").await, "1");
    assert!(house.say(&format!("b/back/{first}")).await.contains("another actor's"), "a bookmark is no snapshot");
    assert_eq!((house.say("a/drop/first").await, house.say("a/kept").await), ("true,false".to_owned(), String::new()));

    let within = house.say("c/within").await;
    assert_eq!(house.say("c/notes").await, "x,y,z");
    house.say(&format!("c/back/{within}")).await;
    assert_eq!(house.say("c/notes").await, "x,y", "what the turn wrote, all of it");
    assert!(house.say("d/wrong/name").await.starts_with("RangeError: The name of a snapshot"));
    assert!(house.say("d/wrong/many").await.starts_with("RangeError: An actor keeps at most 32"));
    assert!(house.say("d/wrong/future").await.starts_with("Error: that bookmark is another actor's"));
    assert!(house.say("d/wrong/stub").await.starts_with("TypeError"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_gets_receipts() {
    let house = agents().await;
    let get = |path: &str| Request::get(format!("http://{}/w/app/{path}", house.address));
    let asking = |path: &str| get(path).header("x-skep-receipt", "1");
    let nothing = json!(null);
    assert_eq!(house.receipts(get("a/note/1"), &nothing).await.1, [""; 0], "nobody asked");
    let (_, receipts) = house.receipts(asking("a/note/2"), &nothing).await;
    let shown = house.agent("a").await;
    let of = |shown: &Value| {
        let (id, epoch, seq) = (shown["id"].as_str().unwrap(), &shown["epoch"], &shown["seq"]);
        format!("actor={id}; epoch={epoch}; seq={seq}; tier=local-fsync")
    };
    assert_eq!(receipts, [of(&shown)]);
    house.say("b/note/1").await;
    assert_eq!(
        house.receipts(asking("b/take/a"), &nothing).await.1,
        [of(&house.agent("a").await)],
        "of whom it called as well; what failed is no answer"
    );
    assert_eq!(house.receipts(get("a/forged"), &nothing).await.1, ["actor=mine"], "a worker's own header is its own");
    assert_eq!(house.receipts(asking("a/forged"), &nothing).await.1, [""; 0], "but no receipt");

    let control = |method: Method, rest: &str| {
        let uri = format!("http://{}/v1/actors/app%2FAgent%2Fa{rest}", house.address);
        Request::builder().method(method).uri(uri).header("x-skep-receipt", "1")
    };
    let then = shown["bookmark"].clone();
    house.say("a/note/3").await;
    for (method, rest, body) in [
        (Method::POST, "/checkpoint", json!({})),
        (Method::POST, "/fork", json!({ "name": "copy" })),
        (Method::POST, "/rewind", json!({ "to": then })),
        (Method::DELETE, "", json!({})),
    ] {
        let (status, receipts) = house.receipts(control(method, rest), &body).await;
        assert!(status.is_success() && receipts.len() == 1 && receipts[0].ends_with("tier=local-fsync"), "{rest}: {status} {receipts:?}");
        let whose = if rest == "/fork" { house.agent("copy").await["id"].clone() } else { shown["id"].clone() };
        assert!(receipts[0].starts_with(&format!("actor={}; ", whose.as_str().unwrap())), "{rest}: {receipts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_is_not_exported_is_not_deployed() {
    let house = agents().await;
    for (class, said) in [
        (
            "Agnet",
            "the worker exports no class \"Agnet\", of which binding \"AGENTS\" is to have actors; its classes are Agent; what else it exports is no class: default, helper",
        ),
        ("helper", "no class \"helper\""),
    ] {
        let bindings = json!({ "AGENTS": { "type": "actors", "class_name": class } });
        let (status, text) = house.try_deploy("app", &AGENT.replace("heap = 0", "heap = 7"), bindings).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        let error: Value = serde_json::from_str(&text).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains(said), "{text}");
    }
    assert_eq!(house.say("a/both").await, " 0", "the former version answers");
    let (status, text) = house.try_deploy("bare", "", json!({ "A": { "type": "actors", "class_name": "A" } })).await;
    assert!(!status.is_success() && text.contains("it exports nothing"), "{text}");
    // A class that something was wrapped around is one; of another worker's classes nothing is known yet.
    let wrapped = "import { DurableObject } from 'cloudflare:workers'; class A extends DurableObject {}
        export const B = new Proxy(A, {}); export default {};";
    house.deploy("wrapped", wrapped, json!({ "B": { "type": "actors", "class_name": "B" } })).await;
    house.deploy("far", "export default {}", json!({ "B": { "type": "actors", "class_name": "C", "worker": "nobody" } })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_an_actor_that_a_limit_ended_see_a_reset() {
    let house = House::start().await;
    let body = json!({
        // Little: a long turn yields to everything else that a busy machine has to do.
        "main": "main.js", "modules": { "main.js": AGENT }, "limits": { "cpu_ms": 100 },
        "bindings": { "AGENTS": { "type": "actors", "class_name": "Agent" } },
    });
    let (status, text) = house.control(Method::PUT, "/v1/workers/app", &body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    house.say("a/note/1").await;
    assert_eq!(house.say("a/spin").await, "Durable Object exceeded its CPU time limit and was reset.,true");
    assert_eq!(house.say("a/note/2").await, "1,2", "the next call finds another");
}
