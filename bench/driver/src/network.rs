//! How fast a sandbox's network is, next to a veth pair in the same run: bytes a second in both directions, connects, flows at once.
//!
//! The same client and the same server at both: the client in a sandbox whose packets this process serves, or in a network namespace at the other end of a veth pair (made with
//! `ip`, passed over where that is missing). The servers are a process of their own. Needs root. Nothing leaves the machine.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::BoxFuture;
use skep_gateway::net::{Answer, Attached, Dial, Family, Name, Network, Owner, Resolve, Rules};
use skep_sandbox::{Cgroups, Limits, Place, Profile, Range, Sandbox, Spec, Zygote, host_image};
use tokio::sync::watch;

type Print<'a> = &'a dyn Fn(&str, f64, &str);

const CLIENT: &str = "network-client";
const SERVER: &str = "network-server";
/// Who the servers are, as the sandbox knows them.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// The two ends of the veth pair.
const VETH: [&str; 2] = ["10.231.77.1", "10.231.77.2"];
const PIECE: usize = 256 << 10;

/// If this process is to be one of the ends, is that.
pub fn child() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [CLIENT, what, to, count] => client(what, to, count),
        [SERVER] => serve(),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Four listeners: who takes all, who gives all, who answers, who says when it has so many at once. Prints their ports.
