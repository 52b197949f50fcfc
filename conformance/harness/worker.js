/**
 * The worker around a folder of cases. `GET /manifest` lists them, `GET /run/<n>` runs one and answers with its record,
 * `/serve/<n>/…` hands the request to the case's own `serve`. Driven by run.mjs; the list of cases is the module `cases:list`, which the
 * bundler writes. It judges nothing.
 */
import { record, thrown } from "./record.js";
import { Test } from "./test.js";
import { topics } from "cases:list";
export * from "cases:entrypoints";

const all = topics.flatMap(({ topic, cases }) =>
  Object.entries(cases).map(([name, body]) => {
    if (typeof body === "function") return { topic, name, run: body };
    if (Array.isArray(body)) return { topic, name, run: body[0], ...(body.length > 1 ? { expect: record(body[1]) } : {}) };
    return { topic, name, ...body, ...("expect" in body ? { expect: record(body.expect) } : {}) };
  }));

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
