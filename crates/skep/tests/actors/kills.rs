//! SIGKILL at seeded moments while clients write to actors.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::house::{APP, Up, config, good};

/// Actors of the kill test.
const ACTORS: usize = 6;

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
    // Actors fall asleep in between, so that kills hit checkpoints and wakes too.
    let config = config(folder.path(), "log_bytes = 1048576\n[node.actors]\nidle_ms = 50\ncheckpoint_every = 20\n");
    let up = Up::start(&data, &config);
    Up::deploy(&data, folder.path(), APP);
    drop(up);
    let known = Arc::new(Mutex::new(BTreeMap::<usize, Known>::new()));
    let mut random = seed;
    for cycle in 0..cycles {
        let up = Up::start(&data, &config);
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

/// Found by the soak: when the log had no record after its last checkpoint any more, an actor did not start again.
#[test]
fn an_actor_whose_records_are_all_in_its_file_wakes_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = config(folder.path(), "log_bytes = 0\n[node.actors]\nidle_ms = 60000\n");
    let up = Up::start(&data, &config);
    Up::deploy(&data, folder.path(), APP);
    for n in 1..=6 {
        assert_eq!(up.call("POST", 0), (200, format!("{n} {n}")));
        if n == 3 {
            good(&data, &["actors", "checkpoint", "app/Counter/a0"]);
        }
    }
    // Twice as long as it takes to look whether the log is crowded, and more.
    thread::sleep(Duration::from_millis(1_500));
    drop(up);
    assert_eq!(Up::start(&data, &config).read(0), (6, 6));
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
    let up = Up::start(&data, &config);
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
    let up = Up::start(&data, &config);
    for _ in 0..2 {
        let mut said = ureq::get(format!("{}/w/pays/?to={to}", up.url)).call().unwrap();
        assert_eq!(said.body_mut().read_to_string().unwrap(), "UnfinishedStepError pay");
    }
    assert!(bank.accept().is_err(), "it paid twice");
}
