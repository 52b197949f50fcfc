/**
 * The input gate: while a block runs, nothing is delivered but what the block itself began. Blocks that are asked for beside each other run one
 * after another; one asked for inside of another runs within it. The host holds calls, messages and completions back and ends an actor whose gate
 * stays shut too long; the timers are held back here.
 */
import { host } from "../host";
import { AsyncLocalStorage } from "../node/async_hooks";
import { describe } from "../report";
import { state } from "../state";
import { holdTimers, releaseTimers } from "../timers";

/** A block that runs (or, as the outermost one, the actor itself): what is asked for in it waits for what was before. */
export interface Block {
  open: boolean;
  last: Promise<unknown> | undefined;
}

const running = new AsyncLocalStorage<Block>();
const ignore = (): void => {};

export function outermost(): Block {
  return { open: true, last: undefined };
}

function shut(): void {
  const actor = state.actor!;
  if (actor.blocks++ > 0) return;
  host.call("actor.gate", true);
  holdTimers();
}

function reopen(): void {
  const actor = state.actor!;
  if (--actor.blocks > 0) return;
  releaseTimers();
  host.call("actor.gate", false);
}

async function run<T>(block: Block, before: Promise<unknown> | undefined, f: () => T | Promise<T>): Promise<T> {
  try {
    await before;
    return await running.run(block, f);
  } finally {
    block.open = false;
    reopen();
  }
}

/** Runs `f` with the gate shut. What it throws is the caller's to deal with. */
export function blocked<T>(f: () => T | Promise<T>): Promise<T> {
  const within = running.getStore();
  const parent = within?.open === true ? within : state.actor!.outermost;
  const block: Block = { open: true, last: undefined };
  shut();
  const result = run(block, parent.last, f);
  parent.last = result.then(ignore, ignore);
  return result;
}

/** Ends the actor: this turn is undone, calls in flight fail with the reason. Does not return. */
export function reset(reason: [name: string, message: string, stack: string], retryAlarm: boolean): never {
  host.call("actor.abort", reason, retryAlarm);
  throw new Error(reason[1]);
}

/** `blockConcurrencyWhile`: what is thrown in it ends the actor, for it may have been left half made. */
export function blockConcurrencyWhile<T>(f: () => T | Promise<T>): Promise<T> {
  const actor = state.actor!;
  const result = blocked(f);
  if (!actor.made) {
    actor.making.push(result);
    result.catch(ignore);
    return result;
  }
  return result.catch((e: unknown) => reset(describe(e), true));
}
