//! Pages on a real disk: damage in every kind of file, folds while others read, what an idle actor costs, who may read its files.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::{
    future::Future,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use skep_actor::{
    Epoch, Record, RecordKind, Seq,
    log::{DurableLog, MemoryLog},
    pages::{CommitMeta, Fork, KEPT_MAX, Kept, Library, PAGE, Pages, PagesError, View},
};
use skep_id::ActorId;

type Content = [u8; PAGE];

fn actor(n: u8) -> ActorId {
    ActorId::new([n; 32])
}

/// Content that does not compress.
fn noise(seed: u64) -> Content {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::array::from_fn(|_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    })
}

fn append(log: &MemoryLog, actor: ActorId, kind: RecordKind, body: Bytes) -> Seq {
    let head = log.head(actor);
    let epoch = Epoch(head.epoch.0 + u64::from(kind == RecordKind::Fence));
    let seq = head.seq.next();
    let mut ticket = log.append(Record { actor, epoch, seq, time_ms: 1000 + seq.0, kind, body });
    assert!(matches!(Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_))));
    seq
}

fn commit(log: &MemoryLog, pages: &mut Pages, writes: &[(u32, Content)]) -> Seq {
    writes.iter().for_each(|(page, content)| pages.write(*page, content));
    let at = log.head(pages.actor()).seq.next();
    let body = pages.commit(at, &CommitMeta::default());
    append(log, pages.actor(), RecordKind::Commit, body)
}

fn create(library: &Arc<Library>, log: &MemoryLog, actor: ActorId) -> Pages {
    let pages = library.create(actor).unwrap();
    append(log, actor, RecordKind::Fence, Bytes::new());
    pages
}

fn fold(library: &Arc<Library>, actor: ActorId) {
    library.fold(&[actor]).into_iter().for_each(|(_, result)| result.unwrap());
}

fn read(view: &View, page: u32) -> Result<Content, PagesError> {
    let mut content = [0; PAGE];
    view.read(page, &mut content).map(|()| content)
}

/// Two actors with base, history and tail; pages 2 and 3 of the first were changed by the last fold.
struct Damaged {
    dir: tempfile::TempDir,
    log: MemoryLog,
}

const PAGES: u32 = 6;

impl Damaged {
    fn new() -> Self {
        let damaged = Self { dir: tempfile::tempdir().unwrap(), log: MemoryLog::new() };
        let library = damaged.library();
        for who in [actor(1), actor(2)] {
            let mut pages = create(&library, &damaged.log, who);
            let first: Vec<_> = (1..=PAGES).map(|page| (page, noise(u64::from(page)))).collect();
            commit(&damaged.log, &mut pages, &first);
            fold(&library, who);
            let mut edited = noise(2);
            edited[77] = 77;
            commit(&damaged.log, &mut pages, &[(2, edited), (3, noise(33))]);
            append(&damaged.log, who, RecordKind::Checkpoint, Bytes::from_static(b"heap"));
            fold(&library, who);
            edited[78] = 78;
            commit(&damaged.log, &mut pages, &[(2, edited)]);
        }
        damaged
    }

    fn library(&self) -> Arc<Library> {
        Library::open(self.dir.path(), Arc::new(self.log.clone())).unwrap()
    }

    /// All that an actor was and is: each place's pages, and the checkpoint.
    fn everything(&self, who: ActorId) -> Vec<Result<Vec<u8>, PagesError>> {
        let (library, mut all) = (self.library(), Vec::new());
        for at in 0..=self.log.head(who).seq.0 {
            match library.view(who, Seq(at)) {
                Ok(view) => all.extend((1..=view.count()).map(|page| read(&view, page).map(|content| content.to_vec()))),
                Err(e) => all.push(Err(e)),
            }
        }
        all.push(library.checkpoint(who, Seq(99)).map(|record| record.unwrap().body.to_vec()));
        all
    }

    fn files(&self, who: ActorId) -> Vec<PathBuf> {
        let id = who.to_string();
        let base = self.dir.path().join("base").join(&id[..2]).join(format!("{id}.base"));
        let history = self.dir.path().join("history").join(&id[..2]).join(&id);
        let mut files: Vec<_> = std::fs::read_dir(history).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.insert(0, base);
        files
    }

