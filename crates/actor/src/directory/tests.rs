//! The directory on a real file: what is noted is seen, kept, bounded; and what 100,000 rows cost.

use std::time::{Duration, Instant};

use super::*;

fn id(n: u64) -> ActorId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    ActorId::new(bytes)
}

fn met(namespace: &str, name: Option<&str>, parent: Option<ActorId>) -> Change {
    Change { met: Some((namespace.to_owned(), name.map(str::to_owned), parent, 1_000)), ..Change::default() }
}

fn told(why: &str) -> Change {
    Change { told: vec![Told { time_ms: 1, what: What::Ended, why: why.to_owned() }], ..Change::default() }
}

fn open() -> (tempfile::TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path(), 3).unwrap();
    (dir, directory)
}

#[test]
fn what_is_noted_is_seen_at_once_and_after_a_restart() {
    let (dir, directory) = open();
    directory.note(id(1), met("shop/Cart", Some("ann"), None)).unwrap();
    directory.note(id(1), Change { wake_ms: Some(Some(77)), code: Some("c1".into()), ..Change::default() }).unwrap();
    let row = directory.get(id(1)).unwrap().unwrap();
    assert_eq!((row.name.as_deref(), row.wake_ms, row.code.as_deref()), (Some("ann"), Some(77), Some("c1")));
    directory.note(id(1), Change { wake_ms: Some(None), database_bytes: Some(4_096), ..Change::default() }).unwrap();
    directory.flush().unwrap();
    drop(directory);
    let row = Directory::open(dir.path(), 3).unwrap().get(id(1)).unwrap().unwrap();
    assert_eq!((row.wake_ms, row.database_bytes, row.created_ms), (None, 4_096, 1_000));
}

#[test]
fn a_name_learnt_later_is_kept_and_one_that_is_known_stays() {
    let (_dir, directory) = open();
    directory.note(id(1), met("shop/Cart", None, None)).unwrap();
    directory.flush().unwrap();
    directory.note(id(1), met("shop/Cart", Some("ann"), None)).unwrap();
    assert_eq!(directory.get(id(1)).unwrap().unwrap().name.as_deref(), Some("ann"));
    directory.note(id(1), met("shop/Cart", Some("bob"), None)).unwrap();
    assert_eq!(directory.get(id(1)).unwrap().unwrap().name.as_deref(), Some("ann"));
}

#[test]
fn pages_of_a_list_meet_without_gaps() {
    let (_dir, directory) = open();
    for n in 0..25 {
        let name = format!("user-{n}");
        directory.note(id(n), met(if n % 5 == 0 { "shop/Order" } else { "shop/Cart" }, Some(&name), None)).unwrap();
    }
    directory.note(id(100), met("shop/Cart", None, Some(id(1)))).unwrap();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = directory.list(&Filter { namespace_prefix: "shop/Cart".into(), after, most: 7, ..Filter::default() }).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.into_iter().map(|row| row.id));
    }
    assert_eq!(seen, (0..25).filter(|n| n % 5 != 0).map(id).collect::<Vec<_>>());
    let named = directory.list(&Filter { name_prefix: "user-2".into(), most: 100, ..Filter::default() }).unwrap();
    assert_eq!(named.len(), 6);
    let facets = directory.list(&Filter { parent: Some(id(1)), most: 100, ..Filter::default() }).unwrap();
    assert_eq!(facets.len(), 1);
}

#[test]
fn wildcards_and_quotes_in_a_prefix_mean_themselves() {
    let (_dir, directory) = open();
    for (n, name) in ["a%b", "axb", "a_b", "' OR 1=1 --"].iter().enumerate() {
        directory.note(id(n as u64), met("w/C", Some(name), None)).unwrap();
    }
    for (prefix, expected) in [("a%", 1), ("a_", 1), ("a", 3), ("' OR", 1), ("%", 0)] {
        let found = directory.list(&Filter { name_prefix: prefix.into(), most: 100, ..Filter::default() }).unwrap();
        assert_eq!(found.len(), expected, "{prefix}");
    }
}

