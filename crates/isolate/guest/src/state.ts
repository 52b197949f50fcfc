/**
 * The mutable variables of the internals, all in one object. A live isolate pays for each page of the image that it writes to: variables of
 * their own would be spread over several. Everything is made on first use and lies outside of the image then.
 */
import type { Pending } from "./host";
import type { Timeout } from "./timers";
import type { WasmState } from "./webassembly";
import type { ActorHeap } from "./actor/instance";

export const state = {
  /** host.ts: starts that wait for their completion, and the last id given. */
  pending: undefined as Map<number, Pending> | undefined,
  lastStart: 0,

  /** timers.ts: the heap, the last id or order given, what runs at the end of this turn, the deadline told to the host (NaN: unknown). */
  heap: undefined as Timeout[] | undefined,
  lastTimer: 0,
  turnEnds: undefined as (() => void)[] | undefined,
  running: undefined as Timeout | undefined,
  armed: Infinity,

  /** report.ts: rejections without a handler in this turn, those already told, and whether an `error` event is being fired. */
  rejected: undefined as { promise: Promise<unknown>; reason: unknown; context: unknown }[] | undefined,
  notified: undefined as WeakSet<Promise<unknown>> | undefined,
  reporting: false,

  /** console.ts: group indentation, counters and timers by label. */
  indentation: "",
  counts: undefined as Map<string, number> | undefined,
  timers: undefined as Map<string, number> | undefined,

  /** timers.ts: timers that wait until the input gate is given back. host.ts: how often this isolate was woken. */
  heldTimers: undefined as Timeout[] | undefined,
  wakes: 0,

  /** actor/: everything that an actor keeps. */
  actor: undefined as ActorHeap | undefined,

  /** tail.ts: whether somebody gets a trace of each call of this worker. */
  tailed: false,
  /** webassembly.ts: everything that it keeps. */
  wasm: undefined as WasmState | undefined,
};