    /// Nothing that is read is wrong: it is as it was, or an error names the file.
    fn check(&self, file: &Path, sound: &[Result<Vec<u8>, PagesError>]) -> usize {
        let found = self.everything(actor(1));
        let names = |e: &PagesError| matches!(e, PagesError::Damaged { file: named, .. } if named == file);
        let errors = found.iter().filter_map(|result| result.as_ref().err());
        let n = errors.inspect(|e| assert!(names(e), "{e}")).count();
        if found.len() == sound.len() {
            assert!(found.iter().zip(sound).all(|(is, was)| is.as_ref().ok().is_none_or(|is| Some(is) == was.as_ref().ok())));
        } else {
            assert!(n > 0);
        }
        assert!(self.everything(actor(2)).iter().all(Result::is_ok), "another actor is affected");
        let findings = self.library().inspect(actor(1), false);
        assert!(findings.iter().all(|finding| finding.file == file && !finding.repaired), "{findings:?}");
        assert!(n == 0 || !findings.is_empty());
        n
    }
}

#[test]
fn a_flipped_bit_anywhere_is_told_or_harmless() {
    let damaged = Damaged::new();
    let sound = damaged.everything(actor(1));
    for path in damaged.files(actor(1)) {
        let (whole, mut errors) = (std::fs::read(&path).unwrap(), 0);
        for (at, byte) in whole.iter().enumerate().filter(|(at, _)| at % 251 == 0 || at % 4096 < 20) {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[byte ^ 1 << (at % 8)], at as u64).unwrap();
            errors += damaged.check(&path, &sound);
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
        assert!(errors > 5, "{}: {errors}", path.display());
    }
    assert_eq!(damaged.library().inspect(actor(1), false), []);
}

#[test]
fn a_file_cut_short_anywhere_is_told() {
    let damaged = Damaged::new();
    let sound = damaged.everything(actor(1));
    for path in damaged.files(actor(1)) {
        let whole = std::fs::read(&path).unwrap();
        for part in 0..20 {
            std::fs::write(&path, &whole[..whole.len() * part / 20]).unwrap();
            assert!(damaged.check(&path, &sound) > 0, "{} cut to {part}/20", path.display());
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(damaged.library().inspect(actor(1), false), []);
}

#[test]
fn a_base_that_is_missing_is_told() {
    let damaged = Damaged::new();
    let base = &damaged.files(actor(1))[0];
    std::fs::remove_file(base).unwrap();
    let error = damaged.library().pages(actor(1)).unwrap_err().to_string();
    assert!(error.contains(&base.display().to_string()) && error.contains("missing"), "{error}");
    assert!(damaged.everything(actor(2)).iter().all(Result::is_ok));
}

#[test]
fn a_kept_place_outlives_retention_and_a_restart_until_it_is_let_go() {
    for history in [true, false] {
        let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new());
        let open = || {
            let library = Library::open(dir.path(), Arc::new(log.clone())).unwrap();
            library.keep_history(history);
            library
        };
        let kept = |name: &str, at: Seq| Kept { name: name.to_owned(), at, time_ms: 7 };
        let mut library = open();
        let mut pages = create(&library, &log, actor(1));
        let then = commit(&log, &mut pages, &[(1, noise(1)), (2, noise(2))]);
        library.keep(actor(1), kept("before", then)).unwrap();
        for round in 10..13 {
            commit(&log, &mut pages, &[(1, noise(round))]);
            fold(&library, actor(1));
            library.expire(u64::MAX).unwrap();
        }
        let is_as_it_was = |library: &Arc<Library>| read(&library.view(actor(1), then).unwrap(), 1).unwrap() == noise(1);
        assert!(is_as_it_was(&library));
        drop((pages, library));
        library = open();
        library.expire(u64::MAX).unwrap();
        assert!(is_as_it_was(&library) && library.kept(actor(1)).unwrap() == [kept("before", then)]);
        // Another of that name takes its place.
        let now = log.head(actor(1)).seq;
        library.keep(actor(1), kept("before", now)).unwrap();
        assert_eq!(library.kept(actor(1)).unwrap(), [kept("before", now)]);
        library.expire(u64::MAX).unwrap();
        assert!(matches!(library.view(actor(1), then), Err(PagesError::Expired { .. })));
        assert!(library.let_go(actor(1), "before").unwrap() && !library.let_go(actor(1), "before").unwrap());
        library.expire(u64::MAX).unwrap();
        drop(library);
        assert_eq!(open().kept(actor(1)).unwrap(), []);
    }
}

#[test]
fn a_place_that_is_not_there_and_one_too_many_are_not_kept() {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new());
    let library = Library::open(dir.path(), Arc::new(log.clone())).unwrap();
    let mut pages = create(&library, &log, actor(1));
    let at = commit(&log, &mut pages, &[(1, noise(1))]);
    let keep = |of: u8, name: &str, at: Seq| library.keep(actor(of), Kept { name: name.to_owned(), at, time_ms: 0 });
    assert!(matches!(keep(2, "a", at), Err(PagesError::Gone(_))));
    assert!(matches!(keep(1, "a", at.next()), Err(PagesError::NotYet { .. })));
    assert!(matches!(keep(1, "", at), Err(PagesError::NotKept(_))));
    assert!(matches!(keep(1, &"a".repeat(65), at), Err(PagesError::NotKept(_))));
    for n in 0..KEPT_MAX {
        keep(1, &format!("../{n}"), at).unwrap();
    }
    assert!(matches!(keep(1, "one more", at), Err(PagesError::NotKept(_))));
    keep(1, "../0", at).unwrap();
    library.let_go(actor(1), "../1").unwrap();
    keep(1, &"ß".repeat(32), at).unwrap();
}

