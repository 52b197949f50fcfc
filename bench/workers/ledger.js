/**
 * Actors of a size: `/<name>/<what>`. `fill?mb=` gives one a database and a heap to hibernate, `touch` is the smallest answer, `spawn?from=&n=` makes
 * actors with one row, `alarms?from=&n=&at=` sets an alarm in each, `fired?from=&n=` tells when they rang. Both sides run this file.
 */
import { DurableObject } from "cloudflare:workers";

export class Ledger extends DurableObject {
  history = [];

  constructor(ctx, env) {
    super(ctx, env);
    this.sql = ctx.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, body BLOB)");
  }

  async fill(mb) {
    for (let i = 0; i < mb * 256; i++) this.sql.exec("INSERT INTO entries (body) VALUES (randomblob(3900))");
    for (let i = 0; i < 200; i++) this.history.push({ role: i % 2 ? "user" : "assistant", content: `message number ${i} ${"lorem ipsum dolor sit amet ".repeat(4)}`, at: i });
    return this.sql.databaseSize;
  }

  /** Changes as many pages. */
  change(pages) {
    this.sql.exec("UPDATE entries SET body = randomblob(3900) WHERE id <= ?", pages);
  }

  touch() {
    return this.sql.exec("SELECT count(*) AS n FROM (SELECT 1 FROM entries LIMIT 1)").one().n + this.history.length;
  }

  start() {
    this.sql.exec("INSERT INTO entries (body) VALUES ('begun')");
  }

  async setAlarm(at) {
    await this.ctx.storage.setAlarm(at);
  }

  alarm() {
    this.ctx.storage.kv.put("fired", Date.now());
  }

  fired() {
    return this.ctx.storage.kv.get("fired") ?? 0;
  }
}

const many = (env, from, n, f) => Promise.all(Array.from({ length: n }, (_, i) => f(env.LEDGERS.getByName(`a${from + i}`))));

async function answer(url, env) {
  const [, name, what] = url.pathname.split("/");
  const number = (key) => Number(url.searchParams.get(key));
  const ledger = () => env.LEDGERS.getByName(name);
  switch (what) {
    case "fill": return ledger().fill(number("mb"));
    case "change": return ledger().change(number("pages"));
    case "touch": return ledger().touch();
    case "spawn": return many(env, number("from"), number("n"), (one) => one.start());
    case "alarms": return many(env, number("from"), number("n"), (one) => one.setAlarm(number("at")));
    case "fired": return many(env, number("from"), number("n"), (one) => one.fired());
    default: throw new Error(`nothing does ${what}`);
  }
}

export default {
  async fetch(request, env) {
    return Response.json((await answer(new URL(request.url), env)) ?? null);
  },
};
