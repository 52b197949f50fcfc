//! What agents do all day, with the tools that this machine has; what it lacks is passed over by name.

use std::{path::PathBuf, process::Command as Program};

use skep_sandbox::{Command, Limits, Profile, Sandbox, Spec, Status, Volume};

use crate::boxed::{Bench, run, sh};

/// A sandbox with room for real work.
async fn roomy(bench: &Bench, volumes: Vec<Volume>) -> Sandbox {
    let limits = Limits { memory_bytes: 1 << 30, tmp_bytes: 256 << 20, ..Limits::default() };
    bench.start(&Spec { limits, volumes, ..bench.spec(Profile::Strict) }).await.unwrap()
}

/// Whether a line ends well within; says what is missing where it does not.
async fn has(sandbox: &Sandbox, what: &str, line: &str) -> bool {
    let there = run(sandbox, Command::shell(line)).await.status == Status::Code(0);
    if !there {
        println!("passed over: within a sandbox of this machine's programs there is no {what}");
    }
    there
}

#[tokio::test]
async fn git_clones_from_a_server() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = roomy(&bench, vec![]).await;
    if has(&sandbox, "git daemon", "[ -x \"$(git --exec-path)/git-daemon\" ]").await {
        let make = "git config --global user.email a@b.c; git config --global user.name a; mkdir -p served/repo && cd served/repo && git init -q && \
                    echo content > file && git add . && git commit -qm first && cd .. && git clone -q --bare repo repo.git";
        sh(&sandbox, make).await;
        let serve = "exec git daemon --export-all --listen=127.0.0.1 --port=9418 --base-path=/home/user/served /home/user/served";
        let _server = sandbox.exec(Command::shell(serve)).await.unwrap();
        let clone = "for i in $(seq 100); do git clone -q git://127.0.0.1/repo.git got 2>/dev/null && break; sleep 0.1; done; cat got/file";
        assert_eq!(sh(&sandbox, clone).await, "content\n");
        assert_eq!(
            sh(&sandbox, "cd got && git checkout -qb work && echo more >> file && git commit -qam more && git log --oneline | wc -l").await,
            "2\n"
        );
    }
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn npm_installs_from_a_folder() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = roomy(&bench, vec![]).await;
    if has(&sandbox, "npm", "npm --version").await {
        let line = "mkdir -p dep app && echo '{\"name\":\"dep\",\"version\":\"1.0.0\"}' > dep/package.json && echo 'module.exports = 6 * 7' > dep/index.js && \
                    cd dep && npm pack --silent >/dev/null && cd ../app && echo '{\"name\":\"app\",\"version\":\"1.0.0\",\"dependencies\":{\"dep\":\"file:../dep/dep-1.0.0.tgz\"}}' \
                    > package.json && npm install --offline --silent --no-audit --no-fund && rm -rf node_modules && \
                    npm ci --offline --silent --no-audit --no-fund && node -p 'require(\"dep\")'";
        assert_eq!(sh(&sandbox, line).await.lines().last(), Some("42"));
    }
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn pip_installs_from_a_folder() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = roomy(&bench, vec![]).await;
    if has(&sandbox, "pip", "python3 -m pip --version").await {
        let wheel = "import zipfile\n\
                     z=zipfile.ZipFile('dep-1.0-py3-none-any.whl','w')\n\
                     z.writestr('dep.py','answer = 6 * 7\\n')\n\
                     z.writestr('dep-1.0.dist-info/METADATA','Metadata-Version: 2.1\\nName: dep\\nVersion: 1.0\\n')\n\
                     z.writestr('dep-1.0.dist-info/WHEEL','Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
                     z.writestr('dep-1.0.dist-info/RECORD','')\n";
        sandbox.write_all("/home/user/wheel.py", 1_000, wheel.as_bytes()).await.unwrap();
        let line = "python3 wheel.py && python3 -m pip install -q --no-index --find-links . --target out dep && PYTHONPATH=out python3 -c 'import dep; print(dep.answer)'";
        assert_eq!(sh(&sandbox, line).await.lines().last(), Some("42"));
    }
    sandbox.remove().await.unwrap();
}

#[tokio::test]
async fn c_is_built() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = roomy(&bench, vec![]).await;
    if has(&sandbox, "C compiler", "cc --version && make --version").await {
        let line = "printf '#include <stdio.h>\\nint answer(void);int main(void){printf(\"%%d\\\\n\",answer());}\\n' > main.c && \
                    echo 'int answer(void){return 42;}' > answer.c && printf 'main: main.o answer.o\\n\\tcc -o $@ $^\\n' > Makefile && make -s -j2 && ./main";
        assert_eq!(sh(&sandbox, line).await, "42\n");
    }
    sandbox.remove().await.unwrap();
}

/// Rust's tools are seldom among a distribution's own: they come as a volume.
#[tokio::test]
#[ignore = "heavy: make soak"]
async fn rust_is_built() {
    let Some(bench) = Bench::set_up().await else { return };
    let Some(tools) = Program::new("rustc").args(["--print", "sysroot"]).output().ok().filter(|said| said.status.success()) else {
        return println!("passed over: this machine has no rustc");
    };
    let source = PathBuf::from(String::from_utf8(tools.stdout).unwrap().trim());
    let sandbox = roomy(&bench, vec![Volume { source, target: "/opt/rust".into(), read_only: true }]).await;
    if has(&sandbox, "linker, or cargo in the toolchain", "cc --version && /opt/rust/bin/cargo --version").await {
        let line = "export PATH=/opt/rust/bin:$PATH; cargo new -q --vcs none app && cd app && echo 'fn main(){println!(\"{}\",6*7)}' > src/main.rs && \
                    cargo build -q --offline --release && ./target/release/app";
        assert_eq!(sh(&sandbox, line).await, "42\n");
    }
    sandbox.remove().await.unwrap();
}

#[tokio::test]
#[ignore = "heavy: make soak"]
async fn postgresql_starts() {
    let Some(bench) = Bench::set_up().await else { return };
    let sandbox = roomy(&bench, vec![]).await;
    let find = "PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)";
    if has(&sandbox, "PostgreSQL", &format!("{find}; initdb --version && pg_ctl --version && psql --version")).await {
        let line = format!(
            "{find}; initdb -D data -A trust >/dev/null && pg_ctl -D data -w -t 60 -l log -o \"-c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp\" \
             start >/dev/null || {{ cat log >&2; exit 1; }}; psql -h 127.0.0.1 -d postgres -Atc 'select 6*7'; pg_ctl -D data -m fast stop >/dev/null"
        );
        assert_eq!(sh(&sandbox, &line).await, "42\n");
    }
    sandbox.remove().await.unwrap();
}
