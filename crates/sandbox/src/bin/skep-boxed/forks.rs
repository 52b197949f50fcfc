//! Measures forks: `--forks` of `skep-boxed`.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use skep_sandbox::{Boxed, Command, Config, Input, Limits, Network, OnTimeout, Policy, Profile, Sandboxes, Spec, Status};

pub(super) type Failed = Box<dyn std::error::Error>;

pub(super) const POLICY: Policy = Policy { timeout_ms: None, on_timeout: OnTimeout::Pause, auto_resume: true };

pub(super) fn spec() -> Result<Spec, Failed> {
    let mut random = [0; 13];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(Spec {
        id: skep_id::SandboxId::from_random(random),
        profile: Profile::Strict,
        hostname: "box".into(),
        limits: Limits { memory_bytes: 1 << 30, ..Limits::default() },
        network: Network::Loopback,
        volumes: vec![],
        boot: "00000000-0000-4000-8000-000000000000".into(),
    })
}

pub(super) async fn open(folder: PathBuf) -> Result<(Sandboxes, skep_sandbox::Opened), Failed> {
    std::fs::create_dir_all(&folder)?;
    Ok(Sandboxes::open(Config { folder, program: "/proc/self/exe".into() }).await?)
}

pub(super) async fn shell(boxed: &Boxed, line: &str) -> Result<String, Failed> {
    let sandbox = boxed.sandbox().await.ok_or("it does not run")?;
    let finished = sandbox.exec(Command::shell(line)).await?.output(16 << 20).await?;
    match finished.status {
        Status::Code(0) => Ok(String::from_utf8_lossy(&finished.stdout).into_owned()),
        other => Err(format!("{other:?}: {}", String::from_utf8_lossy(&finished.stderr)).into()),
    }
}

/// `FOLDER FILES BYTES ROUNDS`: a sandbox with a workspace of so many files and bytes is forked: once when it is new, and then after each change of
/// ten files. One line of JSON.
pub async fn measure(arguments: &[String]) -> Result<(), Failed> {
    let [folder, files, bytes, rounds] = arguments else { return Err("--forks FOLDER FILES BYTES ROUNDS".into()) };
    let (files, bytes, rounds): (u64, u64, u32) = (files.parse()?, bytes.parse()?, rounds.parse()?);
    let (node, _) = open(folder.into()).await?;
    let boxed = node.create(spec()?, node.host_image()?, POLICY).await?;
    let size = bytes / files.max(1);
    let fill = format!(
        "python3 -c \"import os\nb=os.urandom({size})\nfor d in range(({files}+99)//100):\n os.makedirs(f'w/{{d}}')\n for n in range(min(100,{files}-d*100)):\n  open(f'w/{{d}}/{{n}}','wb').write(b)\""
    );
    shell(&boxed, &fill).await?;
    let mut taken = Vec::new();
    for round in 0..=rounds {
        shell(&boxed, &format!("for n in 0 1 2 3 4 5 6 7 8 9; do echo {round} > w/0/$n; done")).await?;
        let (fork, took) = forked(&boxed).await?;
        let seen = shell(&fork, "cat w/0/9; find w -type f | wc -l").await?;
        if seen != format!("{round}\n{files}\n") {
            return Err(format!("the fork has {seen:?}").into());
        }
        fork.happen(Input::Remove).await?;
        taken.push(took);
    }
    let snapshot = boxed.snapshot(None).await?;
    let began = Instant::now();
    let restored = node.restore(&snapshot.id, spec()?, POLICY).await?;
    let restore = began.elapsed();
    for boxed in [boxed, restored] {
        boxed.happen(Input::Remove).await?;
    }
    let first = taken.remove(0);
    taken.sort_unstable();
    let middle = taken.get(taken.len() / 2).copied().unwrap_or(first);
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let pause = snapshot.paused_us as f64 / 1e3;
    writeln!(
        std::io::stdout(),
        r#"{{"files":{files},"bytes":{bytes},"first_fork_ms":{:.1},"fork_p50_ms":{:.1},"pause_ms":{pause:.1},"restore_ms":{:.1}}}"#,
        ms(first),
        ms(middle),
        ms(restore)
    )?;
    Ok(())
}

async fn forked(boxed: &Boxed) -> Result<(Boxed, Duration), Failed> {
    let began = Instant::now();
    let fork = boxed.fork(1, true).await.remove(0)?;
    Ok((fork, began.elapsed()))
}
