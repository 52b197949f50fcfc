//! Actors from the command line, and what SIGKILL leaves of them.
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// Actors of the kill test.
const ACTORS: usize = 6;

const APP: &str = "
import { DurableObject } from 'cloudflare:workers';
export class Counter extends DurableObject {
    constructor(ctx, env) {
        super(ctx, env);
        ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS step (n INTEGER PRIMARY KEY, note TEXT)');
    }
    fetch(request) {
        const { sql } = this.ctx.storage;
        if (request.method === 'POST') sql.exec('INSERT INTO step (n, note) SELECT coalesce(max(n), 0) + 1, ? FROM step', 'x'.repeat(200));
        const { n, count } = sql.exec('SELECT coalesce(max(n), 0) AS n, count(*) AS count FROM step').one();
        return new Response(`${n} ${count}`);
    }
}
export default {
    fetch(request, env) {
        return env.COUNTERS.getByName(new URL(request.url).pathname.slice(1)).fetch(request);
    },
};
";

fn skep(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.env_remove("SKEP_URL").env_remove("SKEP_KEY").arg("--data").arg(data).args(args).output().unwrap()
}

fn good(data: &Path, args: &[&str]) -> String {
    let done = skep(data, args);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn parsed(data: &Path, args: &[&str]) -> serde_json::Value {
    let text = good(data, &[&["--json"], args].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error} in {text}"))
}

struct Up {
    child: Child,
    url: String,
}

impl Up {
    fn start(data: &Path, config: Option<&Path>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.args(["--json", "up", "--listen", "127.0.0.1:0", "--data"]).arg(data).stdout(Stdio::piped()).stderr(Stdio::null());
        // Temporary folders may be in memory, which nothing is promised about.
        let trusting = data.with_extension("toml");
        fs::write(&trusting, "[node.log]\ntrust_any_folder = true\n").unwrap();
        command.arg("--config").arg(config.unwrap_or(&trusting));
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, url: said["url"].as_str().unwrap().to_owned() }
    }

    fn deploy(data: &Path, folder: &Path) {
        let file = folder.join("app.js");
        fs::write(&file, APP).unwrap();
        good(data, &["deploy", file.to_str().unwrap(), "--actors", "COUNTERS=Counter"]);
    }

    fn read(&self, actor: usize) -> (u64, u64) {
        let text = ureq::get(format!("{}/w/app/a{actor}", self.url)).call().unwrap().body_mut().read_to_string().unwrap();
        let (n, count) = text.split_once(' ').unwrap();
        (n.parse().unwrap(), count.parse().unwrap())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_commands_of_an_actor() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = folder.path().join("skep.toml");
    fs::write(&config, "[node.log]\nsegment_bytes = 262144\ntrust_any_folder = true\n").unwrap();
    let up = Up::start(&data, Some(&config));
    Up::deploy(&data, folder.path());
    let add = || ureq::post(format!("{}/w/app/a0", up.url)).send_empty().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!((add(), add()), ("1 1".to_owned(), "2 2".to_owned()));
    let actor = "app/Counter/a0";

    assert!(good(&data, &["actors", "ls"]).contains(actor));
    let id = parsed(&data, &["actors", "ls", "--worker", "app"])["actors"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(parsed(&data, &["actors", "show", &id])["name"], "a0");
    assert!(good(&data, &["actors", "show", actor]).contains(&id));
    let then = parsed(&data, &["actors", "show", actor])["bookmark"].as_str().unwrap().to_owned();
    add();
    let count = |as_of: Option<&str>| {
        let mut args = vec!["actors", "sql", actor, "SELECT count(*) AS steps FROM step"];
        args.extend(as_of.iter().flat_map(|as_of| ["--as-of", as_of]));
        parsed(&data, &args)["rows"][0][0].as_u64().unwrap()
    };
    assert_eq!((count(None), count(Some(&then))), (3, 2));
    let table = good(&data, &["actors", "sql", actor, "SELECT n, note FROM step ORDER BY n"]);
    assert!(table.starts_with("n  note") && table.contains('…'), "{table}");
    assert_eq!(parsed(&data, &["actors", "checkpoint", actor])["tier"], "local-fsync");
    assert!(good(&data, &["actors", "fork", actor, "--name", "copy"]).contains("app/Counter/copy"));
    assert!(good(&data, &["actors", "rewind", actor, &then]).contains("to undo it"));
    assert_eq!((count(None), parsed(&data, &["actors", "ls"])["actors"].as_array().unwrap().len()), (2, 2));
    let file = folder.path().join("a0.sqlite");
    good(&data, &["actors", "export", actor, file.to_str().unwrap()]);
    assert!(fs::read(&file).unwrap().starts_with(b"SQLite format 3\0"));
    assert_eq!(skep(&data, &["actors", "export", actor, file.to_str().unwrap()]).status.code(), Some(2), "it overwrites nothing");
    assert_eq!(skep(&data, &["workers", "rm", "app"]).status.code(), Some(2), "a worker with actors stays");
    good(&data, &["actors", "delete", actor]);
    assert_eq!(skep(&data, &["actors", "show", actor]).status.code(), Some(4));
    assert_eq!(skep(&data, &["actors", "show", "nonsense"]).status.code(), Some(2));
    good(&data, &["workers", "rm", "app", "--actors", "delete"]);
    assert_eq!(parsed(&data, &["actors", "ls"])["actors"], serde_json::json!([]));
}

#[test]
fn doctor_looks_at_files_of_actors_when_nobody_uses_them() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = folder.path().join("skep.toml");
    fs::write(&config, "[node.log]\nsegment_bytes = 262144\ntrust_any_folder = true\n").unwrap();
    let up = Up::start(&data, Some(&config));
    Up::deploy(&data, folder.path());
    up.read(0);
    let examine = || {
        let done = skep(&data, &["doctor", "--config", config.to_str().unwrap()]);
        String::from_utf8(done.stdout).unwrap()
    };
    assert!(examine().contains("actors: a node runs"), "{}", examine());
    drop(up);
    let said = examine();
    assert!(said.contains("the files of 1 actors are sound"), "{said}");
}

/// A payment is asked for once: killed in the middle of it, the actor says that nobody knows what came of it.
#[test]
fn a_step_that_a_kill_cut_off_is_reported_and_not_repeated() {
    const PAYS: &str = "
import { DurableObject } from 'cloudflare:workers';
export class Payer extends DurableObject {
    async fetch(request) {
        const to = new URL(request.url).searchParams.get('to');
        try {
            return new Response(await this.ctx.step('pay', async () => (await fetch(to)).text()));
        } catch (e) {
            return new Response(`${e.name} ${e.step}`);
        }
    }
}
export default { fetch(request, env) { return env.PAYERS.getByName('a').fetch(request); } };
";
    let folder = tempfile::tempdir().unwrap();
    let (data, config, file) = (folder.path().join("data"), folder.path().join("skep.toml"), folder.path().join("pays.js"));
    fs::write(&config, "[node]\negress = \"any\"\n[node.log]\nsegment_bytes = 262144\ntrust_any_folder = true\n").unwrap();
    fs::write(&file, PAYS).unwrap();
    let bank = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("http://{}/", bank.local_addr().unwrap());
    let up = Up::start(&data, Some(&config));
    good(&data, &["deploy", file.to_str().unwrap(), "--actors", "PAYERS=Payer"]);
    let asking = {
        let url = format!("{}/w/pays/?to={to}", up.url);
        thread::spawn(move || drop(ureq::get(url).call()))
    };
    // It is out, so its intent is on the disk.
    let paid = bank.accept().unwrap();
    drop(up);
    asking.join().unwrap();
    drop(paid);
    bank.set_nonblocking(true).unwrap();
    let up = Up::start(&data, Some(&config));
    for _ in 0..2 {
        let mut said = ureq::get(format!("{}/w/pays/?to={to}", up.url)).call().unwrap();
        assert_eq!(said.body_mut().read_to_string().unwrap(), "UnfinishedStepError pay");
    }
    assert!(bank.accept().is_err(), "it paid twice");
}

/// What clients know of an actor.
#[derive(Default, Clone, Copy)]
struct Known {
    acknowledged: u64,
    attempted: u64,
}

/// Adds to actors until the node is gone.
fn hammer(url: &str, thread: usize, known: &Mutex<BTreeMap<usize, Known>>, stop: &AtomicBool) {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
    // Each thread has actors of its own: what it is told is then the whole truth about them.
    let own: Vec<usize> = (0..ACTORS).filter(|actor| actor % 2 == thread).collect();
    for actor in own.iter().cycle() {
        if stop.load(SeqCst) {
            return;
        }
        known.lock().unwrap().entry(*actor).or_default().attempted += 1;
        let Ok(mut answer) = agent.post(format!("{url}/w/app/a{actor}")).send_empty() else { return };
        let Ok(text) = answer.body_mut().read_to_string() else { return };
        let n: u64 = text.split(' ').next().unwrap().parse().unwrap();
        let mut known = known.lock().unwrap();
        let one = known.entry(*actor).or_default();
        assert!(n > one.acknowledged, "actor {actor} acknowledged {n} after {}", one.acknowledged);
        one.acknowledged = n;
    }
}

/// Kills the node with SIGKILL at seeded moments while clients write. What recovers is all that was acknowledged, and at most what was attempted.
fn kills(cycles: u64, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = folder.path().join("skep.toml");
    // Actors fall asleep in between, so that kills hit checkpoints and wakes too.
    fs::write(&config, "[node.actors]\nidle_ms = 50\ncheckpoint_every = 20\n[node.log]\nsegment_bytes = 262144\nlog_bytes = 1048576\ntrust_any_folder = true\n").unwrap();
    let up = Up::start(&data, Some(&config));
    Up::deploy(&data, folder.path());
    drop(up);
    let known = Arc::new(Mutex::new(BTreeMap::<usize, Known>::new()));
    let mut random = seed;
    for cycle in 0..cycles {
        let up = Up::start(&data, Some(&config));
        for (actor, one) in known.lock().unwrap().iter_mut() {
            let (n, count) = up.read(*actor);
            assert_eq!(n, count, "cycle {cycle}, seed {seed}: actor {actor} has gaps");
            assert!(
                n >= one.acknowledged,
                "cycle {cycle}, seed {seed}: actor {actor} lost {} of {}",
                one.acknowledged - n,
                one.acknowledged
            );
            assert!(n <= one.attempted, "cycle {cycle}, seed {seed}: actor {actor} did more than was asked: {n} of {}", one.attempted);
            // What was in flight when it was killed has happened or not; from here on it is known.
            *one = Known { acknowledged: n, attempted: n };
        }
        // xorshift64*
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        let life = 60 + random.wrapping_mul(0x2545_F491_4F6C_DD1D) % 400;
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..2)
            .map(|thread| {
                let (url, known, stop) = (up.url.clone(), Arc::clone(&known), Arc::clone(&stop));
                thread::spawn(move || hammer(&url, thread, &known, &stop))
            })
            .collect();
        thread::sleep(Duration::from_millis(life));
        drop(up);
        stop.store(true, SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
    let done: u64 = known.lock().unwrap().values().map(|one| one.acknowledged).sum();
    assert!(done >= cycles, "hardly anything was ever acknowledged: {done}");
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    kills(20, 0x5EED_0003);
}

#[test]
#[ignore = "minutes; part of `make soak`"]
fn nothing_acknowledged_is_lost_to_a_thousand_kills() {
    for seed in 1..=10 {
        kills(100, seed * 0x9E37_79B9);
    }
}
