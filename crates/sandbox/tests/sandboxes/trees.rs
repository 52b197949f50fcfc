//! Attacks on whoever copies a sandbox's tree: for snapshots, forks, differences and commit back. What is copied was written, and is being changed, by the attacker.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use skep_sandbox::{Boxed, Command, Input, Profile, Running, Status};

use crate::{
    boxed::{BOTH, Bench, most_powerful, run},
    snapshots::{create, line, one_fork, open},
};

/// What nobody within may come to see.
const CANARY: &str = "canary-of-the-host";

fn canary(bench: &Bench) -> std::path::PathBuf {
    let folder = bench.folder.path().join("canary");
    fs::create_dir_all(folder.join("deep")).unwrap();
    for name in ["f", "deep/f"] {
        fs::write(folder.join(name), CANARY).unwrap();
    }
    folder
}

/// Every file of a tree whose content is the canary. Layers that nobody needs any more go meanwhile.
fn carried(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(carried(&entry.path()));
        } else if kind.is_file() && fs::read(entry.path()).is_ok_and(|content| content == CANARY.as_bytes()) {
            found.push(entry.path());
        }
    }
    found
}

async fn begin(boxed: &Boxed, line: &str) -> Running {
    boxed.sandbox().await.unwrap().exec(Command::shell(line)).await.unwrap()
}

async fn gone(boxed: &Boxed, running: &Running) {
    let sandbox = boxed.sandbox().await.unwrap();
    let _ = sandbox.signal(running.pid, 9, true).await;
}

async fn end(node: &skep_sandbox::Sandboxes) {
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
}

#[tokio::test]
async fn a_folder_swapped_for_a_link_while_it_is_copied_leads_nowhere() {
    let Some(bench) = Bench::set_up().await else { return };
    let (folder, canary) = (bench.folder.path().join("node"), canary(&bench));
    assert_eq!(carried(&canary).len(), 2, "it would be seen");
    let (node, _) = open(&folder).await;
    let boxed = create(&bench, &node, Profile::Workstation).await;
    // Enough that most of it is copied while it runs.
    line(&boxed, "mkdir -p w/d/deep; cd w; for n in $(seq 600); do echo $n > d/$n; done; echo inside > d/f; echo inside > d/deep/f").await;
    let fork = one_fork(&boxed).await;
    let flip = format!(
        "cd w; while :; do mv -T d e; ln -s {0} d; rm d; mv -T e d; mv d/f d/g; ln -s {0}/f d/f; rm d/f; mv d/g d/f; mv d/deep d/deeq; ln -s {0}/deep d/deep; rm d/deep; mv d/deeq d/deep; done",
        canary.display()
    );
    let flippers = [begin(&boxed, &flip).await, begin(&fork, &flip).await];
    for _ in 0..6 {
        // Whether each of them succeeds is the attacker's to decide; where it leads is not.
        let _ = boxed.snapshot(None).await;
        for made in boxed.fork(1, false).await.into_iter().flatten() {
            made.happen(Input::Remove).await.unwrap();
        }
        let _ = fork.diff().await;
        let _ = fork.commit_back().await;
        let _ = boxed.diff().await;
    }
    gone(&boxed, &flippers[0]).await;
    gone(&fork, &flippers[1]).await;
    for kept in ["changes", "box"] {
        assert_eq!(carried(&folder.join(kept)), Vec::<std::path::PathBuf>::new(), "the host's file was carried in");
    }
    for name in ["f", "deep/f"] {
        assert_eq!(fs::read_to_string(canary.join(name)).unwrap(), CANARY, "the host's file was written to");
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 2, "something was made outside");
    end(&node).await;
}

/// Names that only an overlay gives a meaning to, where a sandbox may write them, mean nothing; and it may not write those that do.
#[tokio::test]
async fn marks_of_overlays_made_within_hide_and_show_nothing() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let marks = "import os\nos.makedirs('d',exist_ok=True)\nopen('d/f','w').write('x')\nopen('gone','w').close()\nkept=[]\n\
                 for space in ('trusted','user','security'):\n for name,value in (('opaque',b'y'),('opaque',b'x'),('whiteout',b'y'),('redirect',b'/etc'),('metacopy',b''),('origin',b'x')):\n  for at in ('d','d/f','gone','/etc','/home'):\n\
                 \x20  try:\n    os.setxattr(at,f'{space}.overlay.{name}',value)\n    kept.append(space)\n   except OSError: pass\n\
                 try:\n os.mknod('d/white',0o020000,os.makedev(0,0)); kept.append('device')\nexcept OSError: pass\n\
                 print(','.join(sorted(set(kept))))";
    for profile in BOTH {
        let boxed = create(&bench, &node, profile).await;
        let command = Command::new(&["/usr/bin/python3", "-c", marks]).user(most_powerful(profile));
        let command = Command { cwd: Some("/home/user".into()), ..command };
        let made = run(&boxed.sandbox().await.unwrap(), command).await;
        let kept = String::from_utf8_lossy(&made.stdout).into_owned();
        assert!(!kept.contains("trusted") && !kept.contains("security"), "{profile:?}: {kept}{}", String::from_utf8_lossy(&made.stderr));
        let shown = "cat d/f; ls -A /etc | wc -l; ls gone; ls -A d";
        let before = line(&boxed, shown).await;
        let fork = one_fork(&boxed).await;
        let again = one_fork(&fork).await;
        for copy in [&fork, &again] {
            assert_eq!(line(copy, shown).await, before, "{profile:?}");
        }
    }
    end(&node).await;
}

