//! Snapshots, forks, differences and the history of a worker's sandboxes, and workers that reach for what is not theirs.

use serde_json::{Value, json};

use super::{ask, end, house};
use crate::house::House;

const WORKER: &str = r#"
const code = async (f) => { try { return await f() ?? 'done' } catch (e) { return `${e.code ?? e.name} ${e.httpStatus ?? ''}`.trim() } };
const sh = async (box, line, options) => (await box.exec(line, options)).stdout.trim();
const cases = {
    async snapshots(box) {
        await sh(box, 'echo one > f');
        const first = await box.createSnapshot({ name: 'first' });
        await sh(box, 'echo two > f; echo new > g');
        await box.startProcess('sleep 1000', { processId: 'sleeps' });
        const listed = (await box.listSnapshots()).map(({ id, name }) => [id === first.id, name]);
        await box.restoreSnapshot(first.id);
        const back = await sh(box, 'cat f; ls');
        const processes = (await box.listProcesses()).length;
        await box.deleteSnapshot(first.id);
        return {
            listed, back, processes, left: (await box.listSnapshots()).length, still: await sh(box, 'cat f'),
            missing: await code(() => box.restoreSnapshot(first)), again: await code(() => box.deleteSnapshot(first.id)),
        };
    },
    async numbers(box) {
        await sh(box, 'echo one > f');
        const changed = await box.exec('echo two > f', { snapshotBefore: true, changes: true });
        const worse = await box.exec('rm f; exit 3');
        // Ends are written down when they have happened, beside the answer.
        while ((await box.history()).some(({ exitCode }) => exitCode === null)) await new Promise((done) => setTimeout(done, 20));
        const history = (await box.history()).map(({ number, command, exitCode, author, changed, snapshotBefore }) => [number, command, exitCode, author, changed, snapshotBefore !== null]);
        const newest = (await box.history({ limit: 1 })).map(({ number }) => number);
        const none = await code(() => box.restoreSnapshot({ beforeCommand: worse.number }));
        await box.restoreSnapshot({ beforeCommand: changed.number });
        return { history, newest, none, back: await sh(box, 'cat f'), unknown: await code(() => box.restoreSnapshot({ beforeCommand: 1e15 })) };
    },
    async forks(box, env) {
        await sh(box, 'mkdir w; echo base > w/both; echo base > w/mine; echo base > w/gone');
        const [a, b] = await box.fork(['try-a', 'try-b']);
        const c = await box.fork('try-c');
        await sh(a, 'echo a > w/both; rm w/gone; echo a > w/new');
        await sh(b, 'echo b > w/both');
        await sh(box, 'echo here > w/mine');
        const diff = (await a.diff()).changes.filter(({ path }) => path.startsWith('/home/user/w')).map(({ path, what, type }) => `${what} ${type} ${path.slice(13)}`);
        const applied = await a.commitBack();
        const after = await sh(box, 'cat w/both w/mine w/new; ls w');
        const { conflicts } = await b.commitBack();
        return {
            names: [a.name, b.name, c.name], kept: await sh(c, 'cat w/both w/gone'), diff, applied: applied.appliedCount, none: applied.conflictCount, after,
            conflicts: conflicts.filter(({ path }) => path.startsWith('/home/user/w')).map(({ path, why }) => [path, why]), still: await sh(box, 'cat w/both'),
            refused: [
                await code(() => box.fork('try-a')), await code(() => box.fork(box.name)), await code(() => box.fork(['x', 'x'])), await code(() => box.fork([])),
                await code(() => box.fork('a\nb')), await code(() => box.fork(Array.from({ length: 101 }, (_, n) => `f${n}`))), await code(() => box.fork(5)),
                await code(() => box.commitBack()),
            ],
            orphan: (await box.destroy(), await code(() => b.commitBack())),
        };
    },
    async take(box) { await sh(box, 'echo secret > f'); return (await box.createSnapshot()).id },
    async steal(box, env, ids) {
        const all = [];
        for (const id of ids) all.push(await code(() => box.restoreSnapshot(id)), await code(() => box.deleteSnapshot(id)));
        return { all, listed: (await box.listSnapshots()).length, sees: await sh(box, 'cat f 2>/dev/null; true') };
    },
    async forms(box) {
        return Promise.all([{}, { id: 's', beforeCommand: 1 }, { beforeCommand: -1 }, { beforeCommand: 'x' }].map((from) => code(() => box.restoreSnapshot(from)))
            .concat([code(() => box.createSnapshot({ name: '' })), code(() => box.createSnapshot({ name: 'x'.repeat(129) })), code(() => box.createSnapshot({ name: 'base' }))]));
    },
    async has(box) { return sh(box, 'cat f') },
};
export default {
    async fetch(request, env) {
        const [, name, box, ...rest] = decodeURIComponent(new URL(request.url).pathname).split('/');
        return Response.json(await cases[name](env.SANDBOX.get(box), env, rest.join('/').split(',')));
    },
};
"#;

