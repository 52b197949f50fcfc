/**
 * `ctx.step(name, fn)`: an effect outside that is not to happen twice. The intent is written before `fn` runs, its result after; a later call with
 * the same name gives the result. A step that was begun and whose end is not known — the process died, the isolate slept — is reported, never
 * repeated: whoever knows what it did calls `ctx.step.forget(name)`.
 */
import { host } from "../host";
import { state } from "../state";
import { callback, text } from "./arguments";
import { restored, stored } from "./kv";

const STATE = "DurableObjectState";

type Began = ["new"] | ["done", Uint8Array] | ["failed", Uint8Array] | ["unfinished", number];

/** A step was begun before and nobody knows how it ended. */
export class UnfinishedStepError extends Error {
  readonly step: string;
  /** When it was begun. */
  readonly started: Date;

  constructor(step: string, started: number) {
    super(`The step "${step}" was begun at ${new Date(started).toISOString()} and did not finish; whether it had its effect is not known.`);
    this.step = step;
    this.started = new Date(started);
  }
}

Object.defineProperty(UnfinishedStepError.prototype, "name", { value: "UnfinishedStepError", writable: true, configurable: true });

/** Whether an operation's end was lost with the isolate's sleep: what it did is not known. */
function isLost(e: unknown): boolean {
  return e instanceof DOMException && e.name === "HibernationError";
}

/** A failure as data; what cannot be kept as it is, as the error that it says. */
function storedFailure(e: unknown): Uint8Array {
  try {
    return stored(e);
  } catch {
    return stored(Error.isError(e) ? Object.assign(new Error(`${e.message}`), { name: `${e.name}` }) : new Error(String(e)));
  }
}

async function perform(name: string, began: number, f: () => unknown): Promise<unknown> {
  let value: unknown;
  let bytes: Uint8Array;
  try {
    value = await f();
    bytes = stored(value);
  } catch (e) {
    if (isLost(e)) throw new UnfinishedStepError(name, began);
    host.call("actor.step.end", name, false, storedFailure(e));
    throw e;
  }
  host.call("actor.step.end", name, true, bytes);
  return value;
}

async function step(_name: string, f: () => unknown): Promise<unknown> {
  const name = text(arguments, 1, "step", STATE);
  const action = callback<() => unknown>(f, 2, "step", STATE);
  const underWay = state.actor!.steps?.get(name);
  if (underWay !== undefined) return underWay;
  const began = host.call("actor.step.begin", name) as Began;
  switch (began[0]) {
    case "done": return restored(began[1]);
    case "failed": throw restored(began[1]);
    case "unfinished": throw new UnfinishedStepError(name, began[1]);
  }
  const steps = (state.actor!.steps ??= new Map<string, Promise<unknown>>());
  const result = perform(name, host.now(), action);
  steps.set(name, result);
  const over = (): void => void steps.delete(name);
  result.then(over, over);
  return result;
}

/** Forgets what is known of a step: the next call with its name runs it. */
function forget(_name: string): void {
  const name = text(arguments, 1, "forget", "step");
  if (state.actor!.steps?.has(name)) throw new Error(`The step "${name}" is under way.`);
  host.call("actor.step.forget", name);
}

export type Steps = typeof step & { forget: typeof forget; UnfinishedStepError: typeof UnfinishedStepError };

export function steps(): Steps {
  return Object.assign((name: string, f: () => unknown) => step(name, f), { forget, UnfinishedStepError });
}
