/** What each case is given, in a worker and in an actor. Runs inside the worker under test. It judges nothing. */
import { errorName } from "./record.js";

/** The promise of a call by RPC can be called itself, so what is a promise is looked at first. */
const begun = (f) => (typeof f === "function" && typeof f.then !== "function" ? f() : f);

export class Test {
  constructor(request, env, ctx) {
    this.request = request;
    this.env = env;
    this.ctx = ctx;
    this.origin = env.ORIGIN;
  }
  /** The error's word, or `{ ok: value }` when nothing was thrown. */
  error(f) {
    try {
      const value = begun(f);
      if (value && typeof value !== "string" && typeof value.then === "function") return value.then((ok) => ({ ok }), errorName);
      return { ok: value };
    } catch (e) {
      return errorName(e);
    }
  }
  /** The error as a user reads it, `"TypeError: no such thing"`, or `{ ok: value }`. */
  async said(f) {
    try {
      return { ok: await begun(f) };
    } catch (e) {
      return `${e?.name}: ${e?.message}`;
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
