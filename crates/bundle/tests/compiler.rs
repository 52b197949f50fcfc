//! The compile child: what it does, and what it survives. This program is its own child, hence no test harness.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use skep_bundle::{CompileError, Compiler, CompilerConfig, Handlers, Language, serve};

/// Stands in for the Wasm compiler: it does what the module says.
struct Script;

impl Handlers for Script {
    fn wasm(&self, module: &[u8]) -> Result<Vec<u8>, String> {
        match module {
            b"sleep" => std::thread::sleep(Duration::from_secs(60)),
            b"abort" => std::process::abort(),
            b"panic" => panic!("as asked"),
            b"memory" => {
                let mut held = Vec::new();
                loop {
                    held.push(vec![1_u8; 64 << 20]);
                    std::hint::black_box(&held);
                }
            }
            b"variables" => return Ok(std::env::vars().count().to_string().into_bytes()),
            // Answers, and ends itself a moment later.
            b"leave" => {
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_millis(50));
                    std::process::exit(0)
                });
                return Ok(b"bye".to_vec());
            }
            b"threads" => {
                let sums = (0..4_u64).map(|n| std::thread::spawn(move || (0..1_000).map(|i| i * n).sum::<u64>()));
                let sums: Vec<_> = sums.collect();
                return Ok(sums.into_iter().map(|sum| sum.join().unwrap()).sum::<u64>().to_string().into_bytes());
            }
            _ => {}
        }
        if let Some(attempt) = module.strip_prefix(b"try ") {
            return attempted(attempt).map(|()| b"it worked".to_vec()).map_err(|error| error.to_string());
        }
        Ok(module.iter().rev().copied().collect())
    }
}

