//! Snapshots in the chunk store, and the history of commands.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use skep_sandbox::{
    Bucket, BucketKey, BucketPlace, ChunkError, ChunkStore, Command, Config, Folder, Input, LifeError, Note, Profile, Sandboxes, Status,
};

use crate::{
    boxed::{Bench, PROGRAM},
    s3::{self, Server},
    snapshots::{POLICY, create, line, open},
};

/// A chunk of the store, as a file.
fn chunks(folder: &Path) -> Vec<std::path::PathBuf> {
    let shelves = fs::read_dir(folder.join("chunk")).unwrap().map(|entry| entry.unwrap().path());
    shelves.flat_map(|shelf| fs::read_dir(shelf).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()).collect()
}

const SHOWN: &str = "cd /home/user; find . -printf '%p %y %m %U:%G %l %T@\n' | grep -v '^\\. ' | sort; find . -type f -print0 | sort -z | xargs -0r sha256sum";

#[tokio::test]
async fn a_saved_snapshot_comes_back_whole_or_names_the_chunk_that_does_not() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    line(
        &boxed,
        "head -c 3000000 /dev/urandom > big; cp big copy; ln big name; mkdir -p a/b; echo x > a/b/x; ln -s x a/link; mkfifo a/pipe; \
         truncate -s 100M sparse; echo end >> sparse; chmod 2711 a; printf x > \"$(printf 'a/\\377')\"; setfattr -n user.k -v v big 2>/dev/null; true",
    )
    .await;
    let shown = line(&boxed, SHOWN).await;
    let snapshot = boxed.snapshot(Some("kept")).await.unwrap();
    assert!(!snapshot.durable);
    let saved = node.save(&snapshot.id).await.unwrap();
    assert!(saved.chunks == saved.new_chunks && saved.chunks > 4 && saved.bytes > 6_000_000, "{saved:?}");
    let snapshot = node.snapshot(&snapshot.id).unwrap();
    assert!(snapshot.durable && snapshot.manifest == Some(saved.manifest));
    assert!(
        chunks(&folder).iter().map(|chunk| fs::metadata(chunk).unwrap().len()).sum::<u64>() < 4_000_000,
        "holes and copies cost nothing"
    );

    let image = node.host_image().unwrap();
    let loaded = node.load(&saved.manifest, &image, boxed.id().clone(), None).await.unwrap();
    let back = node.restore(&loaded.id, bench.spec(Profile::Strict), POLICY).await.unwrap();
    assert_eq!(line(&back, SHOWN).await, shown);

    line(&boxed, "echo more >> big").await;
    let second = boxed.snapshot(None).await.unwrap();
    let more = node.save(&second.id).await.unwrap();
    assert!(more.new_chunks <= 4, "{more:?}: a byte put in moved everything");
    let before = chunks(&folder).len();
    assert_eq!(node.collect_chunks().await.unwrap(), 0);
    node.remove_snapshot(&second.id).await.unwrap();
    let removed = node.collect_chunks().await.unwrap();
    assert!(removed > 0 && chunks(&folder).len() == before - removed);
    node.load(&saved.manifest, &image, boxed.id().clone(), None).await.unwrap();

    for chunk in chunks(&folder) {
        let (name, whole) = (chunk.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&chunk).unwrap());
        let mut damaged = whole.clone();
        let at = damaged.len() - 1;
        damaged[at] ^= 1;
        fs::write(&chunk, &damaged).unwrap();
        let refused = node.load(&saved.manifest, &image, boxed.id().clone(), None).await;
        assert!(matches!(&refused, Err(LifeError::Chunks(ChunkError::Damaged(named, _))) if named.to_string() == name), "{refused:?}");
        assert!(node.save(&snapshot.id).await.is_err(), "durable without being so");
        fs::write(&chunk, &whole).unwrap();
    }
    let store = Folder::open(&folder.join("chunk")).unwrap();
    let names: BTreeSet<_> = store.list().unwrap().into_iter().collect();
    assert!(names.contains(&saved.manifest));
    store.remove(&saved.manifest).unwrap();
    assert!(matches!(node.collect_chunks().await, Err(LifeError::Chunks(ChunkError::Missing(_)))), "without its manifest all would go");
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
}

