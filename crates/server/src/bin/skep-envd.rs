//! One sandbox with E2B's wire on a port, for E2B's own debug mode: for tests, and for trying a program of one's own against it.
//!
//! `skep-envd [--strict] FOLDER PORT [TOKEN]` makes a sandbox in FOLDER, serves it on 127.0.0.1 at PORT (0: any) and prints the port; when its
//! standard input ends, the sandbox is removed. It is not a way to run things for good: that is the node.

use std::{io::Write, path::PathBuf, process::ExitCode};

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    if let Some(code) = skep_sandbox::child() {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
async fn run() -> Result<(), Box<dyn std::error::Error>> {
    use skep_sandbox::{Cgroups, Limits, Network, Place, Profile, Range, Sandbox, Spec, Zygote, host_image};
    use skep_server::{Envd, EnvdSettings, envd_debug};

    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let strict = arguments.first().is_some_and(|first| first == "--strict");
    arguments.drain(..usize::from(strict));
    let [folder, port, token @ ..] = &arguments[..] else { return Err("FOLDER PORT [TOKEN]".into()) };
    let (folder, port): (PathBuf, u16) = (folder.into(), port.parse()?);
    std::fs::create_dir_all(&folder)?;
    let (zygote, cgroups) = (Zygote::start("/proc/self/exe".as_ref())?, Cgroups::probe()?);
    let host = zygote.probe(&folder, &cgroups).await?;
    let rootfs = host_image(&folder.join("image"))?;
    let mut random = [0; 13];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let id = skep_id::SandboxId::from_random(random);
    let range = Range { first: 0x7000_0000 + u32::from(u16::from_le_bytes([random[0], random[1]])) % 4_000 * Range::LENGTH };
    let place = Place { rootfs, folder: folder.join(id.as_str()), group: format!("skep-envd-{id}"), range };
    let (hostname, boot) = ("box".to_owned(), "00000000-0000-4000-8000-000000000000".to_owned());
    let profile = if strict { Profile::Strict } else { Profile::Workstation };
    let limits = Limits::default();
    let spec = Spec { id, profile, hostname, limits, network: Network::Loopback, volumes: vec![], boot };
    let sandbox = Sandbox::start(&zygote, &host, &cgroups, &spec, &place).await?;
    let settings = EnvdSettings {
        token: token.first().cloned(),
        cpu_count: limits.cpu_millis.div_ceil(1_000),
        memory_bytes: limits.memory_bytes,
        ..EnvdSettings::default()
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    let served = envd_debug(listener, Envd::new(sandbox.clone(), settings));
    let over = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let done = tokio::select! {
        served = served => served,
        over = over => over.map_err(std::io::Error::other).and_then(|read| read.map(drop)),
    };
    sandbox.remove().await?;
    Ok(done?)
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sandboxes are made of what Linux has");
    ExitCode::FAILURE
}
