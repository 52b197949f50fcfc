//! What hostile archives try, each by name; and what ordinary ones count on.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;

const CANARY: &str = "canary";

/// A folder with a canary beside the layer that is unpacked.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// `None`: only root can give files to others.
    fn set_up() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("passed over: unpacking layers needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("layer")).unwrap();
        std::fs::write(folder.path().join(CANARY), CANARY).unwrap();
        Some(Self { folder })
    }

    fn canary(&self) -> PathBuf {
        self.folder.path().join(CANARY)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("layer").join(path)
    }

    fn unpack(&self, tar: Tar) -> Unpacked<()> {
        self.bounded(tar, Bounds::default())
    }

    fn bounded(&self, tar: Tar, mut bounds: Bounds) -> Unpacked<()> {
        let before = std::fs::read_dir(self.folder.path()).unwrap().count();
        let unpacked = unpack(&tar.end()[..], &self.at(""), &[], &mut bounds);
        assert_eq!(std::fs::read_to_string(self.canary()).unwrap(), CANARY, "the canary was changed");
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), before, "something was made outside");
        unpacked
    }

    fn over(&self, lower: Tar, upper: Tar) -> Unpacked<PathBuf> {
        self.unpack(lower)?;
        let over = self.folder.path().join("upper");
        std::fs::create_dir(&over).unwrap();
        unpack(&upper.end()[..], &over, &[self.at("")], &mut Bounds::default()).map(|()| over)
    }
}

/// An archive, entry by entry, with names that no honest tool writes.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn with(mut self, kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.with(EntryType::Regular, name, "", 0o644, content.as_bytes())
    }

    fn folder(self, name: &str, mode: u32) -> Self {
        self.with(EntryType::Directory, name, "", mode, b"")
    }

    fn link(self, name: &str, to: &str) -> Self {
        self.with(EntryType::Symlink, name, to, 0o777, b"")
    }

    fn hard(self, name: &str, to: &str) -> Self {
        self.with(EntryType::Link, name, to, 0o644, b"")
    }

    fn extended(self, key: &str, value: &str) -> Self {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|n| n.to_string().len() + rest.len() == *n).unwrap();
        self.with(EntryType::XHeader, "PaxHeaders/x", "", 0o644, format!("{length}{rest}").as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn is_whiteout(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
}

fn opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, OPAQUE, &mut value).is_ok_and(|n| &value[..n] == b"y")
}

#[test]
fn absolute_names_stay_in_the_layer() {
    let Some(bench) = Bench::set_up() else { return };
    let canary = bench.canary();
    let canary = canary.to_str().unwrap();
    bench.unpack(Tar::default().file(canary, "changed").file("//etc//absolute", "x")).unwrap();
    assert_eq!(std::fs::read_to_string(bench.at(canary.trim_start_matches('/'))).unwrap(), "changed");
    assert_eq!(std::fs::read_to_string(bench.at("etc/absolute")).unwrap(), "x");
}

#[test]
fn names_that_lead_up_are_refused() {
    for name in ["../canary", "a/../../canary", "..", "a/..", "./../canary", "/../canary"] {
        let Some(bench) = Bench::set_up() else { return };
        assert!(matches!(bench.unpack(Tar::default().file(name, "changed")), Err(UnpackError::Name(_))), "{name}");
        let linked = bench.unpack(Tar::default().hard("inside", name));
        assert!(matches!(linked, Err(UnpackError::Name(_))), "a second name of {name}");
    }
    let Some(bench) = Bench::set_up() else { return };
    let extended = Tar::default().extended("path", "../canary").file("harmless", "changed");
    assert!(matches!(bench.unpack(extended), Err(UnpackError::Name(_))));
}

#[test]
fn a_link_swapped_in_for_a_folder_leads_nowhere() {
    let Some(bench) = Bench::set_up() else { return };
    let outside = bench.folder.path().to_str().unwrap().to_owned();
    let tar = Tar::default().folder("d", 0o755).link("d", &outside).file("d/canary", "changed").file("up/x", "x").link("up", "../..");
    bench.unpack(tar.file("up/canary", "changed")).unwrap();
    // Read from the layer's root on, as a program within would.
    assert_eq!(std::fs::read_to_string(bench.at(&format!(".{outside}/canary"))).unwrap(), "changed");
    assert_eq!(std::fs::read_to_string(bench.at("canary")).unwrap(), "changed");
}

#[test]
fn a_file_is_not_written_through_a_link() {
    let Some(bench) = Bench::set_up() else { return };
    let canary = bench.canary();
    let tar = Tar::default().link("f", canary.to_str().unwrap()).file("f", "changed").link("g", "/proc/self/fd/0").file("g", "changed");
    bench.unpack(tar).unwrap();
    assert!(bench.at("f").symlink_metadata().unwrap().is_file() && bench.at("g").symlink_metadata().unwrap().is_file());
}

