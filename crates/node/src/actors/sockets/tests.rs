//! Hostile and slow clients, hostile actors, against the registry alone.

use super::*;

/// Remembers what it was given; blocks while told to.
#[derive(Debug, Default)]
struct Heard {
    messages: Mutex<Vec<(u32, SocketMessage)>>,
    closed_gate: AtomicBool,
    at_once: AtomicUsize,
    at_once_most: AtomicUsize,
}

#[derive(Debug)]
struct To(Arc<Heard>);

impl Delivery for To {
    fn deliver(&self, _whom: Whom, socket: u32, message: SocketMessage, _wall_ms: Option<u32>, turn: Turn) -> BoxFuture<'static, ()> {
        let heard = Arc::clone(&self.0);
        Box::pin(async move {
            let held = turn.await;
            heard.messages.lock().push((socket, message));
            drop(held);
            let now = heard.at_once.fetch_add(1, Relaxed) + 1;
            heard.at_once_most.fetch_max(now, Relaxed);
            while heard.closed_gate.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            heard.at_once.fetch_sub(1, Relaxed);
        })
    }
}

fn house() -> (Arc<Heard>, Arc<Sockets>, Whom) {
    let heard = Arc::new(Heard::default());
    let sockets = Sockets::new(Arc::new(To(Arc::clone(&heard))), tokio::runtime::Handle::current());
    (heard, sockets, Whom { id: ActorId::new([7; 32]), namespace: "w/C".into(), name: None, parent: None })
}

fn text(text: &str) -> SocketMessage {
    SocketMessage::Text(Bytes::copy_from_slice(text.as_bytes()))
}

async fn until(mut what: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came");
}

#[tokio::test]
async fn messages_come_in_order_and_answers_go_out() {
    let (heard, sockets, actor) = house();
    let group = sockets.of(actor);
    let (ours, mut client) = Socket::pair("chat");
    group.keep(5, ours, vec!["a".to_owned()], Some(Bytes::from_static(b"x"))).unwrap();
    for n in 0..50 {
        client.tx.send(text(&n.to_string())).await.unwrap();
    }
    until(|| heard.messages.lock().len() == 50).await;
    let expected: Vec<_> = (0..50).map(|n| (5, text(&n.to_string()))).collect();
    assert_eq!(*heard.messages.lock(), expected);
    group.send(5, text("hello"));
    assert_eq!(client.rx.recv().await, Some(text("hello")));
    let shown = group.list();
    assert_eq!((shown[0].number, shown[0].tags.len(), shown[0].answered_at), (5, 1, None));
    drop(client);
    until(|| sockets.count() == 0).await;
    assert!(matches!(&heard.messages.lock()[50], (5, SocketMessage::Close(BROKEN, _))), "a broken connection is told as a close");
}

#[tokio::test]
async fn an_auto_response_wakes_nobody() {
    let (heard, sockets, actor) = house();
    let group = sockets.of(actor);
    let (ours, mut client) = Socket::pair("");
    group.keep(1, ours, vec![], None).unwrap();
    group.set_auto(Some((Bytes::from_static(b"ping"), Bytes::from_static(b"pong")))).unwrap();
    client.tx.send(text("ping")).await.unwrap();
    assert_eq!(client.rx.recv().await, Some(text("pong")));
    assert!(heard.messages.lock().is_empty() && group.list()[0].answered_at.is_some());
    let long = Bytes::from("é".repeat(AUTO_CHARS_MAX + 1));
    assert_eq!(group.set_auto(Some((long, Bytes::new()))), Err(KeepError::Auto));
    client.tx.send(SocketMessage::Binary(Bytes::from_static(b"ping"))).await.unwrap();
    until(|| heard.messages.lock().len() == 1).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_costs_bounded_memory() {
    let (heard, sockets, actor) = house();
    let group = sockets.of(actor);
    let (ours, client) = Socket::pair("");
    group.keep(1, ours, vec![], None).unwrap();
    for _ in 0..200 {
        group.send(1, SocketMessage::Binary(Bytes::from(vec![0; 256 << 10])));
        tokio::task::yield_now().await;
    }
    let waiting = group.kept.lock().list.get(&1).map_or(0, |connection| connection.out_bytes.load(Relaxed));
    assert!(waiting <= OUTGOING_BYTES_MAX + (256 << 10), "{waiting} bytes wait");
    until(|| sockets.count() == 0).await;
    assert!(matches!(heard.messages.lock()[0], (1, SocketMessage::Close(BROKEN, _))));
    drop(client);
}

#[tokio::test]
async fn a_client_that_floods_waits_for_its_actor() {
    let (heard, sockets, actor) = house();
    heard.closed_gate.store(true, Relaxed);
    let group = sockets.of(actor);
    let (ours, client) = Socket::pair("");
    group.keep(1, ours, vec![], None).unwrap();
    let (mut sent, flood) = (0, text(&"x".repeat(64 << 10)));
    while let Ok(true) = tokio::time::timeout(Duration::from_millis(200), deliver(&client.tx, flood.clone())).await {
        sent += 1;
        assert!(sent < 1_000, "nothing holds the flood back");
    }
    assert!(heard.at_once_most.load(Relaxed) <= CALLS_MAX);
    heard.closed_gate.store(false, Relaxed);
    until(|| heard.messages.lock().len() >= sent).await;
}

#[tokio::test]
async fn a_deleted_actor_hears_nothing_and_its_clients_are_told() {
    let (heard, sockets, actor) = house();
    let (ours, mut client) = Socket::pair("");
    sockets.of(actor).keep(1, ours, vec![], None).unwrap();
    sockets.close_all(ActorId::new([7; 32]), "the actor was deleted");
    assert_eq!(client.rx.recv().await, Some(SocketMessage::Close(GOING_AWAY, "the actor was deleted".to_owned())));
    client.tx.send(text("still there?")).await.unwrap();
    drop(client);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(heard.messages.lock().is_empty());
    assert_eq!(sockets.count(), 0);
}

#[tokio::test]
async fn what_an_actor_may_hang_on_a_socket_is_bounded() {
    let (_heard, sockets, actor) = house();
    let group = sockets.of(actor);
    let keep = |number, tags| group.keep(number, Socket::pair("").0, tags, None);
    assert_eq!(keep(1, vec!["t".to_owned(); TAGS_MAX + 1]), Err(KeepError::Tags));
    assert_eq!(keep(1, vec!["é".repeat(TAG_CHARS_MAX + 1)]), Err(KeepError::Tag));
    let (ours, _client) = Socket::pair("");
    group.keep(1, ours, vec!["é".repeat(TAG_CHARS_MAX)], None).unwrap();
    assert_eq!(keep(1, vec![]), Err(KeepError::Taken), "a number must not lead to another's connection");
    assert_eq!(group.attach(1, Bytes::from(vec![0; ATTACHMENT_BYTES_MAX + 1])), Err(KeepError::Attachment));
    assert_eq!(group.attach(2, Bytes::new()), Err(KeepError::Unknown));
    assert_eq!(group.attach(1, Bytes::from(vec![0; ATTACHMENT_BYTES_MAX])), Ok(()));
}

#[tokio::test]
async fn nothing_is_left_of_an_actor_whose_connections_ended() {
    let (_heard, sockets, actor) = house();
    let (ours, client) = Socket::pair("");
    sockets.of(actor).keep(1, ours, vec![], None).unwrap();
    drop(client);
    until(|| sockets.by_actor.lock().is_empty()).await;
}