/// Object storage instead of a folder: another node has nothing but the bucket and the manifest's name.
#[tokio::test]
async fn a_snapshot_in_a_bucket_comes_back_on_another_node() {
    let Some(bench) = Bench::set_up().await else { return };
    let server = Server::start();
    let bucket = || {
        let place = BucketPlace {
            endpoint: server.address.clone(),
            bucket: s3::BUCKET.to_owned(),
            prefix: "one".to_owned(),
            region: s3::REGION.to_owned(),
            path_style: true,
        };
        let key = BucketKey { id: s3::ID.to_owned(), secret: s3::SECRET.to_owned(), token: None };
        Arc::new(Bucket::new(&place, key).unwrap())
    };
    let open = async |name: &str| {
        let config = Config { folder: bench.folder.path().join(name), program: PROGRAM.into() };
        Sandboxes::open_with(config, bucket()).await.unwrap().0
    };
    let node = open("node").await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    line(&boxed, "head -c 1000000 /dev/urandom > big; mkdir a; echo x > a/x; ln -s x a/link").await;
    let shown = line(&boxed, SHOWN).await;
    let snapshot = boxed.snapshot(None).await.unwrap();
    let saved = node.save(&snapshot.id).await.unwrap();
    assert!(node.snapshot(&snapshot.id).unwrap().durable);
    assert!(!bench.folder.path().join("node/chunk").exists(), "chunks are in the bucket alone");

    let other = open("other").await;
    let image = other.host_image().unwrap();
    let loaded = other.load(&saved.manifest, &image, boxed.id().clone(), None).await.unwrap();
    let back = other.restore(&loaded.id, bench.spec(Profile::Strict), POLICY).await.unwrap();
    assert_eq!(line(&back, SHOWN).await, shown);

    // The store turns a bit of what is shared with a second snapshot: that one is not durable.
    let second = boxed.snapshot(None).await.unwrap();
    let largest = server.state().objects.iter().max_by_key(|(_, object)| object.len()).map(|(key, _)| key.clone()).unwrap();
    server.state().objects.get_mut(&largest).unwrap()[1_000] ^= 1;
    assert!(matches!(node.save(&second.id).await, Err(LifeError::Chunks(ChunkError::Damaged(..)))));
    assert!(!node.snapshot(&second.id).unwrap().durable);
    for boxed in node.list().into_iter().chain(other.list()) {
        boxed.happen(Input::Remove).await.unwrap();
    }
}

#[tokio::test]
async fn every_command_is_written_down_and_undone_to_the_moment_before() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("node");
    let (node, _) = open(&folder).await;
    let boxed = create(&bench, &node, Profile::Strict).await;
    let note = |snapshot_before| Note { author: "agent-7".into(), snapshot_before, changes: true };
    let exec = async |text: &str, snapshot: bool| {
        let (number, running) = boxed.exec(Command::shell(text), note(snapshot)).await.unwrap();
        running.output(1 << 20).await.unwrap();
        loop {
            let past = boxed.history().await.unwrap().into_iter().find(|past| past.number == number).unwrap();
            if past.ended_ms.is_some() {
                return past;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let first = exec("mkdir d; echo 1 > d/one; echo 2 > two", false).await;
    assert_eq!((first.number, first.author.as_str(), first.status, first.before), (1, "agent-7", Some(Status::Code(0)), None));
    assert_eq!(first.changed.unwrap(), ["/home/user/d/one", "/home/user/two"]);
    let second = exec("rm d/one; echo more >> two; echo 3 > three; exit 3", true).await;
    assert_eq!((second.number, second.status), (2, Some(Status::Code(3))));
    assert_eq!(second.changed.unwrap(), ["/home/user/d/one", "/home/user/three", "/home/user/two"]);
    let refused = boxed.exec(Command::new(&["no-such-program"]), note(false)).await;
    assert!(matches!(refused, Err(LifeError::Within(_))));
    let before = boxed.snapshot_before(2).await.unwrap().unwrap();
    assert_eq!((boxed.snapshot_before(1).await.unwrap(), boxed.snapshot_before(99).await.unwrap()), (None, None));
    let undone = node.restore(&before, bench.spec(Profile::Strict), POLICY).await.unwrap();
    assert_eq!(line(&undone, "cat d/one two; ls").await, "1\n2\nd\ntwo\n");
    assert_eq!(boxed.history().await.unwrap().iter().map(|past| past.number).collect::<Vec<_>>(), [1, 2, 3]);
    for boxed in node.list() {
        boxed.happen(Input::Remove).await.unwrap();
    }
}
