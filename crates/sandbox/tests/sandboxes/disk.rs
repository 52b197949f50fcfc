//! Bounds on what a sandbox keeps on the disk, on file systems of the test's own that keep accounts of projects.

use std::{
    path::PathBuf,
    process::{Command as Program, Stdio},
};

use skep_sandbox::{Command, FaultKind, Fence, Input, Limits, PlanError, Profile, RequestError, Sandboxes, Spec, StartError, Status};

use crate::{
    boxed::{Bench, run, sh},
    snapshots::{POLICY, open, wait_for},
};

const MIB: u64 = 1 << 20;

/// A file system in a file, mounted; gone when it is dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None`: this machine lacks a program, or its kernel the quotas.
    fn make(bench: &Bench, kind: &str, options: &[&str]) -> Option<Self> {
        let disk = Self { folder: tempfile::tempdir_in(bench.folder.path()).unwrap() };
        std::fs::File::create(disk.image()).unwrap().set_len(400 * MIB).unwrap();
        std::fs::create_dir(disk.mounted()).unwrap();
        let mut mount = Program::new("mount");
        mount.args(["-t", kind, "-o", "loop,prjquota"]).args([disk.image(), disk.mounted()]);
        for program in [Program::new(format!("mkfs.{kind}")).args(options).arg(disk.image()), &mut mount] {
            let done = program.stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
                println!("passed over: {kind} with quotas of projects: {program:?}: {done:?}");
                return None;
            }
        }
        Some(disk)
    }

    fn ext4(bench: &Bench) -> Option<Self> {
        Self::make(bench, "ext4", &["-q", "-O", "quota,project", "-E", "quotatype=prjquota"])
    }

    fn xfs(bench: &Bench) -> Option<Self> {
        Self::make(bench, "xfs", &["-q"])
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    async fn node(&self) -> Sandboxes {
        open(&self.mounted().join("node")).await.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg("-l").arg(self.mounted()).stderr(Stdio::null()).status();
    }
}

fn bounded(bench: &Bench, profile: Profile) -> Spec {
    Spec { limits: Limits { disk_bytes: Some(32 * MIB), inodes: Some(2_000), ..Limits::default() }, ..bench.spec(profile) }
}

/// Says which error the kernel answered a flood with, and how far it came.
const FILES: &str = "import os\nos.makedirs('many',exist_ok=True)\nn=0\ntry:\n while n<100000:\n  os.close(os.open(f'many/{n}',os.O_CREAT|os.O_WRONLY)); n+=1\nexcept OSError as e: print(e.errno,n)\nelse: print('open',n)";

/// Tries to leave the project, or to end that it is inherited.
const LEAVE: &str = "import fcntl,os,struct\nos.makedirs('d',exist_ok=True)\nfd=os.open('d',os.O_RDONLY)\nb=bytearray(28)\nfcntl.ioctl(fd,0x801c581f,b)\nf=list(struct.unpack('5I8s',b))\nprint(f[3])\nfor project,flags in ((0,f[0]),(7,f[0]),(f[3],f[0]&~0x200)):\n try:\n  fcntl.ioctl(fd,0x401c5820,struct.pack('5I8s',flags,f[1],f[2],project,f[4],f[5])); print('open',project,flags)\n except OSError as e: print('shut')";

async fn python(boxed: &skep_sandbox::Boxed, program: &str, user: u32) -> String {
    let finished = run(&boxed.sandbox().await.unwrap(), Command::new(&["/usr/bin/python3", "-c", program]).user(user)).await;
    String::from_utf8_lossy(&finished.stdout).into_owned() + &String::from_utf8_lossy(&finished.stderr)
}