#[test]
fn hard_links_out_of_the_layer_are_refused() {
    let Some(bench) = Bench::set_up() else { return };
    let canary = bench.canary();
    let direct = bench.unpack(Tar::default().hard("f", canary.to_str().unwrap()));
    assert!(matches!(direct, Err(UnpackError::Place(..))), "{direct:?}");
    let outside = bench.folder.path().to_str().unwrap();
    let through = bench.unpack(Tar::default().link("out", outside).hard("f", "out/canary"));
    assert!(matches!(through, Err(UnpackError::Place(..))), "{through:?}");
    let hidden = bench.unpack(Tar::default().file(".wh.gone", "").hard("f", "gone"));
    assert!(matches!(hidden, Err(UnpackError::Place(..))), "{hidden:?}");
    assert_eq!(canary.metadata().unwrap().nlink(), 1);
}

#[test]
fn devices_are_not_made() {
    let Some(bench) = Bench::set_up() else { return };
    let device = |tar: Tar, kind, name| tar.with(kind, name, "", 0o666, b"");
    let tar = device(device(Tar::default(), EntryType::Char, "null"), EntryType::Block, "dev/sda");
    bench.unpack(device(tar, EntryType::Fifo, "pipe")).unwrap();
    assert!(bench.at("null").symlink_metadata().is_err(), "one of number 0:0 would hide what is below");
    assert!(bench.at("dev/sda").symlink_metadata().is_err());
    assert!(bench.at("pipe").metadata().unwrap().file_type().is_fifo());
}

