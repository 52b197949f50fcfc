//! A bucket on a server of the tests' own, on good days and on bad ones.

use std::collections::BTreeSet;

use super::{
    server::{BUCKET, Fault, ID, REGION, SECRET, Server, signature},
    *,
};
use crate::snapshot::chunks::{self, ChunkError};

fn place(server: &Server) -> BucketPlace {
    BucketPlace {
        endpoint: server.address.clone(),
        bucket: BUCKET.to_owned(),
        prefix: "skep/one".to_owned(),
        region: REGION.to_owned(),
        path_style: true,
    }
}

fn key() -> BucketKey {
    BucketKey { id: ID.to_owned(), secret: SECRET.to_owned(), token: None }
}

fn open(server: &Server) -> Bucket {
    Bucket { wait: Duration::from_millis(1), ..Bucket::new(&place(server), key()).unwrap() }
}

fn content(n: u32) -> Vec<u8> {
    (0..2_000_u32).flat_map(|at| (at ^ n).to_le_bytes()).collect()
}

/// Amazon's own example, so that the server of these tests knows a signature when it sees one.
#[test]
fn signatures_are_those_of_amazons_example() {
    let url = "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host";
    let headers = [("host".to_owned(), "examplebucket.s3.amazonaws.com".to_owned())].into();
    let wanted = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    assert_eq!(signature("GET", &Url::parse(url).unwrap(), &headers, SECRET), wanted);
}

#[test]
fn chunks_are_kept_found_listed_and_removed() {
    let server = Server::start();
    let bucket = open(&server);
    let (name, new) = chunks::put(&bucket, &content(1)).unwrap();
    assert!(new && !chunks::put(&bucket, &content(1)).unwrap().1);
    assert_eq!(chunks::get(&bucket, &name, MOST_BYTES).unwrap(), content(1));
    let text = name.to_string();
    assert_eq!(server.state().objects.keys().collect::<Vec<_>>(), [&format!("skep/one/{}/{text}", &text[..2])]);
    assert!(server.state().asked.iter().all(|asked| asked.contains("X-Amz-Signature=")));
    assert_eq!(bucket.list().unwrap(), [name]);
    bucket.remove(&name).unwrap();
    bucket.remove(&name).unwrap();
    assert!(!bucket.has(&name).unwrap());
    assert!(matches!(chunks::get(&bucket, &name, MOST_BYTES), Err(ChunkError::Missing(missing)) if missing == name));
}

#[test]
fn lists_go_on_over_pages_and_pass_over_what_is_no_chunk() {
    let server = Server::start();
    let bucket = open(&server);
    let names: BTreeSet<ChunkName> = (0..2_345_u32).map(|n| ChunkName::of(&n.to_le_bytes())).collect();
    for name in &names {
        server.state().objects.insert(bucket.key(name), vec![]);
    }
    for other in ["skep/one/skep-node", "skep/one/aa/no-chunk", "skep/two/x", "z"] {
        server.state().objects.insert(other.to_owned(), vec![]);
    }
    assert_eq!(bucket.list().unwrap().into_iter().collect::<BTreeSet<_>>(), names);
    assert_eq!(server.state().asked.len(), 3);
    // A page that ends in the middle of the list of another prefix, and a store that never comes to an end.
    server.state().page = 7;
    assert_eq!(bucket.list().unwrap().len(), names.len());
    server.state().circle = true;
    assert!(bucket.list().unwrap_err().to_string().contains("no end"));
}

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    let server = Server::start();
    let bucket = open(&server);
    let moments = [
        Fault::Status(503, "SlowDown"),
        Fault::Status(500, "InternalError"),
        Fault::Cut,
        Fault::Status(429, ""),
        Fault::Status(400, "RequestTimeout"),
    ];
    let name = ChunkName::of(b"x");
    server.fail(&moments);
    bucket.put(&name, b"stored").unwrap();
    assert_eq!(server.state().asked.len(), 6);
    // It was written, and nobody heard of it: the second time it is there already.
    let other = ChunkName::of(b"y");
    server.fail(&[Fault::DoneAndCut]);
    bucket.put(&other, b"stored").unwrap();
    assert!(server.state().asked.len() == 8 && bucket.has(&other).unwrap());
    server.fail(&[Fault::Truncated, Fault::Truncated, Fault::Status(503, "SlowDown")]);
    assert_eq!(bucket.get(&name).unwrap(), b"stored");
    server.fail(&vec![Fault::Status(503, "SlowDown"); TRIES as usize]);
    let error = bucket.get(&name).unwrap_err();
    assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().contains("503 SlowDown"), "{error}");
}