#[test]
fn a_family_comes_parents_first_and_goes_with_its_rows() {
    let (_dir, directory) = open();
    directory.note(id(1), met("w/C", None, None)).unwrap();
    directory.note(id(3), met("w/C", None, Some(id(1)))).unwrap();
    directory.note(id(2), met("w/C", None, Some(id(3)))).unwrap();
    let family: Vec<_> = directory.family(id(1), 100).unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(family, [id(3), id(2)]);
    directory.note(id(3), told("x")).unwrap();
    directory.note(id(3), Change { gone: true, ..Change::default() }).unwrap();
    assert_eq!(directory.get(id(3)).unwrap(), None);
    assert!(directory.told(id(3)).unwrap().is_empty());
    directory.note(id(3), met("w/C", Some("again"), None)).unwrap();
    assert_eq!(directory.get(id(3)).unwrap().unwrap().name.as_deref(), Some("again"), "begins anew");
}

#[test]
fn events_are_a_ring_and_a_long_reason_is_cut() {
    let (_dir, directory) = open();
    directory.note(id(1), met("w/C", None, None)).unwrap();
    for n in 0..10 {
        directory.note(id(1), told(&format!("{n}"))).unwrap();
        if n % 4 == 0 {
            directory.flush().unwrap();
        }
    }
    let whys: Vec<_> = directory.told(id(1)).unwrap().into_iter().map(|t| t.why).collect();
    assert_eq!(whys, ["9", "8", "7"]);
    directory.note(id(1), told(&"ä".repeat(5_000))).unwrap();
    assert!(directory.told(id(1)).unwrap()[0].why.len() <= WHY_MAX);
}

#[test]
fn wake_ups_come_in_order_whatever_time_a_guest_asked_for() {
    let (_dir, directory) = open();
    for (n, ms) in [(1, 500), (2, 100), (3, u64::MAX), (4, 100)] {
        directory.note(id(n), met("w/C", None, None)).unwrap();
        directory.note(id(n), Change { wake_ms: Some(Some(ms)), ..Change::default() }).unwrap();
    }
    assert_eq!(directory.wakes((0, id(0)), 1_000, 2).unwrap(), [(100, id(2)), (100, id(4))]);
    assert_eq!(directory.wakes((100, id(5)), 1_000, 9).unwrap(), [(500, id(1))]);
}

#[test]
fn a_file_of_another_form_is_refused_and_left_alone() {
    let (dir, directory) = open();
    drop(directory);
    let path = dir.path().join("directory.sqlite");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    assert!(matches!(Directory::open(dir.path(), 3), Err(DirectoryError::Form { found: 9, .. })));
    std::fs::write(&path, b"not a database at all, but long enough to look like one").unwrap();
    let error = Directory::open(dir.path(), 3).unwrap_err().to_string();
    assert!(error.contains("directory.sqlite"), "{error}");
}

#[test]
fn a_hundred_thousand_idle_actors_are_rows_and_open_at_once() {
    let (dir, directory) = open();
    for n in 0..100_000 {
        let mut change = met("shop/Cart", Some("a name of usual length"), None);
        change.wake_ms = Some((n % 10 == 0).then_some(1_000_000 + n));
        directory.note(id(n), change).unwrap();
    }
    directory.flush().unwrap();
    drop(directory);
    let bytes = std::fs::metadata(dir.path().join("directory.sqlite")).unwrap().len();
    assert!(bytes / 100_000 < 1_024, "{bytes} bytes");
    let began = Instant::now();
    let directory = Directory::open(dir.path(), 3).unwrap();
    assert_eq!(directory.wakes((0, id(0)), u64::MAX, 1_000).unwrap().len(), 1_000);
    assert!(directory.get(id(77_777)).unwrap().is_some());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
