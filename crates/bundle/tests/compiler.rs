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
            b"files" => {
                let open = std::fs::read_dir("/proc/self/fd").map(|folder| folder.count()).unwrap_or_default();
                let variables = std::env::vars().count();
                // Three standard ones and the folder being read.
                return Ok(format!("{open} {variables}").into_bytes());
            }
            b"write" => return std::fs::write("/tmp/skep-child-must-not-write", b"x").map(|()| vec![]).map_err(|e| e.to_string()),
            _ => {}
        }
        Ok(module.iter().rev().copied().collect())
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "compile-child") {
        return if serve(Box::new(Script)).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(checks());
    println!("compiler: all checks passed");
    ExitCode::SUCCESS
}

fn compiler(children_max: usize, timeout: Duration) -> Compiler {
    let program = std::env::current_exe().unwrap();
    Compiler::new(CompilerConfig { program, args: vec!["compile-child".to_owned()], children_max, timeout })
}

async fn checks() {
    let compiler_ = compiler(2, Duration::from_secs(20));
    strips_and_names_the_place(&compiler_).await;
    survives_what_kills_a_child(&compiler_).await;
    holds_nothing_of_its_parent(&compiler_).await;
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

async fn holds_nothing_of_its_parent(compiler: &Compiler) {
    let _secret = std::fs::File::open("/proc/self/status").unwrap();
    let answer = compiler.wasm("m.wasm", b"files").await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "4 0");
    let written = compiler.wasm("m.wasm", b"write").await;
    // An empty file may come into being; nothing can be put into it.
    let _ = std::fs::remove_file("/tmp/skep-child-must-not-write");
    assert!(matches!(written, Err(CompileError::Died(_) | CompileError::Code(_))));
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
    let config = CompilerConfig { program: "/nowhere/skep".into(), args: vec![], children_max: 1, timeout: Duration::from_secs(1) };
    assert!(matches!(Compiler::new(config).wasm("m", b"").await, Err(CompileError::NoChild(_))));
}