/// A store that gives back something else than was given to it: found, each time, by its content.
#[test]
fn what_a_store_makes_up_is_not_believed() {
    let server = Server::start();
    let bucket = open(&server);
    let (name, _) = chunks::put(&bucket, &content(1)).unwrap();
    for fault in [Fault::Flipped, Fault::Short] {
        server.fail(std::slice::from_ref(&fault));
        let got = chunks::get(&bucket, &name, MOST_BYTES);
        assert!(matches!(got, Err(ChunkError::Damaged(damaged, _)) if damaged == name), "{fault:?}");
    }
    let (other, _) = chunks::put(&bucket, &content(2)).unwrap();
    let stored = server.state().objects[&bucket.key(&other)].clone();
    server.state().objects.insert(bucket.key(&name), stored);
    assert!(matches!(chunks::get(&bucket, &name, MOST_BYTES), Err(ChunkError::Damaged(..))));
    // An answer without end is not read to its end.
    server.fail(&vec![Fault::Longer(1 << 20); TRIES as usize]);
    let error = bucket.write("skep/one/aa/x", b"").unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[test]
fn a_store_without_conditions_is_written_all_the_same() {
    let server = Server::start();
    server.state().unconditional = true;
    let bucket = open(&server);
    for n in 0..3 {
        chunks::put(&bucket, &content(n)).unwrap();
    }
    // One that was refused, and a question and an answer for each.
    assert_eq!(server.state().asked.len(), 7);
}

#[test]
fn an_operators_mistakes_are_named() {
    let server = Server::start();
    let said = |change: &dyn Fn(&mut BucketPlace, &mut BucketKey)| {
        let (mut place, mut key) = (place(&server), key());
        change(&mut place, &mut key);
        let bucket = Bucket { wait: Duration::from_millis(1), ..Bucket::new(&place, key).unwrap() };
        let error = bucket.claim("node-1").unwrap_err();
        assert!(!error.passes() && !error.to_string().contains("X-Amz"), "{error}");
        error.to_string()
    };
    assert!(said(&|_, key| key.secret.push('x')).contains("the secret does not belong to the key's id"));
    assert!(said(&|_, key| key.id.push('x')).contains("there is no key of that id"));
    assert!(said(&|place, _| place.bucket = "other".to_owned()).contains("there is no such bucket"));
    assert!(said(&|place, _| place.region = "other-1".to_owned()).contains("the region is another"));
    server.fail(&[Fault::Status(403, "AccessDenied")]);
    assert!(said(&|_, _| {}).contains("the key may not do that"));
    server.fail(&[Fault::Status(301, "PermanentRedirect")]);
    assert!(said(&|_, _| {}).contains("the bucket is elsewhere"));
    // What is nobody's mistake passes.
    let nobody = BucketPlace { endpoint: "http://127.0.0.1:1".to_owned(), ..place(&server) };
    let bucket = Bucket { wait: Duration::from_millis(1), ..Bucket::new(&nobody, key()).unwrap() };
    assert!(bucket.claim("node-1").unwrap_err().passes());
}

#[test]
fn a_bucket_is_one_nodes() {
    let server = Server::start();
    let bucket = open(&server);
    bucket.claim("node-1").unwrap();
    bucket.claim("node-1").unwrap();
    assert!(matches!(bucket.claim("node-2"), Err(BucketError::Taken { theirs, .. }) if theirs == "node-1"));
    assert_eq!(bucket.list().unwrap(), []);
    let other = BucketPlace { prefix: "skep/two".to_owned(), ..place(&server) };
    Bucket::new(&other, key()).unwrap().claim("node-2").unwrap();
}

#[test]
fn hostile_places_are_refused() {
    let server = Server::start();
    let refused = |change: &dyn Fn(&mut BucketPlace)| {
        let mut place = place(&server);
        change(&mut place);
        matches!(Bucket::new(&place, key()), Err(BucketError::Place(_)))
    };
    for endpoint in
        ["", "nothing", "ftp://x", "http://example.com", "http://10.0.0.1:9000", "https://user:word@x", "https://x/?a=b", "https://x/#y"]
    {
        assert!(refused(&|place| place.endpoint = endpoint.to_owned()), "{endpoint}");
    }
    for bucket in ["", "ab", "a/b", "a b", "../x", &"x".repeat(64)] {
        assert!(refused(&|place| place.bucket = bucket.to_owned()), "{bucket}");
    }
    for prefix in ["..", "a/../b", "a//b", "a?b", "a b", &"x".repeat(513)] {
        assert!(refused(&|place| place.prefix = prefix.to_owned()), "{prefix}");
    }
    assert!(refused(&|place| place.region = String::new()));
    assert_eq!(format!("{:?}", key()), format!("BucketKey({ID})"));
}
