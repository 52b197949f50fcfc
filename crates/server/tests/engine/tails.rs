//! What `skep tail` hears of a real worker.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::house::House;

fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_exceptions_outcomes_and_meters_by_request() {
    let house = House::start().await;
    let source = "export default { async fetch(request, env, ctx) {
        const n = new URL(request.url).searchParams.get('n');
        console.log('in', n);
        await scheduler.wait(n === '1' ? 40 : 5);
        console.warn('out', n);
        if (n === '3') { ctx.waitUntil(Promise.reject(new RangeError('later'))); throw new TypeError('now'); }
        for (let i = 0; i < 1e5; i++);
        return new Response(n);
    } };";
    house.deploy("w", source, json!({})).await;
    let mut tail = house.tail("w").await;
    let (one, two) = tokio::join!(house.call("w/?n=1"), house.call("w/?n=2"));
    assert_eq!((one.1.as_str(), two.1.as_str()), ("1", "2"));
    house.call("w/?n=3").await;
    tail.until("\"outcome\":\"exception\"").await;
    let events = tail.events();
    let outcomes = of_type(&events, "outcome");
    assert_eq!(outcomes.len(), 3, "{}", tail.seen);
    for outcome in outcomes {
        let n = outcome["trigger"]["url"].as_str().unwrap().rsplit('=').next().unwrap();
        let logs: Vec<_> = of_type(&events, "log").into_iter().filter(|log| log["request"] == outcome["request"]).collect();
        let texts: Vec<_> = logs.iter().map(|log| log["line"]["text"].as_str().unwrap()).collect();
        assert_eq!(texts, [format!("in {n}"), format!("out {n}")], "{}", tail.seen);
        assert!(outcome["meter"]["cpu_us"].as_u64() > Some(0) && outcome["meter"]["operations"].as_u64() > Some(0), "{outcome}");
        if n == "3" {
            assert_eq!((&outcome["error"]["name"], &outcome["error"]["message"]), (&json!("TypeError"), &json!("now")));
            assert!(outcome["error"]["stack"].as_str().unwrap().contains("main.js"));
            let uncaught: Vec<_> = of_type(&events, "exception").into_iter().filter(|e| e["request"] == outcome["request"]).collect();
            assert_eq!(uncaught[0]["error"]["message"], "later", "{}", tail.seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_its_call() {
    let house = House::start().await;
    let source =
        "export default { async fetch(request) { console.log('began'); await scheduler.wait(60000); return new Response('x'); } };";
    house.deploy("w", source, json!({})).await;
    let mut tail = house.tail("w").await;
    let mut client = TcpStream::connect(house.address).await.unwrap();
    client.write_all(b"GET /w/w/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tail.until("began").await;
    drop(client);
    tail.until("\"outcome\":\"cancelled\"").await;
    for _ in 0..100 {
        // The tail itself is a request.
        if house.node.status().in_flight <= 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?}", house.node.status());
}
