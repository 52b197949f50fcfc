//! Images that an operator makes, and who may not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::house::House;

fn done(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What `docker save` writes of an image of one file.
fn archive(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder.join("layer/etc")).unwrap();
    fs::write(folder.join("layer/etc/motd"), "of the image\n").unwrap();
    done("tar", &["-C", "layer", "-cf", "layer.tar", "etc"], folder);
    let digest = done("sha256sum", &["layer.tar"], folder)[..64].to_owned();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": { "Env": ["FROM=image"] }, "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("manifest.json"), r#"[{"Config":"config.json","RepoTags":["mine:1"],"Layers":["layer.tar"]}]"#).unwrap();
    done("tar", &["-czf", "image.tar.gz", "manifest.json", "config.json", "layer.tar"], folder);
    folder.join("image.tar.gz")
}

#[test]
fn an_image_of_a_file_is_a_template_until_it_is_removed() {
    let Some(house) = House::start() else { return };
    let here = tempfile::tempdir().unwrap();
    let whole = archive(here.path());
    let said =
        |output: &std::process::Output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let add = house.skep(&["sandbox", "image", "add", "mine", "--file", whole.to_str().unwrap()]);
    assert_eq!((String::from_utf8_lossy(&add.stdout).trim(), add.status.code()), ("mine", Some(0)), "{}", said(&add));
    let listed = house.skep(&["--json", "sandbox", "image", "ls"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed["images"][0]["name"], &listed["images"][0]["from"]), (&"mine".into(), &"archive".into()), "{listed}");

    // It has no program: its files are there all the same.
    let id = house.create(r#"{"templateID":"mine"}"#);
    let file = |id: &str| house.v1("GET", &format!("/v1/sandboxes/{id}/files?path=/etc/motd"), "");
    assert_eq!(file(&id).expect(200).text(), "of the image\n");
    let removed = house.skep(&["sandbox", "image", "rm", "mine"]);
    assert!(removed.status.success(), "{}", said(&removed));
    assert_eq!(file(&id).expect(200).text(), "of the image\n", "a sandbox keeps what it began with");
    house.ask("POST", "/v2/sandboxes", &[("x-api-key", &house.key)], r#"{"templateID":"mine"}"#).expect(404);
    assert_eq!(house.skep(&["sandbox", "image", "rm", "mine"]).status.code(), Some(4));

    // What is no image leaves nothing, and says why.
    let bad = here.path().join("manifest.json");
    let add = house.skep(&["sandbox", "image", "add", "bad", "--file", bad.to_str().unwrap()]);
    assert!(!add.status.success() && !said(&add).is_empty(), "{}", said(&add));
    assert_eq!(fs::read_dir(house.data().join("sandboxes/incoming")).unwrap().count(), 0);
    for hostile in ["../up", "host", "t0123456789abcdef0123-00000000-0000-4000-8000-000000000000"] {
        let add = house.skep(&["sandbox", "image", "add", hostile, "--file", whole.to_str().unwrap()]);
        assert!(!add.status.success(), "{hostile}: {}", said(&add));
    }
}

#[test]
fn a_key_for_sandboxes_makes_and_removes_no_image() {
    let Some(house) = House::start() else { return };
    let bearer = format!("Bearer {}", house.other_key("sandboxes"));
    let with = |method: &str, path: &str, body: &str| house.ask(method, path, &[("authorization", &bearer)], body);
    with("GET", "/v1/images", "").expect(200);
    with("POST", "/v1/images/base", r#"{"registry":"docker.io/library/debian:12"}"#).expect(403);
    with("PUT", "/v1/images/base/archive", "x").expect(403);
    with("DELETE", "/v1/images/base", "").expect(403);
}

/// A registry inside the network of the node would be asked with the node's own rights.
#[test]
fn a_registry_at_a_private_address_is_not_asked() {
    let Some(house) = House::start() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("127.0.0.1:{}/library/x:1", listener.local_addr().unwrap().port());
    let add = house.skep(&["sandbox", "image", "add", "inside", &reference]);
    assert!(!add.status.success(), "{}", String::from_utf8_lossy(&add.stderr));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it was asked");
}