fn serve() -> Result<()> {
    let listener = || TcpListener::bind("0.0.0.0:0");
    let (sink, source, echo) = (listener()?, listener()?, listener()?);
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    println!("{} {} {}", port(&sink)?, port(&source)?, port(&echo)?);
    std::thread::spawn(move || each(&sink, |mut stream| drain(&mut stream).map(drop)));
    std::thread::spawn(move || {
        each(&source, |mut stream| {
            let piece = vec![7; PIECE];
            loop {
                stream.write_all(&piece)?;
            }
        })
    });
    std::thread::spawn(move || {
        each(&echo, |mut stream| {
            stream.set_nodelay(true)?;
            let mut one = [0];
            while stream.read(&mut one)? == 1 {
                stream.write_all(&one)?;
            }
            Ok(())
        })
    });
    // Until whoever started it is gone.
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn each(listener: &TcpListener, serve: impl Fn(TcpStream) -> io::Result<()> + Copy + Send + 'static) {
    for stream in listener.incoming().flatten() {
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let _ = small.spawn(move || serve(stream));
    }
}

fn drain(stream: &mut TcpStream) -> io::Result<u64> {
    let (mut piece, mut total) = (vec![0; PIECE], 0);
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}

/// Prints one number: bits a second, or milliseconds of the median, or flows that were open at once and answered.
fn client(what: &str, to: &str, count: &str) -> Result<()> {
    let count: u32 = count.parse()?;
    let answer = match what {
        "send" => {
            let (mut stream, piece, began) = (TcpStream::connect(to)?, vec![7; PIECE], Instant::now());
            let mut total = 0u64;
            while began.elapsed() < Duration::from_millis(count.into()) {
                stream.write_all(&piece)?;
                total += piece.len() as u64;
            }
            stream.shutdown(std::net::Shutdown::Write)?;
            let _end = stream.read(&mut [0])?;
            total as f64 * 8.0 / began.elapsed().as_secs_f64()
        }
        "receive" => {
            let (mut stream, mut piece, began) = (TcpStream::connect(to)?, vec![0; PIECE], Instant::now());
            let mut total = 0u64;
            while began.elapsed() < Duration::from_millis(count.into()) {
                total += stream.read(&mut piece)? as u64;
            }
            total as f64 * 8.0 / began.elapsed().as_secs_f64()
        }
        "connect" => {
            let mut took: Vec<f64> = Vec::new();
            for _ in 0..count {
                let began = Instant::now();
                drop(TcpStream::connect(to)?);
                took.push(began.elapsed().as_secs_f64() * 1_000.0);
            }
            took.sort_by(f64::total_cmp);
            took[took.len() / 2]
        }
        "flows" => {
            let mut all = (0..count).map(|_| TcpStream::connect(to)).collect::<io::Result<Vec<_>>>()?;
            all.iter_mut().try_for_each(|stream| stream.write_all(b"x"))?;
            let answered = all.iter_mut().filter(|stream| (&**stream).read(&mut [0]).is_ok_and(|got| got == 1)).count();
            answered as f64
        }
        _ => bail!("send, receive, connect or flows"),
    };
    println!("{answer}");
    Ok(())
}

struct Servers {
    child: Child,
    ports: [u16; 3],
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Servers {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).arg(SERVER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let ports = line.split_whitespace().map(str::parse).collect::<Result<Vec<u16>, _>>()?;
        Ok(Self { child, ports: ports.try_into().ok().context("three ports")? })
    }
}

pub fn run(quick: bool, only: Option<&str>, print: Print<'_>) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "sandboxes with a network need root");
    let servers = Servers::start()?;
    let took = if quick { "700" } else { "3000" };
    let connects = if quick { "200" } else { "2000" };
    let veth = if only != Some("sandbox") { veth(&servers, took, connects, print)? } else { None };
    if only == Some("veth") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let slowest = runtime.block_on(sandbox(&servers, took, connects, print))?;
    if let Some(veth) = veth {
        print("net_of_veth_percent", slowest / veth * 100.0, "%");
    }
    Ok(())
}

/// What the client measures through a veth pair: bits a second of the slower direction. `None`: it cannot be made here.
fn veth(servers: &Servers, took: &str, connects: &str, print: Print<'_>) -> Result<Option<f64>> {
    struct Pair(String);
    impl Drop for Pair {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
        }
    }
    let ip = |line: &str| -> Result<bool> { Ok(Command::new("ip").args(line.split(' ')).status()?.success()) };
    let name = format!("sb{}", std::process::id());
    if !ip(&format!("netns add {name}")).unwrap_or(false) {
        return Ok(None);
    }
    let pair = Pair(name.clone());
    for line in [
        format!("link add {name} type veth peer name inner netns {name}"),
        format!("address add {}/30 dev {name}", VETH[0]),
        format!("link set {name} up"),
        format!("-n {name} address add {}/30 dev inner", VETH[1]),
        format!("-n {name} link set inner up"),
    ] {
        ensure!(ip(&line)?, "ip {line}");
    }
    let measure = |what: &str, port: u16, count: &str| -> Result<f64> {
        let program = std::env::current_exe()?;
        let to = format!("{}:{port}", VETH[0]);
        let output = Command::new("ip").args(["netns", "exec", &name]).arg(program).args([CLIENT, what, &to, count]).output()?;
        number(&output.stdout, &output.stderr)
    };
    let [sink, source, echo] = servers.ports;
    let (out, back) = (measure("send", sink, took)?, measure("receive", source, took)?);
    print("veth_out_gbit_s", out / 1e9, "Gbit/s");
    print("veth_in_gbit_s", back / 1e9, "Gbit/s");
    print("veth_connect_p50_ms", measure("connect", echo, connects)?, "ms");
    drop(pair);
    Ok(Some(out.min(back)))
}

fn number(out: &[u8], error: &[u8]) -> Result<f64> {
    let text = String::from_utf8_lossy(out);
    text.trim().parse().with_context(|| format!("the client said {text:?} {:?}", String::from_utf8_lossy(error)))
}

/// The same from within a sandbox; also for each core-second of this process, which is the node here.
async fn sandbox(servers: &Servers, took: &str, connects: &str, print: Print<'_>) -> Result<f64> {
    let boxed = Boxed::start().await?;
    let outcome = boxed.measure(servers, took, connects, print).await;
    boxed.sandbox.remove().await?;
    outcome
}

struct Boxed {
    sandbox: Sandbox,
    _attached: Attached,
    _rules: watch::Sender<Rules>,
    _zygote: Zygote,
    _folder: tempfile::TempDir,
}