#[test]
fn a_page_that_a_chapter_changed_is_repaired_and_another_is_said_to_be_lost() {
    let damaged = Damaged::new();
    let base = &damaged.files(actor(1))[0];
    let flip = |page: u64| {
        let file = std::fs::File::options().read(true).write(true).open(base).unwrap();
        let (at, mut byte) = (8192 + (page - 1) * 4104 + 500, [0]);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    };
    let sound = damaged.everything(actor(1));
    [2, 3].into_iter().for_each(flip);
    let findings = damaged.library().inspect(actor(1), true);
    assert!(findings.len() == 2 && findings.iter().all(|finding| finding.repaired && finding.lost.is_none()), "{findings:?}");
    assert_eq!(findings[0].offset, 8192 + 4104);
    assert_eq!(damaged.library().inspect(actor(1), false), []);
    assert!(damaged.everything(actor(1)).iter().zip(&sound).all(|(is, was)| is.as_ref().unwrap() == was.as_ref().unwrap()));
    // What only the base had is lost when its history has expired.
    damaged.library().expire(u64::MAX).unwrap();
    flip(5);
    let findings = damaged.library().inspect(actor(1), true);
    assert!(matches!(&findings[..], [finding] if !finding.repaired && finding.lost.as_ref().unwrap().contains("page 5")), "{findings:?}");
}

#[test]
fn headers_are_repaired_from_each_other_and_from_the_last_chapter() {
    let damaged = Damaged::new();
    let (base, sound) = (&damaged.files(actor(1))[0], damaged.everything(actor(1)));
    for copies in [&[0][..], &[4096], &[0, 4096]] {
        for at in copies {
            std::fs::File::options().write(true).open(base).unwrap().write_all_at(&[0xAA; 300], *at).unwrap();
        }
        let findings = damaged.library().inspect(actor(1), true);
        assert!(matches!(&findings[..], [finding] if finding.repaired && finding.offset == copies[0]), "{findings:?}");
        assert_eq!(damaged.library().inspect(actor(1), false), []);
        assert!(damaged.everything(actor(1)).iter().zip(&sound).all(|(is, was)| is.as_ref().unwrap() == was.as_ref().unwrap()));
    }
}

