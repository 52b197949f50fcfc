/** Read, change and write one number in an actor's database for each request; the path names the actor. Both sides run this file. */
import { DurableObject } from "cloudflare:workers";

export class Counter extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.sql = ctx.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)");
    this.sql.exec("INSERT OR IGNORE INTO counters VALUES ('n', 0)");
  }

  async fetch() {
    const { value } = this.sql.exec("SELECT value FROM counters WHERE name = 'n'").one();
    this.sql.exec("UPDATE counters SET value = ? WHERE name = 'n'", value + 1);
    return Response.json({ value: value + 1 });
  }
}

export default {
  fetch(request, env) {
    return env.COUNTERS.getByName(new URL(request.url).pathname).fetch(request);
  },
};