async fn a_full_one_stops_at_its_bound(bench: &Bench, disk: &Disk) {
    let node = disk.node().await;
    assert!(node.host().has(Fence::DiskQuota), "{:?}", node.host().missing(Fence::DiskQuota));
    let image = node.host_image().unwrap();
    let full = node.create(bounded(bench, Profile::Workstation), image.clone(), POLICY).await.unwrap();
    let free = node.create(bench.spec(Profile::Workstation), image, POLICY).await.unwrap();
    let (within, beside) = (full.sandbox().await.unwrap(), free.sandbox().await.unwrap());
    for user in [1_000, 0] {
        let filled =
            run(&within, Command::shell("cd /tmp; head -c 100M /dev/zero > fill; sync; stat -c %s fill; rm fill").user(user)).await;
        let said = String::from_utf8_lossy(&filled.stdout).into_owned() + &String::from_utf8_lossy(&filled.stderr);
        let written: u64 = said.lines().find_map(|line| line.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        assert!(written <= 32 * MIB && written > 16 * MIB, "user {user}: {said}");
    }
    sh(&within, "fallocate -l 28M kept").await;
    let refused = within.write_all("/home/user/more", 1_000, &vec![1; 12 << 20]).await;
    assert!(matches!(&refused, Err(RequestError::Fault(fault)) if fault.kind == FaultKind::Full), "{refused:?}");
    let size: u64 = sh(&within, "df -k --output=size /home/user | tail -1").await.trim().parse().unwrap();
    assert!(size <= 33 << 10, "it sees a disk of {size} KiB");
    sh(&within, "rm -f kept more; echo fine > fine").await;
    sh(&beside, "head -c 60M /dev/zero > fill && test $(stat -c %s fill) = 62914560 && rm fill").await;

    let said = python(&full, FILES, 1_000).await;
    let (error, made) = said.trim().split_once(' ').unwrap();
    assert!(["28", "122"].contains(&error) && made.parse::<u32>().unwrap() < 2_000, "{said}");
    assert_eq!(sh(&beside, "mkdir many; cd many; seq 3000 | xargs touch; ls | wc -l").await, "3000\n");
    sh(&within, "rm -r many").await;
    node_goes_on(&node, full, free).await;
}

/// Its bound stays when it is stopped and started, its forks have their own, and what goes leaves none.
async fn node_goes_on(node: &Sandboxes, full: skep_sandbox::Boxed, free: skep_sandbox::Boxed) {
    for user in [0, 1_000] {
        let said = python(&full, LEAVE, user).await;
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() == 4 && lines[0].parse::<u32>().unwrap() >= 0x2000_0000 && lines[1..] == ["shut"; 3], "as {user}: {said}");
    }
    full.happen(Input::Stop).await.unwrap();
    full.happen(Input::Resume).await.unwrap();
    let fork = full.fork(1, true).await.remove(0).unwrap();
    for boxed in [&full, &fork] {
        let within = boxed.sandbox().await.unwrap();
        assert_eq!(sh(&within, "cat fine").await, "fine\n");
        let filled = run(&within, Command::shell("head -c 100M /dev/zero > fill")).await;
        assert_ne!(filled.status, Status::Code(0));
    }
    for boxed in [full, fork, free] {
        boxed.happen(Input::Remove).await.unwrap();
    }
    assert!(node.list().is_empty());
}

#[tokio::test]
async fn a_sandbox_that_fills_its_disk_stops_at_its_own_bound_on_ext4() {
    let Some(bench) = Bench::set_up().await else { return };
    let Some(disk) = Disk::ext4(&bench) else { return };
    a_full_one_stops_at_its_bound(&bench, &disk).await;
}

#[tokio::test]
async fn a_sandbox_that_fills_its_disk_stops_at_its_own_bound_on_xfs() {
    let Some(bench) = Bench::set_up().await else { return };
    let Some(disk) = Disk::xfs(&bench) else { return };
    a_full_one_stops_at_its_bound(&bench, &disk).await;
}

#[tokio::test]
async fn a_bound_that_the_disk_does_not_keep_is_not_passed_over() {
    let Some(bench) = Bench::set_up().await else { return };
    let started = bench.start(&bounded(&bench, Profile::Workstation)).await;
    match (bench.host.missing(Fence::DiskQuota), started) {
        (None, Ok(sandbox)) => sandbox.remove().await.unwrap(),
        (Some(_), Err(StartError::Plan(PlanError::Missing { fence: Fence::DiskQuota, fix, .. }))) => assert!(fix.contains("prjquota")),
        (missing, started) => panic!("{missing:?}: {:?}", started.err()),
    }
}

/// Where nobody keeps accounts and it was said that this will do, use is counted: no file is written for anybody until it keeps less.
#[tokio::test]
async fn a_bound_that_is_only_counted_is_told_and_stops_the_node_s_own_writes() {
    let Some(bench) = Bench::set_up().await else { return };
    if bench.host.has(Fence::DiskQuota) {
        return println!("passed over: the file system keeps to bounds by itself");
    }
    let (node, _) = open(&bench.folder.path().join("node")).await;
    let limits = Limits { disk_bytes: Some(4 * MIB), inodes: Some(500), counted: true, ..Limits::default() };
    for (more, less) in [("head -c 6M /dev/zero > fill; sync", "rm fill"), ("mkdir many; cd many; seq 600 | xargs touch", "rm -r many")] {
        let boxed = node.create(Spec { limits, ..bench.spec(Profile::Strict) }, node.host_image().unwrap(), POLICY).await.unwrap();
        let within = boxed.sandbox().await.unwrap();
        within.write_all("/home/user/file", 1_000, b"fits").await.unwrap();
        sh(&within, &format!("({more}); true")).await;
        wait_for(|| within.is_full()).await;
        assert!(boxed.is_full());
        let refused = within.write_all("/home/user/more", 1_000, b"no").await;
        assert!(matches!(&refused, Err(RequestError::Fault(fault)) if fault.kind == FaultKind::Full), "{refused:?}");
        assert!(within.make_folder("/home/user/folder", 1_000).await.is_err());
        assert_eq!(within.read_all("/home/user/file", 1_000).await.unwrap(), b"fits");
        sh(&within, less).await;
        wait_for(|| !within.is_full()).await;
        within.write_all("/home/user/more", 1_000, b"yes").await.unwrap();
        boxed.happen(Input::Remove).await.unwrap();
    }
}