async fn with_worker() -> Option<House> {
    let house = house().await?;
    house.deploy("w", WORKER, json!({ "SANDBOX": { "type": "sandboxes" } })).await;
    Some(house)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_goes_back_to_what_it_was() {
    let Some(house) = with_worker().await else { return };
    let said = ask(&house, "w/snapshots/main").await;
    assert_eq!((&said["listed"], &said["back"]), (&json!([[true, "first"]]), &json!("one\nf")), "{said}");
    // A new computer: nothing runs in it.
    assert_eq!((&said["processes"], &said["left"], &said["still"]), (&json!(0), &json!(0), &json!("one")));
    assert_eq!((&said["missing"], &said["again"]), (&json!("SNAPSHOT_NOT_FOUND 404"), &json!("SNAPSHOT_NOT_FOUND 404")));
    assert_eq!(house.node.sandboxes().unwrap().list().len(), 1, "the one before is gone");

    let said = ask(&house, "w/numbers/other").await;
    let history = said["history"].as_array().unwrap();
    assert_eq!(history[0], json!([1, "echo one > f", 0, "worker:w", null, false]));
    assert_eq!(history[1], json!([2, "echo two > f", 0, "worker:w", ["/home/user/f"], true]), "{said}");
    assert_eq!(history[2], json!([3, "rm f; exit 3", 3, "worker:w", null, false]));
    assert_eq!((&said["newest"], &said["back"]), (&json!([3]), &json!("one")));
    assert_eq!((&said["none"], &said["unknown"]), (&json!("SNAPSHOT_NOT_FOUND 404"), &json!("SNAPSHOT_NOT_FOUND 404")));
    end(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forks_go_their_own_way_and_come_back() {
    let Some(house) = with_worker().await else { return };
    let said = ask(&house, "w/forks/main").await;
    assert_eq!((&said["names"], &said["kept"]), (&json!(["try-a", "try-b", "try-c"]), &json!("base\nbase")), "{said}");
    assert_eq!(said["diff"], json!(["changed file both", "removed file gone", "added file new"]), "{said}");
    assert_eq!((&said["none"], &said["after"]), (&json!(0), &json!("a\nhere\na\nboth\nmine\nnew")), "{said}");
    assert!(said["applied"].as_u64().unwrap() >= 3, "{said}");
    assert_eq!((&said["conflicts"], &said["still"]), (&json!([["/home/user/w/both", "changed"]]), &json!("a")), "{said}");
    let refused: Vec<&str> = said["refused"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(refused[0], "SANDBOX_EXISTS 409");
    assert!(refused[1..6].iter().all(|code| *code == "INVALID_ARGUMENT 400"), "{refused:?}");
    assert_eq!(refused[6..], ["TypeError", "NO_PARENT 409"]);
    assert_eq!(said["orphan"], "NO_PARENT 409");
    assert_eq!(house.node.sandboxes().unwrap().list().len(), 3);
    end(house).await;
}

/// Another worker has learned the ids of a sandbox and of a snapshot: neither leads anywhere, and what they stand for stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_ids_lead_nowhere() {
    let Some(house) = with_worker().await else { return };
    house.deploy("other", WORKER, json!({ "SANDBOX": { "type": "sandboxes" } })).await;
    let snapshot = ask(&house, "w/take/main").await;
    let sandbox = house.node.sandboxes().unwrap().list().remove(0).id().to_string();
    let hostile = format!("{},{sandbox},../../x,host,base,{}", snapshot.as_str().unwrap(), "s".repeat(21));
    let said = ask(&house, &format!("other/steal/main/{}", hostile.replace('/', "%2F"))).await;
    for refused in said["all"].as_array().unwrap() {
        assert_eq!(refused, "SNAPSHOT_NOT_FOUND 404", "{said}");
    }
    assert_eq!((&said["listed"], &said["sees"]), (&json!(0), &json!("")));
    // The id of a sandbox is no name of it either.
    assert_eq!(ask(&house, &format!("other/has/{sandbox}")).await, json!(""));
    assert_eq!(ask(&house, "w/has/main").await, json!("secret"));
    assert_eq!(house.node.sandboxes().unwrap().snapshots(Some("worker:w")).unwrap().len(), 1);
    let forms = ask(&house, "other/forms/main").await;
    // Of nothing, and of an id beside which a number does not count.
    let (first, others) = forms.as_array().unwrap().split_at(2);
    assert_eq!(first, [json!("TypeError"), json!("SNAPSHOT_NOT_FOUND 404")]);
    assert!(others.iter().all(|code: &Value| code == "INVALID_ARGUMENT 400"), "{forms}");
    end(house).await;
}
