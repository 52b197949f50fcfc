//! Every command that is about actors, once.

use std::fs;

use super::house::{APP, Up, config, good, parsed, skep};

#[test]
fn the_commands_of_an_actor() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = config(folder.path(), "");
    let up = Up::start(&data, &config);
    Up::deploy(&data, folder.path(), APP);
    let add = || ureq::post(format!("{}/w/app/a0", up.url)).send_empty().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!((add(), add()), ("1 1".to_owned(), "2 2".to_owned()));
    let actor = "app/Counter/a0";

    assert!(good(&data, &["actors", "ls"]).contains(actor));
    let id = parsed(&data, &["actors", "ls", "--worker", "app"])["actors"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(parsed(&data, &["actors", "show", &id])["name"], "a0");
    assert!(good(&data, &["actors", "show", actor]).contains(&id));
    let then = parsed(&data, &["actors", "show", actor])["bookmark"].as_str().unwrap().to_owned();
    add();
    let count = |as_of: Option<&str>| {
        let mut args = vec!["actors", "sql", actor, "SELECT count(*) AS steps FROM step"];
        args.extend(as_of.iter().flat_map(|as_of| ["--as-of", as_of]));
        parsed(&data, &args)["rows"][0][0].as_u64().unwrap()
    };
    assert_eq!((count(None), count(Some(&then))), (3, 2));
    let table = good(&data, &["actors", "sql", actor, "SELECT n, note FROM step ORDER BY n"]);
    assert!(table.starts_with("n  note") && table.contains('…'), "{table}");
    assert_eq!(parsed(&data, &["actors", "checkpoint", actor])["tier"], "local-fsync");
    assert!(good(&data, &["actors", "fork", actor, "--name", "copy"]).contains("app/Counter/copy"));
    assert!(good(&data, &["actors", "rewind", actor, &then]).contains("to undo it"));
    assert_eq!((count(None), parsed(&data, &["actors", "ls"])["actors"].as_array().unwrap().len()), (2, 2));
    let file = folder.path().join("a0.sqlite");
    good(&data, &["actors", "export", actor, file.to_str().unwrap()]);
    assert!(fs::read(&file).unwrap().starts_with(b"SQLite format 3\0"));
    assert_eq!(skep(&data, &["actors", "export", actor, file.to_str().unwrap()]).status.code(), Some(2), "it overwrites nothing");
    assert_eq!(skep(&data, &["workers", "rm", "app"]).status.code(), Some(2), "a worker with actors stays");
    good(&data, &["actors", "delete", actor]);
    assert_eq!(skep(&data, &["actors", "show", actor]).status.code(), Some(4));
    assert_eq!(skep(&data, &["actors", "show", "nonsense"]).status.code(), Some(2));
    good(&data, &["workers", "rm", "app", "--actors", "delete"]);
    assert_eq!(parsed(&data, &["actors", "ls"])["actors"], serde_json::json!([]));
}
