//! Runs one command in a sandbox of its own and is gone: for trying a host, for tests, and for measuring beside other launchers.
//!
//! `skep-boxed [--workstation] FOLDER COUNT COMMAND…` runs the command in COUNT sandboxes, one after the other, and prints how long each took
//! from its creation to the end of the command, in microseconds. `skep-boxed --forks FOLDER FILES BYTES ROUNDS` forks a sandbox with a workspace of
//! that size and prints what that took as a line of JSON. It is not a way to run things for good: that is the node.

#[path = "skep-boxed/forks.rs"]
mod forks;
#[path = "skep-boxed/node.rs"]
mod node;

use std::{io::Write, path::PathBuf, process::ExitCode, time::Instant};

use skep_sandbox::{Cgroups, Command, Limits, Network, Place, Profile, Range, Sandbox, Spec, Zygote, host_image};

fn main() -> ExitCode {
    if let Some(code) = skep_sandbox::child() {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--forks") {
        return forks::measure(&arguments[1..]).await;
    }
    if arguments.first().is_some_and(|first| first == "--node") {
        return node::serve(&arguments[1..]).await;
    }
    let workstation = arguments.first().is_some_and(|first| first == "--workstation");
    let profile = if workstation { Profile::Workstation } else { Profile::Strict };
    arguments.drain(..usize::from(workstation));
    let [folder, count, command @ ..] = &arguments[..] else { return Err("FOLDER COUNT COMMAND".into()) };
    let (folder, count): (PathBuf, u32) = (folder.into(), count.parse()?);
    std::fs::create_dir_all(&folder)?;
    let (zygote, cgroups) = (Zygote::start("/proc/self/exe".as_ref())?, Cgroups::probe()?);
    let host = zygote.probe(&folder, &cgroups).await?;
    let rootfs = host_image(&folder.join("image"))?;
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    for n in 0..count {
        let mut random = [0; 13];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let id = skep_id::SandboxId::from_random(random);
        let (folder, group) = (folder.join(id.as_str()), format!("skep-boxed-{id}"));
        let place = Place { rootfs: rootfs.clone(), folder, group, range: Range { first: 0x7000_0000 + n % 4_000 * Range::LENGTH } };
        let (hostname, boot) = ("box".to_owned(), "00000000-0000-4000-8000-000000000000".to_owned());
        let spec = Spec { id, profile, hostname, limits: Limits::default(), network: Network::Loopback, volumes: vec![], boot };
        let began = Instant::now();
        let sandbox = Sandbox::start(&zygote, &host, &cgroups, &spec, &place).await?;
        let started = began.elapsed();
        let finished = sandbox.exec(Command::new(&command)).await?.output(1 << 20).await?;
        let took = began.elapsed();
        sandbox.remove().await?;
        let mut out = std::io::stdout();
        out.write_all(&finished.stdout)?;
        std::io::stderr().write_all(&finished.stderr)?;
        writeln!(out, "{} {} {} {:?}", took.as_micros(), started.as_micros(), began.elapsed().as_micros(), finished.status)?;
    }
    Ok(())
}