/// What code that has taken over a child would try next.
fn attempted(what: &[u8]) -> std::io::Result<()> {
    use std::{fs, net, os::unix, process::Command};
    match what {
        b"open" => fs::File::open("/etc/passwd").map(drop),
        b"write" => fs::write("/tmp/skep-child-must-not-write", b"x"),
        b"list" => fs::read_dir("/").map(drop),
        b"delete" => fs::remove_file("/tmp/skep-child-must-not-write"),
        b"link" => unix::fs::symlink("/etc/passwd", "/tmp/skep-child-must-not-link"),
        b"socket" => net::UdpSocket::bind("127.0.0.1:0").map(drop),
        b"connect" => net::TcpStream::connect("127.0.0.1:1").map(drop),
        b"unix socket" => unix::net::UnixStream::pair().map(drop),
        b"pipe" => std::io::pipe().map(drop),
        b"spawn" => Command::new("/bin/true").spawn().map(drop),
        b"execute" => Err(unix::process::CommandExt::exec(&mut Command::new("/bin/true"))),
        b"kill" => Ok(rustix::process::test_kill_process(rustix::process::getppid().unwrap_or(rustix::process::Pid::INIT))?),
        b"limits" => {
            let (resource, none) = (rustix::process::Resource::Fsize, rustix::process::Rlimit { current: None, maximum: None });
            Ok(rustix::process::setrlimit(resource, none)?)
        }
        _ => Err(std::io::Error::other("no such attempt")),
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "unfenced-child") {
        return unfenced();
    }
    if std::env::args().any(|arg| arg == "compile-child") {
        return if serve(Box::new(Script)).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(checks());
    println!("compiler: all checks passed");
    ExitCode::SUCCESS
}

/// A child on a kernel that has no Landlock: it says so.
fn unfenced() -> ExitCode {
    use std::io::{Read, Write};
    let mut question = [0; 5];
    let said = b"landlock\tfalse\tthe kernel does not have it\n";
    let length = u32::try_from(said.len() + 1).unwrap().to_le_bytes();
    while std::io::stdin().read_exact(&mut question).is_ok() {
        let answer = [&length[..], &[0], said].concat();
        std::io::stdout().write_all(&answer).and_then(|()| std::io::stdout().flush()).unwrap();
    }
    ExitCode::SUCCESS
}

fn compiler(children_max: usize, timeout: Duration) -> Compiler {
    let program = std::env::current_exe().unwrap();
    Compiler::new(CompilerConfig { program, args: vec!["compile-child".to_owned()], children_max, timeout, fences_required: false })
}

async fn checks() {
    let compiler_ = compiler(2, Duration::from_secs(20));
    strips_and_names_the_place(&compiler_).await;
    survives_what_kills_a_child(&compiler_).await;
    holds_nothing_of_its_parent(&compiler_).await;
    stands_behind_fences(&compiler_).await;
    is_replaced_when_it_is_found_dead().await;
    required_fences_are_asked_for().await;
    many_at_once(&compiler_).await;
    ends_what_takes_too_long().await;
    tells_that_there_is_no_child().await;
}

async fn strips_and_names_the_place(compiler: &Compiler) {
    let stripped = compiler.strip("a.ts", "const x: number = 1; export default x;", Language::Ts).await.unwrap();
    assert!(stripped.code.contains("const x = 1;"), "{}", stripped.code);
    let error = compiler.strip("a.ts", "const x: = 1;", Language::Ts).await.unwrap_err();
    assert!(matches!(&error, CompileError::Code(message) if message.starts_with("a.ts:1:")), "{error}");
    assert_eq!(compiler.wasm("m.wasm", b"abc").await.unwrap(), b"cba");
}

async fn survives_what_kills_a_child(compiler: &Compiler) {
    let deep = format!("export default {}1{};", "(".repeat(3_000_000), ")".repeat(3_000_000));
    let arrays = format!("export default {}{};", "[".repeat(3_000_000), "]".repeat(3_000_000));
    let types = format!("type A = {}1{};", "Array<".repeat(500_000), ">".repeat(500_000));
    for (name, source) in [("deep.ts", deep), ("arrays.ts", arrays), ("types.ts", types)] {
        let started = Instant::now();
        match compiler.strip(name, &source, Language::Ts).await {
            Ok(_) | Err(CompileError::Code(_)) => {}
            Err(error @ CompileError::Died(_)) => assert!(error.to_string().contains(name)),
            Err(error) => panic!("{name}: {error}"),
        }
        println!("{name}: {:?}", started.elapsed());
    }
    for bad in [&b"abort"[..], b"panic", b"memory"] {
        assert_eq!(compiler.wasm("bad.wasm", bad).await.unwrap_err(), CompileError::Died("bad.wasm".to_owned()));
    }
    assert_eq!(compiler.wasm("m.wasm", b"still here").await.unwrap(), b"ereh llits");
}

/// Started by hand, for a look at it from outside.
async fn holds_nothing_of_its_parent(compiler: &Compiler) {
    assert_eq!(compiler.wasm("m.wasm", b"variables").await.unwrap(), b"0");
    let inherited = std::fs::File::open("/proc/self/status").unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(program)
        .arg("compile-child")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // One question and its answer: then the fences stand.
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), &[4, 0, 0, 0, 1, b'a', b'b', b'c']).unwrap();
    let mut answer = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut answer).unwrap();
    assert_eq!(&answer[4..], b"\0cba");
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(open.len(), 3, "{open:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// Every fence but Landlock stands on any Linux that builds this; what is behind them is refused by one or the other.
async fn stands_behind_fences(compiler: &Compiler) {
    let fences = compiler.fences().await.unwrap();
    let names: Vec<&str> = fences.iter().map(|fence| fence.name.as_str()).collect();
    assert_eq!(names, ["descriptors", "parent", "privileges", "landlock", "limits", "seccomp"]);
    for fence in &fences {
        let not_in_this_kernel = fence.name == "landlock" && fence.said.starts_with("the kernel");
        assert!(fence.standing || not_in_this_kernel, "{fence:?}");
    }
    let attempts =
        ["open", "write", "list", "delete", "link", "socket", "connect", "unix socket", "pipe", "spawn", "execute", "kill", "limits"];
    for attempt in attempts {
        let error = compiler.wasm("m.wasm", format!("try {attempt}").as_bytes()).await.unwrap_err();
        let CompileError::Code(message) = &error else { panic!("{attempt}: {error}") };
        assert!(["not permitted", "denied"].iter().any(|word| message.contains(word)), "{attempt}: {message}");
    }
    assert!(!std::path::Path::new("/tmp/skep-child-must-not-write").exists());
    // The compiler of Wasm modules may compute on several threads.
    assert_eq!(compiler.wasm("m.wasm", b"threads").await.unwrap(), b"2997000");
}

async fn is_replaced_when_it_is_found_dead() {
    let compiler = compiler(1, Duration::from_secs(20));
    assert_eq!(compiler.wasm("m.wasm", b"leave").await.unwrap(), b"bye");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(compiler.wasm("m.wasm", b"ab").await.unwrap(), b"ba");
}

/// A kernel without a fence is no reason to fail, unless someone says so.
async fn required_fences_are_asked_for() {
    let program = std::env::current_exe().unwrap();
    let config = |args: &[&str]| CompilerConfig {
        program: program.clone(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        children_max: 1,
        timeout: Duration::from_secs(20),
        fences_required: true,
    };
    let all = Compiler::new(config(&["compile-child"]));
    let missing: Vec<_> = all.fences().await.unwrap().into_iter().filter(|fence| !fence.standing).collect();
    match all.wasm("m.wasm", b"ab").await {
        Ok(answer) => assert!(answer == b"ba" && missing.is_empty(), "{missing:?}"),
        Err(error) => assert!(!missing.is_empty() && error.to_string().contains(&missing[0].name), "{error}"),
    }
    assert!(matches!(Compiler::new(config(&["unfenced-child"])).wasm("m.wasm", b"ab").await, Err(CompileError::NoChild(_))));
}

async fn many_at_once(compiler: &Compiler) {
    let one = |n: usize| {
        let compiler = compiler.clone();
        tokio::spawn(async move { compiler.strip("n.ts", &format!("export const n: number = {n};"), Language::Ts).await })
    };
    let started = Instant::now();
    for (n, task) in (0..200).map(one).collect::<Vec<_>>().into_iter().enumerate() {
        assert!(task.await.unwrap().unwrap().code.contains(&format!("n = {n};")));
    }
    println!("200 texts by 2 children: {:?}", started.elapsed());
}

async fn ends_what_takes_too_long() {
    let compiler = compiler(1, Duration::from_millis(300));
    let error = compiler.wasm("slow.wasm", b"sleep").await.unwrap_err();
    assert!(matches!(&error, CompileError::TimedOut(name, _) if name == "slow.wasm"), "{error}");
    assert_eq!(compiler.wasm("m.wasm", b"ab").await.unwrap(), b"ba");
}

async fn tells_that_there_is_no_child() {
    let (program, timeout) = ("/nowhere/skep".into(), Duration::from_secs(1));
    let config = CompilerConfig { program, args: vec![], children_max: 1, timeout, fences_required: false };
    assert!(matches!(Compiler::new(config).wasm("m", b"").await, Err(CompileError::NoChild(_))));
}