#[test]
fn set_id_bits_and_attributes_are_left_out() {
    let Some(bench) = Bench::set_up() else { return };
    let tar = Tar::default()
        .extended("SCHILY.xattr.trusted.overlay.redirect", "/etc")
        .with(EntryType::Regular, "su", "", 0o6755, b"x")
        .extended("SCHILY.xattr.security.capability", "x")
        .with(EntryType::Directory, "shared", "", 0o3777, b"");
    bench.unpack(tar).unwrap();
    assert_eq!(bench.at("su").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(bench.at("shared").metadata().unwrap().permissions().mode() & 0o7777, 0o3777);
    for name in ["su", "shared"] {
        assert_eq!(rustix::fs::llistxattr(bench.at(name), &mut [0u8; 256][..]).unwrap(), 0, "{name}");
    }
}

#[test]
fn sparse_files_are_refused() {
    let Some(bench) = Bench::set_up() else { return };
    let old = bench.unpack(Tar::default().with(EntryType::GNUSparse, "holes", "", 0o644, b""));
    assert!(matches!(old, Err(UnpackError::Sparse(_))), "{old:?}");
    let new = bench.unpack(Tar::default().extended("GNU.sparse.realsize", "1099511627776").file("holes", ""));
    assert!(matches!(new, Err(UnpackError::Sparse(_))), "{new:?}");
    let lied = bench.unpack(Tar::default().extended("size", "1099511627776").file("large", "x"));
    assert!(matches!(lied, Err(UnpackError::Bound(_))), "{lied:?}");
}

#[test]
fn a_bomb_ends_at_its_bound() {
    let Some(bench) = Bench::set_up() else { return };
    let large = Tar::default().with(EntryType::Regular, "large", "", 0o644, &vec![0; 1 << 20]);
    let bound = Bounds { bytes: 1 << 19, entries: 10 };
    assert!(matches!(bench.bounded(large, bound), Err(UnpackError::Bound(_))));
    assert!(bench.at("large").symlink_metadata().is_err(), "not even begun");
    // A header may claim what never comes.
    let mut claims = Tar::default().file("claims", "").end();
    claims[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    let mut header = tar::Header::from_byte_slice(&claims[..512]).clone();
    header.set_cksum();
    claims[..512].copy_from_slice(header.as_bytes());
    assert!(matches!(unpack(&claims[..], &bench.at(""), &[], &mut Bounds::default()), Err(UnpackError::Bound(_))));
}

#[test]
fn millions_of_entries_end_at_their_bound() {
    let Some(bench) = Bench::set_up() else { return };
    let many = (0..100).fold(Tar::default(), |tar, n| tar.file(&format!("f{n}"), ""));
    assert!(matches!(bench.bounded(many, Bounds { bytes: 1 << 20, entries: 50 }), Err(UnpackError::Bound(_))));
    let records = (0..100).fold(Tar::default(), |tar, _| tar.extended("comment", "x"));
    assert!(matches!(bench.bounded(records, Bounds { bytes: 1 << 20, entries: 50 }), Err(UnpackError::Bound(_))), "records count, too");
    let long = Tar::default().with(EntryType::GNULongName, "././@LongLink", "", 0o644, &vec![b'a'; 100 << 10]);
    assert!(matches!(bench.unpack(long.file("x", "")), Err(UnpackError::Bound(_))));
    let deep = Tar::default().extended("path", &"d/".repeat(MOST_DEPTH + 1)).file("x", "");
    assert!(matches!(bench.unpack(deep), Err(UnpackError::Name(_))));
    let circle = Tar::default().link("a", "b").link("b", "a").file("a/x", "");
    assert!(matches!(bench.unpack(circle), Err(UnpackError::Place(..))));
    let growing = Tar::default().link("g", &"g/".repeat(40)).file("g/x", "");
    assert!(matches!(bench.unpack(growing), Err(UnpackError::Place(..))));
}

#[test]
fn of_duplicate_entries_the_last_counts_and_no_other_name_changes() {
    let Some(bench) = Bench::set_up() else { return };
    let tar = Tar::default().file("a", "first").hard("b", "a").file("a", "second").folder("c", 0o755).file("c/x", "x").file("c", "file");
    bench.unpack(tar.file("d", "file").folder("d", 0o700).file("d/y", "y").hard("b", "b")).unwrap();
    let read = |name| std::fs::read_to_string(bench.at(name)).unwrap();
    assert_eq!((read("a"), read("b"), read("c"), read("d/y")), ("second".into(), "first".into(), "file".into(), "y".into()));
}

#[test]
fn damaged_archives_are_errors() {
    let Some(bench) = Bench::set_up() else { return };
    let whole = Tar::default().file("a", "content").file("b", "content").end();
    for cut in [100, 512, 515, 1_100] {
        let cut = unpack(&whole[..cut], &bench.at(""), &[], &mut Bounds::default());
        assert!(cut.is_err() || bench.at("b").symlink_metadata().is_err());
    }
    let mut flipped = whole.clone();
    flipped[0] ^= 1;
    assert!(unpack(&flipped[..], &bench.at(""), &[], &mut Bounds::default()).is_err());
    assert!(unpack(&[0x55; 4_096][..], &bench.at(""), &[], &mut Bounds::default()).is_err());
}

#[test]
fn names_taken_away_are_in_overlay_s_own_form() {
    let Some(bench) = Bench::set_up() else { return };
    let tar = Tar::default()
        .file("a/.wh.gone", "")
        .file("b/.wh..wh..opq", "")
        .file("b/new", "x")
        .file(".wh..wh.plnk", "")
        .file("kept", "x")
        .file(".wh.kept", "")
        .file(".wh.again", "")
        .folder("again", 0o755);
    bench.unpack(tar).unwrap();
    assert!(is_whiteout(&bench.at("a/gone")) && opaque(&bench.at("b")) && !opaque(&bench.at("a")));
    assert!(bench.at("kept").is_file(), "it hides what is below, not what is beside it");
    assert!(bench.at("again").is_dir() && opaque(&bench.at("again")));
    assert!(bench.at(".wh..wh.plnk").symlink_metadata().is_err());
    for hostile in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        assert!(matches!(bench.unpack(Tar::default().file(hostile, "")), Err(UnpackError::Name(_))), "{hostile}");
    }
}

#[test]
fn a_folder_that_an_upper_layer_leaves_out_is_as_it_is_below() {
    let Some(bench) = Bench::set_up() else { return };
    let lower = Tar::default().folder("secret", 0o700).folder("usr/lib", 0o755).link("lib", "usr/lib").folder("gone", 0o711);
    let upper = Tar::default().file("secret/new", "x").file("lib/new.so", "x").file("fresh/x", "x");
    let over = bench.over(lower, upper).unwrap();
    assert_eq!(over.join("secret").metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(
        over.join("usr/lib/new.so").is_file() && over.join("lib").symlink_metadata().is_err(),
        "the link below is not covered by a folder"
    );
    assert!(over.join("proc").symlink_metadata().is_err(), "only the lowest layer has the places of mounts");
    assert!(bench.at("proc").is_dir() && bench.at("etc/passwd").is_file());
}

#[test]
fn ids_that_no_sandbox_has_are_nobody_s() {
    let Some(bench) = Bench::set_up() else { return };
    bench
        .unpack(Tar::default().extended("uid", "4294967296").extended("gid", "70000").file("f", "x").extended("uid", "1000").file("g", "x"))
        .unwrap();
    let owner = |name| bench.at(name).metadata().map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!((owner("f").1, owner("g").0), (NOBODY, 1_000));
}