impl Boxed {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (zygote, cgroups) = (Zygote::start("/proc/self/exe".as_ref())?, Cgroups::probe()?);
        let host = zygote.probe(folder.path(), &cgroups).await?;
        let mut random = [0; 13];
        Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
        let id = skep_id::SandboxId::from_random(random);
        let rootfs = host_image(&folder.path().join("image"))?;
        let (group, range) = (format!("skep-bench-{id}"), Range { first: 0x7000_0000 });
        let place = Place { rootfs, folder: folder.path().join(id.as_str()), group, range };
        let boot = "00000000-0000-4000-8000-000000000000".to_owned();
        let (network, limits) = (skep_sandbox::Network::tun(), Limits { memory_bytes: 2 << 30, ..Limits::default() });
        let spec = Spec { id, profile: Profile::Strict, hostname: "box".into(), limits, network, volumes: vec![], boot };
        let sandbox = Sandbox::start(&zygote, &host, &cgroups, &spec, &place).await?;
        let program = std::fs::read(std::env::current_exe()?)?;
        let (mut pipe, copied) = sandbox.write("/home/user/client", 1_000, 0o755).await?;
        tokio::io::AsyncWriteExt::write_all(&mut pipe, &program).await?;
        drop(pipe);
        copied.await??;
        let (rules, receiver) = watch::channel(Rules::open());
        let network = Network::new(Arc::new(Near), Arc::new(Near), Arc::new(()));
        let attached = network.attach(sandbox.device().await?, Owner("bench".into()), receiver)?;
        Ok(Self { sandbox, _attached: attached, _rules: rules, _zygote: zygote, _folder: folder })
    }

    async fn client(&self, what: &str, port: u16, count: &str) -> Result<f64> {
        let to = format!("{OUTSIDE}:{port}");
        let command = skep_sandbox::Command::new(&["/home/user/client", CLIENT, what, &to, count]);
        let finished = self.sandbox.exec(command).await?.output(1 << 16).await?;
        number(&finished.stdout, &finished.stderr)
    }

    async fn measure(&self, servers: &Servers, took: &str, connects: &str, print: Print<'_>) -> Result<f64> {
        let [sink, source, echo] = servers.ports;
        let (mut slowest, mut slowest_core) = (f64::MAX, f64::MAX);
        for (metric, what, port) in [("net_out", "send", sink), ("net_in", "receive", source)] {
            let (used, began) = (processor_time(), Instant::now());
            let rate = self.client(what, port, took).await?;
            let cores = (processor_time() - used).as_secs_f64() / began.elapsed().as_secs_f64();
            print(&format!("{metric}_gbit_s"), rate / 1e9, "Gbit/s");
            print(&format!("{metric}_gbit_s_core"), rate / 1e9 / cores, "Gbit/s");
            (slowest, slowest_core) = (slowest.min(rate), slowest_core.min(rate / cores));
        }
        print("net_gbit_s", slowest / 1e9, "Gbit/s");
        print("net_gbit_s_core", slowest_core / 1e9, "Gbit/s");
        print("net_connect_p50_ms", self.client("connect", echo, connects).await?, "ms");
        print("net_flows", self.client("flows", echo, "2000").await?, "flows");
        Ok(slowest)
    }
}

/// Of this process and its threads, in both modes.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}

/// The servers of this run stand for everybody outside, and are found at the same ports.
struct Near;

impl Dial for Near {
    fn is_own(&self, _to: IpAddr) -> bool {
        false
    }

    fn tcp(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<tokio::net::TcpStream>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, to.port())).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }

    fn udp(&self, _to: SocketAddr) -> BoxFuture<'static, io::Result<tokio::net::UdpSocket>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn echo(&self, _to: IpAddr, _payload: Vec<u8>) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

impl Resolve for Near {
    fn resolve(&self, _name: &Name, _family: Family) -> BoxFuture<'static, io::Result<Answer>> {
        Box::pin(async { Ok(Answer::NoName) })
    }
}
