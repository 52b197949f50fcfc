// AsyncLocalStorage across everything that can carry a continuation. A worker module: prints one PASS or FAIL line per case, then a summary.
// Run by hand or by the engine's tests; needs no network.
import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import { EventEmitter } from "node:events";
import { Readable, Transform, pipeline } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

const als = new AsyncLocalStorage();
const other = new AsyncLocalStorage();
const store = () => als.getStore();

function same(actual, expected) {
  if (actual !== expected) throw new Error(`expected ${String(expected)}, got ${String(actual)}`);
}

const cases = {
  "getStore outside is undefined": () => same(store(), undefined),
  "run: inside, nested, after": () => {
    als.run(1, () => {
      same(store(), 1);
      als.run(2, () => same(store(), 2));
      same(store(), 1);
    });
    same(store(), undefined);
  },
  "run restores after a throw": () => {
    try {
      als.run(1, () => {
        throw new Error("x");
      });
    } catch {}
    same(store(), undefined);
  },
  "run passes arguments and the result": () => same(als.run(1, (a, b) => a + b + store(), 2, 3), 6),
  "exit and disable": () => {
    als.run(1, () => {
      als.exit(() => same(store(), undefined));
      same(store(), 1);
      als.disable();
      same(store(), undefined);
    });
  },
  "default value": () => {
    const d = new AsyncLocalStorage({ defaultValue: 7, name: "d" });
    same(d.getStore(), 7);
    d.run(undefined, () => same(d.getStore(), undefined));
    same(d.name, "d");
  },
  "two storages are independent": () => {
    als.run(1, () => other.run("a", () => als.run(2, () => (same(store(), 2), same(other.getStore(), "a")))));
    same(other.getStore(), undefined);
  },
  "await of a resolved promise": () => als.run(1, async () => (await null, same(store(), 1))),
  "await of a pending promise resolved elsewhere": async () => {
    const { promise, resolve } = Promise.withResolvers();
    const waiting = als.run(1, async () => (await promise, same(store(), 1)));
    als.run(2, resolve);
    await waiting;
    same(store(), undefined);
  },
  "await of a rejected promise, in catch and finally": () =>
    als.run(1, async () => {
      try {
        await Promise.reject(new Error("x"));
      } catch {
        same(store(), 1);
      } finally {
        await 0;
        same(store(), 1);
      }
    }),
  "interleaved async functions": async () => {
    const run = (id, n) => als.run(id, async () => { for (let i = 0; i < n; i++) { await null; same(store(), id); } });
    await Promise.all([run("a", 5), run("b", 3), run("c", 7)]);
    same(store(), undefined);
  },
  "then keeps the context of its call": async () => {
    const { promise, resolve } = Promise.withResolvers();
    const seen = [als.run(1, () => promise.then(store)), als.run(2, () => promise.then(store))];
    als.run(3, resolve);
    same((await Promise.all(seen)).join(), "1,2");
  },
  "then on an already settled promise": async () => {
    const p = Promise.resolve();
    same(await als.run(1, () => p.then(store)), 1);
  },
  "catch and finally": async () => {
    const p = Promise.reject(new Error("x"));
    same(await als.run(1, () => p.catch(store)), 1);
    let seen;
    await als.run(2, () => Promise.resolve().finally(() => (seen = store())));
    same(seen, 2);
  },
  "chained thens": async () => same(await als.run(1, () => Promise.resolve().then(() => 0).then(() => Promise.resolve()).then(store)), 1),
  "Promise.all, race, allSettled, any": async () => {
    for (const name of ["all", "race", "allSettled", "any"]) same(await als.run(name, () => Promise[name]([sleep(1)]).then(store)), name);
  },
  "thenable: then is called in the context of the await": () =>
    als.run(1, async () => {
      let inside;
      await { then(resolve) { inside = store(); resolve(); } };
      same(inside, 1);
      same(store(), 1);
    }),
  "thenable resolved from another context": () =>
    als.run(1, async () => {
      await { then: (resolve) => als.run(2, () => setTimeout(resolve, 1)) };
      same(store(), 1);
    }),
  "promise returned from an async function": async () => {
    const inner = () => als.run(2, async () => (await null, store()));
    await als.run(1, async () => { same(await inner(), 2); same(store(), 1); });
  },
  "setTimeout": () => als.run(1, () => new Promise((resolve, reject) => setTimeout(() => { try { same(store(), 1); resolve(); } catch (e) { reject(e); } }, 1))),
  "setTimeout does not leak into its setter": async () => {
    als.run(1, () => setTimeout(() => {}, 0));
    await sleep(2);
    same(store(), undefined);
  },
  "setInterval": () =>
    als.run(1, async () => {
      const seen = [];
      await new Promise((resolve) => { const t = setInterval(() => { seen.push(store()); if (seen.length === 3) { clearInterval(t); resolve(); } }, 1); });
      same(seen.join(), "1,1,1");
    }),
  "setImmediate": () => als.run(1, async () => same(await new Promise((resolve) => setImmediate(() => resolve(store()))), 1)),
  "queueMicrotask": () => als.run(1, async () => same(await new Promise((resolve) => queueMicrotask(() => resolve(store()))), 1)),
  "queueMicrotask does not leak": async () => {
    als.run(1, () => queueMicrotask(() => {}));
    same(await new Promise((resolve) => queueMicrotask(() => resolve(store()))), undefined);
  },
  "process.nextTick": () => als.run(1, async () => same(await new Promise((resolve) => process.nextTick(() => resolve(store()))), 1)),
  "scheduler.wait": () => als.run(1, async () => { await scheduler.wait(1); same(store(), 1); }),
  "enterWith until the end of the async function": async () => {
    await (async () => { await null; als.enterWith(5); await null; same(store(), 5); })();
    same(store(), undefined);
  },
  "enterWith in a callback does not reach its siblings": async () => {
    const p = Promise.resolve();
    const a = p.then(() => als.enterWith(9));
    const b = p.then(store);
    await a;
    same(await b, undefined);
  },
  "async generator: body runs in the context of each next": async () => {
    async function* numbers() { for (;;) { await null; yield store(); } }
    const g = numbers();
    same((await als.run(1, () => g.next())).value, 1);
    same((await als.run(2, () => g.next())).value, 2);
  },
  "for await": () =>
    als.run(1, async () => {
      async function* numbers() { yield 1; await sleep(1); yield 2; }
      for await (const n of numbers()) { same(store(), 1); void n; }
      same(store(), 1);
    }),
  "sync generator runs in its caller's context": () => {
    function* g() { yield store(); yield store(); }
    const it = als.run(1, g);
    same(it.next().value, undefined);
    same(als.run(2, () => it.next().value), 2);
  },
  "Array.fromAsync": () => als.run(1, async () => same((await Array.fromAsync([1, 2], () => store())).join(), "1,1")),
  "dynamic import": () => als.run(1, async () => { await import("node:util"); same(store(), 1); }),
  "snapshot and bind": () => {
    const [run, f] = als.run(1, () => [AsyncLocalStorage.snapshot(), AsyncLocalStorage.bind((x) => [store(), x])]);
    same(als.run(2, () => run(store)), 1);
    same(als.run(2, () => f("y")).join(), "1,y");
    same(run((a, b) => a + b, 1, 2), 3);
  },
  "AsyncResource": () => {
    const r = als.run(1, () => new AsyncResource("test"));
    same(als.run(2, () => r.runInAsyncScope(store)), 1);
    same(als.run(2, () => r.bind(store)()), 1);
    same(r.runInAsyncScope(function (x) { return this.y + x; }, { y: 1 }, 2), 3);
  },
  "EventEmitter listeners run in the emitter's context": () => {
    const e = new EventEmitter();
    let seen;
    als.run(1, () => e.on("x", () => (seen = store())));
    als.run(2, () => e.emit("x"));
    same(seen, 2);
  },
  "EventTarget listeners run in the dispatcher's context": () => {
    const t = new EventTarget();
    let seen;
    als.run(1, () => t.addEventListener("x", () => (seen = store())));
    als.run(2, () => t.dispatchEvent(new Event("x")));
    same(seen, 2);
  },
  "ReadableStream: pull runs in the context of its construction or read, reads keep theirs": () =>
    als.run(1, async () => {
      const s = new ReadableStream({ async pull(c) { await null; c.enqueue(1); c.close(); } });
      for await (const chunk of s) { same(store(), 1); void chunk; }
      same(store(), 1);
    }),
  "TransformStream: readers keep their own context": async () => {
    const { readable, writable } = new TransformStream();
    const reading = als.run("r", async () => { const { value } = await readable.getReader().read(); return `${value}${store()}`; });
    await als.run("w", async () => { const w = writable.getWriter(); w.write("x"); await null; same(store(), "w"); });
    same(await reading, "xr");
  },
  "pipeTo": () => als.run(1, async () => { await new Blob(["x"]).stream().pipeTo(new WritableStream({ write() {} })); same(store(), 1); }),
  "node streams": () =>
    als.run(1, async () => {
      const out = [];
      await new Promise((resolve, reject) =>
        pipeline(Readable.from(["a", "b"]), new Transform({ objectMode: true, transform(c, _, done) { done(null, c + store()); } }), async (source) => { for await (const c of source) out.push(c); }, (e) => (e ? reject(e) : resolve())),
      );
      same(out.join(), "a1,b1");
      same(store(), 1);
    }),
  "Response bodies": () => als.run(1, async () => { await new Response("x").text(); same(store(), 1); await new Response(new Blob(["y"]).stream()).text(); same(store(), 1); }),
  "crypto.subtle": () => als.run(1, async () => { await crypto.subtle.digest("SHA-256", new Uint8Array(4)); same(store(), 1); }),
  "MessageChannel delivers in a fresh turn": async () => {
    const { port1, port2 } = new MessageChannel();
    const got = new Promise((resolve) => (port2.onmessage = (e) => resolve(e.data)));
    als.run(1, () => port1.postMessage(3));
    same(await got, 3);
    port1.close();
    same(store(), undefined);
  },
  "unhandled errors do not disturb the context": () => als.run(1, async () => { await Promise.allSettled([Promise.reject(1)]); same(store(), 1); }),
  "deep chains stay cheap": () =>
    als.run(0, async () => { for (let i = 0; i < 2000; i++) { als.enterWith(i); await null; } same(store(), 1999); }),
};

export async function runAll(print) {
  let failed = 0;
  for (const [name, f] of Object.entries(cases)) {
    try {
      await als.exit(f);
      print(`PASS ${name}`);
    } catch (e) {
      failed++;
      print(`FAIL ${name}: ${e?.message ?? e}`);
    }
  }
  print(`${Object.keys(cases).length - failed} passed, ${failed} failed`);
  return failed;
}

export default {
  async fetch() {
    const lines = [];
    const failed = await runAll((line) => lines.push(line));
    return new Response(lines.join("\n") + "\n", { status: failed === 0 ? 200 : 500 });
  },
  test: () => runAll(console.log),
};
