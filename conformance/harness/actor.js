/**
 * Cases that run inside an actor. `inside(topic, cases)` gives cases for a folder's list, each of which runs in a new actor of the class that
 * `_entrypoints.js` exports as `Inside` (`export class Inside extends Stage {}`). What they return is recorded within the actor.
 */
import { DurableObject } from "cloudflare:workers";
import { record, thrown } from "./record.js";
import { Test } from "./test.js";

const bodies = new Map();

/** As `{ name: body }` or `{ name: [body, expected] }`; a body is given a `Test` with the actor's `ctx`, `storage`, `sql` and `actor`. */
export function inside(topic, cases) {
  return Object.fromEntries(Object.entries(cases).map(([name, entry]) => {
    const [body, ...expect] = Array.isArray(entry) ? entry : [entry];
    const key = `${topic}/${name}`;
    bodies.set(key, body);
    return [name, [async (t) => {
      const out = await fresh(t.env.INSIDE).play(key);
      return "value" in out ? out.value : out;
    }, ...expect]];
  }));
}

/** The stub of an actor that was not there before. */
export const fresh = (namespace) => namespace.get(namespace.newUniqueId());

export class Stage extends DurableObject {
  async play(key) {
    const t = Object.assign(new Test(undefined, this.env, this.ctx), { storage: this.ctx.storage, sql: this.ctx.storage.sql, actor: this });
    try {
      return { value: record(await bodies.get(key)(t)) };
    } catch (e) {
      return thrown(e);
    }
  }
  /** So that alarms may be set. None rings while a case runs. */
  alarm() {}
}
