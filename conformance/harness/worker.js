/**
 * The worker around a folder of cases. `GET /manifest` lists them, `GET /run/<n>` runs one and answers with its record,
 * `/serve/<n>/…` hands the request to the case's own `serve`. Driven by run.mjs; the list of cases is the module `cases:list`, which the
 * bundler writes. It judges nothing.
 */
import { errorName, record, thrown } from "./record.js";
import { topics } from "cases:list";
export * from "cases:entrypoints";

const all = topics.flatMap(({ topic, cases }) =>
  Object.entries(cases).map(([name, body]) => {
    if (typeof body === "function") return { topic, name, run: body };
    if (Array.isArray(body)) return { topic, name, run: body[0], ...(body.length > 1 ? { expect: record(body[1]) } : {}) };
    return { topic, name, ...body, ...("expect" in body ? { expect: record(body.expect) } : {}) };
  }));

/** What a case gets: the outside world and a few ways to write down errors. */
class Test {
  constructor(request, env, ctx) {
    this.request = request;
    this.env = env;
    this.ctx = ctx;
    this.origin = env.ORIGIN;
  }
  /** The error's word, or `{ ok: value }` when nothing was thrown. */
  error(f) {
    try {
      const value = typeof f === "function" ? f() : f;
      if (value && typeof value !== "string" && typeof value.then === "function") return value.then((ok) => ({ ok }), errorName);
      return { ok: value };
    } catch (e) {
      return errorName(e);
    }
  }
  /** Like `error`, but "pending" when nothing happened in time: some runtimes leave such promises hanging. */
  settled(promise, ms = 150) {
    return Promise.race([this.error(promise), this.sleep(ms).then(() => "pending")]);
  }
  /** `f` over each input: its result, or the word of its error. */
  each(inputs, f) {
    return inputs.map((input) => {
      try {
        return f(input);
      } catch (e) {
        return errorName(e);
      }
    });
  }
  /** The same for asynchronous `f`, one after the other. */
  async eachAsync(inputs, f) {
    const out = [];
    for (const input of inputs) {
      try {
        out.push(await f(input));
      } catch (e) {
        out.push(errorName(e));
      }
    }
    return out;
  }
  sleep(ms) {
    return new Promise((done) => setTimeout(done, ms));
  }
  /** All chunks of a stream. */
  async chunks(stream) {
    const out = [];
    for (const reader = stream.getReader(); ;) {
      const { value, done } = await reader.read();
      if (done) return out;
      out.push(value);
    }
  }
}

async function run(found, t) {
  try {
    return { value: record(await found.run(t)) };
  } catch (e) {
    return thrown(e);
  }
}

export default {
  async fetch(request, env, ctx) {
    const [, what, n] = new URL(request.url).pathname.split("/");
    if (what === "manifest") {
      return Response.json(all.map(({ topic, name, expect, send, serve }) => ({ topic, name, expect, send, serve: !!serve })));
    }
    const found = all[Number(n)];
    if (!found) return new Response("no such case", { status: 404 });
    if (what === "serve") return found.serve(request, env, ctx);
    return Response.json(await run(found, new Test(request, env, ctx)));
  },
};