#[test]
fn files_of_one_actor_do_not_pass_for_another_ones() {
    let damaged = Damaged::new();
    for (one, other) in damaged.files(actor(1)).iter().zip(damaged.files(actor(2))) {
        std::fs::copy(&other, one).unwrap();
    }
    assert!(damaged.everything(actor(1)).iter().all(Result::is_err));
    assert!(damaged.everything(actor(2)).iter().all(Result::is_ok));
}

#[test]
fn only_their_owner_may_read_files() {
    fn walk(dir: &Path, seen: &mut usize) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            let mode = meta.permissions().mode() & 0o777;
            assert_eq!(mode, if meta.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
            *seen += 1;
            if meta.is_dir() {
                walk(&path, seen);
            }
        }
    }
    let (damaged, mut seen) = (Damaged::new(), 0);
    let library = damaged.library();
    library.fork(&library.view(actor(1), Seq(3)).unwrap(), actor(9)).unwrap();
    walk(damaged.dir.path(), &mut seen);
    assert!(seen > 8);
}

fn blocks(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.metadata().unwrap().blocks() * 512 + if entry.path().is_dir() { blocks(&entry.path()) } else { 0 }).sum()
}

#[test]
fn an_idle_actor_costs_little_beyond_its_data() {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new());
    let library = Library::open(dir.path(), Arc::new(log.clone())).unwrap();
    let before = blocks(dir.path());
    for n in 0..64 {
        let mut pages = create(&library, &log, actor(n));
        for turn in 0..50u8 {
            let mut content = noise(u64::from(n));
            content[99] = turn;
            commit(&log, &mut pages, &[(1, content), (2, noise(7))]);
        }
        fold(&library, actor(n));
        let mut content = noise(u64::from(n));
        content[99] = 200;
        commit(&log, &mut pages, &[(1, content)]);
        fold(&library, actor(n));
    }
    let each = (blocks(dir.path()) - before) / 64;
    println!("{each} bytes of disk for an actor of two pages");
    assert!(each <= 8192 + (48 << 10), "{each}");
}

#[test]
fn without_history_nothing_is_left_but_the_base_and_the_last_checkpoint() {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new());
    let library = Library::open(dir.path(), Arc::new(log.clone())).unwrap();
    library.keep_history(false);
    let mut pages = create(&library, &log, actor(1));
    commit(&log, &mut pages, &[(1, noise(1))]);
    fold(&library, actor(1));
    let history = dir.path().join("history/01");
    assert!(!history.exists());
    let heap = append(&log, actor(1), RecordKind::Checkpoint, Bytes::from_static(b"heap"));
    commit(&log, &mut pages, &[(1, noise(2))]);
    fold(&library, actor(1));
    let names: Vec<_> = std::fs::read_dir(history.join(actor(1).to_string())).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["checkpoint"]);
    assert_eq!(library.checkpoint(actor(1), Seq(u64::MAX)).unwrap().unwrap().seq, heap);
    assert!(matches!(library.view(actor(1), Seq(2)), Err(PagesError::Expired { first: Seq(4), .. })));
    assert_eq!(log.head(actor(1)).first, Seq(5));
}