#[tokio::test]
async fn floods_of_attributes_are_copied_or_refused_and_nothing_else_is_felt() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    let flood = "import os\ntotal=0\nfor n in range(300):\n open(f'f{n}','w').close()\n for m in range(4000):\n  try: os.setxattr(f'f{n}',f'user.{m:0200}' if n%2 else f'user.{m}',b'v'*(n%60)); total+=1\n  except OSError: break\n\
                 try: os.setxattr('f0','user.big',b'b'*65536)\nexcept OSError: pass\nprint(total)";
    let made = run(&boxed.sandbox().await.unwrap(), Command::new(&["/usr/bin/python3", "-c", flood])).await;
    assert_eq!(made.status, Status::Code(0), "{}", String::from_utf8_lossy(&made.stderr));
    let sum = "python3 -c \"import os,hashlib\nh=hashlib.sha256()\nfor n in range(300):\n for a in sorted(os.listxattr(f'f{n}')): h.update(a.encode()+os.getxattr(f'f{n}',a))\nprint(h.hexdigest())\"";
    let before = line(&boxed, sum).await;
    let began = Instant::now();
    let fork = one_fork(&boxed).await;
    assert_eq!(line(&fork, sum).await, before);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    end(&node).await;
}

#[tokio::test]
async fn names_of_one_file_in_many_folders_stay_one_file_and_lead_nowhere_else() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    line(&boxed, "mkdir a b; echo one > a/f; for n in $(seq 300); do ln a/f b/$n; done; ln -s a c; (ln /etc/passwd a/passwd; ln /proc/self/exe a/exe; true) 2>/dev/null").await;
    let linker = begin(&boxed, "while :; do ln a/f a/g; mv a/g b/new; rm b/new; ln b/1 b/1.new; mv b/1.new a/h; rm a/h; done").await;
    for _ in 0..3 {
        let fork = one_fork(&boxed).await;
        // A file of a layer that is written to is copied: then its names part.
        let said = line(&fork, "test a/f -ef b/7 && test b/7 -ef b/300 && echo same; echo two > b/9; cat b/9 a/f").await;
        assert_eq!(said, "same\ntwo\none\n");
        assert_eq!(line(&boxed, "cat a/f b/9").await, "one\none\n", "a fork wrote to its parent's file");
        fork.happen(Input::Remove).await.unwrap();
    }
    gone(&boxed, &linker).await;
    end(&node).await;
}

#[tokio::test]
async fn a_file_of_a_terabyte_that_is_a_hole_costs_what_it_holds() {
    let Some(bench) = Bench::set_up().await else { return };
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    line(&boxed, "truncate -s 1T hole; printf end >> hole; truncate -s 1T empty").await;
    let began = Instant::now();
    let snapshot = boxed.snapshot(None).await.unwrap();
    line(&boxed, "printf more >> hole").await;
    let fork = one_fork(&boxed).await;
    let said = line(&fork, "stat -c %s hole empty; tail -c 7 hole; echo; test $(stat -c %b hole) -lt 100 && echo small").await;
    assert_eq!(said, "1099511627783\n1099511627776\nendmore\nsmall\n");
    let saved = node.save(&snapshot.id).await.unwrap();
    assert!(saved.chunks < 20, "{saved:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    end(&node).await;
}

/// Deeper than a path can name, and wider than is copied at once.
#[tokio::test]
async fn folders_too_deep_to_be_named_are_refused_by_name_and_can_be_removed() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    line(&boxed, "mkdir many; cd many; seq 5000 | xargs touch").await;
    let deep = "import os\nfor n in range(1500):\n os.mkdir('d'); os.chdir('d')\nopen('f','w').close()";
    let made = run(&boxed.sandbox().await.unwrap(), Command::new(&["/usr/bin/python3", "-c", deep])).await;
    assert_eq!(made.status, Status::Code(0), "{}", String::from_utf8_lossy(&made.stderr));
    match boxed.fork(1, true).await.remove(0) {
        Ok(fork) => assert_eq!(line(&fork, "ls many | wc -l; find d -type d 2>/dev/null | wc -l").await, "5000\n1500\n"),
        Err(error) => assert!(error.to_string().contains("too deep"), "{error}"),
    }
    assert!(boxed.diff().await.is_ok() || boxed.diff().await.is_err_and(|error| error.to_string().contains("too deep")));
    assert_eq!(line(&boxed, "echo goes on").await, "goes on\n");
    end(&node).await;
    assert_eq!(fs::read_dir(folder.join("box")).unwrap().count(), 0);
}

/// Minutes: `make soak`.
#[tokio::test]
#[ignore = "a hundred thousand files"]
async fn a_hundred_thousand_files_are_forked_and_removed() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    line(
        &boxed,
        "mkdir one two; cd one; seq 60000 | xargs touch; cd ../two; for d in $(seq 400); do mkdir $d; (cd $d; seq 100 | xargs touch); done",
    )
    .await;
    for n in 0..3 {
        line(&boxed, &format!("echo {n} > one/{n}; rm two/1/{}", n + 1)).await;
        let fork = one_fork(&boxed).await;
        assert_eq!(line(&fork, &format!("cat one/{n}; find one two -type f | wc -l")).await, format!("{n}\n{}\n", 100_000 - n));
        fork.happen(Input::Remove).await.unwrap();
    }
    end(&node).await;
    assert_eq!(fs::read_dir(folder.join("box")).unwrap().count(), 0);
}
