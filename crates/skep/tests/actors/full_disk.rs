//! A disk that is really full: a node on a small file system of its own, and something beside it that takes all room.
//!
//! The file systems are mounted where only this test sees them: the test is started anew by `unshare`, which root may, and where users may have
//! namespaces of their own everybody may (but for ext4, which wants a device). Where neither may, a test says so and proves nothing.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::house::{Up, app, good, skep};

/// Bytes of a file system: the node's compiled image takes a third.
const SIZE: u64 = 64 << 20;

/// Actors, of which the first two write until there is no room.
const ACTORS: usize = 5;

#[test]
fn a_node_on_a_full_ext4() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    File::create(&image).unwrap().set_len(SIZE).unwrap();
    match Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).output() {
        Ok(made) if made.status.success() => within(folder.path(), "ext4", &format!("mount -o loop {}", image.display())),
        other => println!("skipped: no ext4 can be made here: {other:?}"),
    }
}

#[test]
fn a_node_on_a_full_file_system_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    within(folder.path(), "tmpfs", &format!("mount -t tmpfs -o size={SIZE} none"));
}

/// Runs the play in a namespace in which `mount`, completed by a folder, was done.
fn within(folder: &Path, kind: &str, mount: &str) {
    let at = folder.join(kind);
    fs::create_dir(&at).unwrap();
    let mount = format!("{mount} {}", at.display());
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let mut why = String::new();
    for way in ways {
        let started = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(way).args(["--propagation", "private", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
            command
        };
        match started(&mount).output() {
            Ok(done) if done.status.success() => {
                let play = format!("{mount} && exec \"$0\" --exact full_disk::the_play --nocapture --skip {}", at.display());
                assert!(started(&play).status().unwrap().success(), "on {kind}");
                return;
            }
            Ok(done) => why.push_str(&String::from_utf8_lossy(&done.stderr)),
            Err(error) => why.push_str(&error.to_string()),
        }
    }
    println!("skipped: {kind} cannot be mounted here: {why}");
}

#[test]
fn the_play() {
    // Started as `<binary> --exact full_disk::the_play --nocapture --skip <folder>`; otherwise there is nothing to do.
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--skip").and_then(|at| args.get(at + 1)) {
        play(Path::new(at));
    }
}

fn play(disk: &Path) {
    let data = disk.join("data");
    let config = disk.join("skep.toml");
    let trusted = disk.ends_with("tmpfs");
    fs::write(
        &config,
        format!(
            "[node.actors]\nidle_ms = 600000\n[node.log]\nsegment_bytes = 1048576\nlog_bytes = 4194304\ntrust_any_folder = {trusted}\n"
        ),
    )
    .unwrap();
    let up = Up::start(&data, &config);
    Up::deploy(&data, disk, &app(60_000));
    let mut steps = [0; ACTORS];
    for (actor, steps) in steps.iter_mut().enumerate() {
        *steps = add(&up, actor).unwrap();
    }

    let filler = fill(disk);
    write_until_full(&up, &mut steps);
    for (actor, steps) in steps.iter().enumerate() {
        assert_eq!(up.read(actor), (*steps, *steps), "everybody reads on, those too whose writes failed");
    }
    let listed = skep(&data, &["actors", "ls"]);
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success() || said.contains("the disk of this node is full"), "{said}");

    fs::remove_file(filler).unwrap();
    let why = good(&data, &["actors", "show", "app/Counter/a0"]);
    assert!(why.contains("the log cannot grow: No space left on device"), "{why}");
    for (actor, steps) in steps.iter_mut().enumerate() {
        // What failed was not done: the next step is the next one.
        assert_eq!(add(&up, actor), Ok(*steps + 1), "it works again, without a restart");
        *steps += 1;
    }
    assert!(good(&data, &["actors", "ls"]).contains("app/Counter/a4"));

    let filler = fill(disk);
    write_until_full(&up, &mut steps);
    drop(up);
    match Up::try_start(&data, &config) {
        // What it needs to begin with was there still.
        Ok(up) => all_there(&up, &steps),
        Err(said) => assert!(said.contains("No space left on device") || said.contains("disk is full"), "it says why: {said}"),
    }
    fs::remove_file(filler).unwrap();
    let up = Up::start(&data, &config);
    all_there(&up, &steps);
    drop(up);
    let doctor = skep(&data, &["doctor", "--config", config.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains(&format!("the files of {ACTORS} actors are sound")), "{said}");
}

/// Adds a step; its number, or what the client was told.
fn add(up: &Up, actor: usize) -> Result<u64, String> {
    match up.call("POST", actor) {
        (200, text) => Ok(text.split(' ').next().unwrap().parse().unwrap()),
        (_, text) => Err(text),
    }
}

/// Until every actor that writes was refused.
fn write_until_full(up: &Up, steps: &mut [u64; ACTORS]) {
    for actor in [0, 1] {
        let (began, mut attempts) = (Instant::now(), 0);
        let said = loop {
            match add(up, actor) {
                Ok(n) => {
                    assert_eq!(n, steps[actor] + 1);
                    steps[actor] = n;
                }
                Err(said) => break said,
            }
            attempts += 1;
            assert!(attempts < 1_000 && began.elapsed() < Duration::from_secs(60), "it never was full");
        };
        // What a caller is told of a commit that was not kept; the actor's own log has the reason.
        assert!(said.contains("Internal error in Durable Object storage"), "{said}");
    }
}

fn all_there(up: &Up, steps: &[u64; ACTORS]) {
    for (actor, steps) in steps.iter().enumerate() {
        assert_eq!(up.read(actor), (*steps, *steps), "nothing acknowledged is lost, and nothing refused is there");
    }
}

/// Takes all room that is left, to the last byte; again until nobody gives any back.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::create(&path).unwrap();
    for _ in 0..3 {
        let mut piece = 1 << 20;
        while piece > 0 {
            match file.write_all(&vec![7; piece]).and_then(|()| file.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => piece /= 16,
                Err(error) => panic!("{error}"),
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    path
}