/// A fold brings the base forward under readers of all kinds; none of them ever sees anything else than it should.
#[test]
fn folds_do_not_disturb_who_reads() {
    const PAGES: u32 = 40;
    let (dir, log, stop, folds) = (tempfile::tempdir().unwrap(), MemoryLog::new(), AtomicBool::new(false), AtomicUsize::new(0));
    let library = Library::open(dir.path(), Arc::new(log.clone())).unwrap();
    // Commit n, at place n + 2, changes one page in turn: it then says n and its own number.
    let said = |n: u64, page: u32| {
        let mut content = [0; PAGE];
        content[..8].copy_from_slice(&n.to_le_bytes());
        content[4000..4004].copy_from_slice(&page.to_le_bytes());
        content
    };
    let turn = |n: u64| (n % u64::from(PAGES)) as u32 + 1;
    let check = |view: &View| {
        let n = view.at().0 - 2;
        for page in 1..=view.count() {
            let last = n.checked_sub(u64::from(page) - 1).map_or(0, |since| n - since % u64::from(PAGES));
            assert!(read(view, page).unwrap() == said(last, page), "page {page} at {}", view.at());
        }
    };
    let mut pages = create(&library, &log, actor(1));
    commit(&log, &mut pages, &(1..=PAGES).map(|page| (page, said(0, page))).collect::<Vec<_>>());
    thread::scope(|scope| {
        let (library, log, stop, folds, check) = (&library, &log, &stop, &folds, &check);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                fold(library, actor(1));
                folds.fetch_add(1, Ordering::Relaxed);
                library.expire(1000 + log.head(actor(1)).seq.0.saturating_sub(60)).unwrap();
            }
        });
        for seed in 0..2u64 {
            scope.spawn(move || {
                let (mut held, mut back) = (Vec::new(), seed);
                while !stop.load(Ordering::Relaxed) {
                    back = (back * 31 + 7) % 50;
                    let at = Seq(log.head(actor(1)).seq.0.saturating_sub(back).max(2));
                    match library.view(actor(1), at) {
                        Ok(view) => held.push(view),
                        Err(PagesError::Expired { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                    held.iter().for_each(check);
                    if held.len() > 4 {
                        held.remove(0);
                    }
                }
            });
        }
        for n in (1..).take_while(|_| folds.load(Ordering::Relaxed) < 60) {
            thread::sleep(Duration::from_micros(300));
            commit(log, &mut pages, &[(turn(n), said(n, turn(n)))]);
            let view = pages.view(pages.at()).unwrap();
            check(&view);
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(pages);
    check(&library.view(actor(1), log.head(actor(1)).seq).unwrap());
}

#[test]
fn a_long_line_of_forks_stays_shallow_and_outlives_its_ancestors() {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new());
    let library = Library::open(dir.path(), Arc::new(log.clone())).unwrap();
    let mut pages = create(&library, &log, actor(0));
    commit(&log, &mut pages, &[(1, noise(0)), (2, noise(1000)), (3, noise(2000))]);
    for n in 1..40 {
        let view = pages.view(log.head(actor(n - 1)).seq).unwrap();
        pages = library.fork(&view, actor(n)).unwrap();
        append(&log, actor(n), RecordKind::Fence, Bytes::new());
        append(&log, actor(n), RecordKind::Fork, Fork::of(&view, 0).encode());
        commit(&log, &mut pages, &[(1, noise(u64::from(n)))]);
    }
    drop(pages);
    for n in 0..39 {
        append(&log, actor(n), RecordKind::Delete, Bytes::new());
        library.delete(actor(n)).unwrap();
        assert!(library.pages(actor(n)).unwrap().is_none());
    }
    let view = library.view(actor(39), Seq(3)).unwrap();
    assert!(read(&view, 1).unwrap() == noise(39) && read(&view, 2).unwrap() == noise(1000) && read(&view, 3).unwrap() == noise(2000));
    assert_eq!(library.actors().unwrap(), [actor(39)]);
}

#[test]
fn what_is_not_there_is_refused() {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new());
    let library = Library::open(dir.path(), Arc::new(log.clone())).unwrap();
    assert!(library.pages(actor(1)).unwrap().is_none());
    assert!(matches!(library.view(actor(1), Seq(0)), Err(PagesError::Gone(_))));
    let mut pages = create(&library, &log, actor(1));
    commit(&log, &mut pages, &[(1, noise(1))]);
    assert!(matches!(library.create(actor(1)), Err(PagesError::Exists(_))));
    assert!(matches!(library.view(actor(1), Seq(3)), Err(PagesError::NotYet { .. })));
    let view = pages.view(Seq(2)).unwrap();
    assert!(matches!(library.fork(&view, actor(1)), Err(PagesError::Exists(_))));
    // A log that lost what the base already has.
    fold(&library, actor(1));
    drop((pages, view));
    let other = MemoryLog::new();
    append(&other, actor(1), RecordKind::Fence, Bytes::new());
    let library = Library::open(dir.path(), Arc::new(other)).unwrap();
    assert!(matches!(library.pages(actor(1)), Err(PagesError::Ahead { .. })));
}
