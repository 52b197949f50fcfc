//! `skep sandbox` and the routes behind it.

use std::fs;

use crate::house::{House, outcome};

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_computer_from_the_command_line() {
    let Some(house) = House::start() else { return };
    let made = house.skep(&["sandbox", "create", "--timeout", "10m", "--env", "WHO=me", "--metadata", "a=b"]);
    assert!(made.status.success(), "{}", text(&made));
    let id = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(text(&house.skep(&["sandbox", "ls"])).contains(&id));

    let ran = house.skep(&["sandbox", "exec", &id, "echo $WHO; echo oops >&2; exit 7"]);
    assert_eq!((ran.status.code(), &*ran.stdout, &*ran.stderr), (Some(7), &b"me\n"[..], &b"oops\n"[..]));
    let ran =
        house.skep(&["sandbox", "exec", &id, "--user", "root", "--cwd", "/tmp", "-e", "X=1", "--", "sh", "-c", "id -u; pwd; echo $X"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "0\n/tmp\n1\n", "{}", text(&ran));
    let ran = house.skep_with(&["sandbox", "exec", &id, "--stdin", "wc -c"], &[b'x'; 100_000]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "100000", "{}", text(&ran));
    let ran = house.skep(&["--json", "sandbox", "exec", &id, "echo out"]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&ran.stdout).unwrap()["stdout"], "out\n");
    let ran = house.skep(&["sandbox", "exec", &id, "--timeout", "1s", "sleep 60"]);
    assert_eq!(ran.status.code(), Some(128 + 9), "{}", text(&ran));

    let shell = house.skep_with(&["sandbox", "shell", &id], b"echo $((6 * 7)) $WHO\nexit 3\n");
    assert!(shell.status.code() == Some(3) && text(&shell).contains("42 me"), "{}", text(&shell));

    for step in ["pause", "resume", "stop", "resume"] {
        let done = house.skep(&["sandbox", step, &id]);
        assert!(done.status.success(), "{step}: {}", text(&done));
    }
    let gone = house.skep(&["sandbox", "rm", &id]);
    assert!(gone.status.success(), "{}", text(&gone));
    assert_eq!(house.skep(&["sandbox", "show", &id]).status.code(), Some(4));
}

#[test]
fn files_go_in_and_out_whole() {
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base"}"#);
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    fs::create_dir_all(tree.join("a b/c")).unwrap();
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n * 31 % 251) as u8).collect();
    fs::write(tree.join("large"), &large).unwrap();
    fs::write(tree.join("a b/c/é?#"), "odd").unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    let put = house.skep(&["sandbox", "cp", tree.to_str().unwrap(), &format!("{id}:tree")]);
    assert!(put.status.success() && text(&put).contains("3 files"), "{}", text(&put));
    let back = here.path().join("back");
    let taken = house.skep(&["sandbox", "cp", &format!("{id}:/home/user/tree"), back.to_str().unwrap()]);
    assert!(taken.status.success() && text(&taken).contains("3 files"), "{}", text(&taken));
    assert_eq!(fs::read(back.join("large")).unwrap(), large);
    assert_eq!(fs::read_to_string(back.join("a b/c/é?#")).unwrap(), "odd");
    assert_eq!(fs::read(back.join("empty")).unwrap(), b"");

    // A link within leads nowhere outside: what comes out is the sandbox's own.
    house.sh(&id, "ln -s /etc/shadow tree/link; ln -s / tree/root");
    let taken = house.skep(&["sandbox", "cp", &format!("{id}:tree"), here.path().join("again").to_str().unwrap()]);
    assert!(text(&taken).contains("2 links"), "{}", text(&taken));
    let file = house.v1("GET", &format!("/v1/sandboxes/{id}/files?path=tree/large"), "").expect(200);
    assert_eq!(file.header("content-disposition").as_deref(), Some("attachment"));
    house.v1("GET", &format!("/v1/sandboxes/{id}/files?path=/root/x"), "").expect(403);
    house.v1("GET", &format!("/v1/sandboxes/{id}/files?path=nothing"), "").expect(404);
    house.v1("DELETE", &format!("/v1/sandboxes/{id}/files?path=tree"), "").expect(204);
    assert_ne!(house.sh(&id, "test -e tree").0, 0);
}

#[test]
fn a_client_that_leaves_ends_its_command() {
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base"}"#);
    {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&house.address).unwrap();
        let body = r#"{"line":"echo begun; sleep 300; echo never"}"#;
        let head = format!(
            "POST /v1/sandboxes/{id}/exec HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            house.address,
            house.key,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut got = String::new();
        let mut piece = [0; 1_024];
        while !got.contains("stdout") {
            let read = stream.read(&mut piece).unwrap();
            got.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        let whole = house.sh(&id, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 300' || true").1;
        assert_ne!(whole.trim(), "");
    }
    crate::house::until("the command is gone", || {
        house.sh(&id, "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done | grep -x 'sleep 300 '").0 != 0
    });
}

#[test]
fn output_is_passed_on_whole_and_in_order() {
    let Some(house) = House::start() else { return };
    let id = house.create(r#"{"templateID":"base"}"#);
    let answer = house.v1("POST", &format!("/v1/sandboxes/{id}/exec"), r#"{"line":"seq 1 200000"}"#).expect(200);
    let (code, text) = outcome(&answer.text());
    assert_eq!(code, 0);
    assert!(text.lines().map(|line| line.parse::<u32>().unwrap()).eq(1..=200_000));
}

#[test]
fn doctor_names_each_fence() {
    let Some(house) = House::start() else { return };
    let looked = house.skep(&["--json", "doctor"]);
    let checks: serde_json::Value = serde_json::from_slice(&looked.stdout).unwrap();
    let fences: Vec<&serde_json::Value> =
        checks.as_array().unwrap().iter().filter(|check| check["name"].as_str().unwrap().starts_with("sandboxes, ")).collect();
    assert!(fences.len() >= 15 && fences.iter().all(|check| check["ok"] == true), "{checks}");
    let left = fs::read_dir(house.data()).unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    assert!(left.into_iter().all(|name| !name.starts_with(".skep-doctor")), "it leaves nothing");
}

/// A program of hundreds of megabytes is copied into each of two sandboxes, and then knocks at every door.
#[test]
#[ignore = "takes seconds; `make soak` runs it"]
fn doctor_attacks_this_host_and_finds_every_door_shut() {
    let Some(house) = House::start() else { return };
    let looked = house.skep(&["--json", "doctor", "--attack"]);
    let checks: serde_json::Value = serde_json::from_slice(&looked.stdout).unwrap();
    let doors: Vec<&serde_json::Value> =
        checks.as_array().unwrap().iter().filter(|check| check["name"].as_str().unwrap().starts_with("attack, ")).collect();
    assert_eq!(doors.len(), 2 * skep_sandbox::attack::CASES.len());
    assert!(doors.iter().all(|door| door["ok"] == true), "{doors:#?}");
}
