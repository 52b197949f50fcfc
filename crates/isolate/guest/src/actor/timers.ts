/**
 * Alarms: the one of `ctx.storage.setAlarm`, and `ctx.timers`, of which an actor has as many as it wants, by names. An alarm is part of the
 * transaction that sets it; it comes as a call to `alarm(info)`, at least once.
 */
import { host } from "../host";
import { state } from "../state";
import { defineInterface } from "../webidl";
import { illegalInvocation, text, time } from "./arguments";

const TIMERS = "DurableObjectTimers";
const RAW = Symbol();

/** Sets an alarm; one in the past is due at once. */
export function setAlarm(name: string, at: number): void {
  const { actor } = state;
  if (actor!.made && typeof actor!.instance!.alarm !== "function") {
    throw new TypeError("Your Durable Object class must have an alarm() handler in order to call setAlarm()");
  }
  host.call("actor.alarm.set", name, Math.max(at, Math.trunc(host.now())));
}

/** Throws for what is no object of the class that methods here belong to. */
let own: (self: unknown) => void;

function nameOf(self: unknown, method: string, args: ArrayLike<unknown>): string {
  own(self);
  const name = text(args, 1, method, TIMERS);
  if (name === "") throw new TypeError("A timer's name cannot be empty.");
  return name;
}

/** Named alarms. The handler gets the name in `info.name`. */
export class DurableObjectTimers {
  readonly #raw = true;

  constructor(raw: unknown) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
  }

  set(_name: string, _at: number | Date): void {
    const name = nameOf(this, "set", arguments);
    const at = time(arguments, 2, "set", TIMERS);
    if (at <= 0) throw new TypeError("set() cannot be called with an alarm time <= 0");
    setAlarm(name, at);
  }

  get(_name: string): number | null {
    return host.call("actor.alarm.get", nameOf(this, "get", arguments)) as number | null;
  }

  /** Whether there was one. */
  delete(_name: string): boolean {
    const name = nameOf(this, "delete", arguments);
    const there = host.call("actor.alarm.get", name) !== null;
    if (there) host.call("actor.alarm.delete", name);
    return there;
  }

  /** When each is due, by name. */
  list(): Map<string, number> {
    const flat = (own(this), host.call("actor.alarm.list")) as (string | number)[];
    const timers = new Map<string, number>();
    for (let i = 0; i < flat.length; i += 2) timers.set(flat[i] as string, flat[i + 1] as number);
    return timers;
  }

  static {
    own = (self) => {
      if (typeof self !== "object" || self === null || !(#raw in self)) throw illegalInvocation();
    };
  }
}

/** What `alarm(info)` gets. */
export class AlarmInvocationInfo {
  declare readonly scheduledTime: number;
  declare readonly retryCount: number;
  declare readonly isRetry: boolean;
  declare readonly name?: string;

  constructor(raw: unknown, name: string, at: number, retries: number) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    const own: Record<string, unknown> = { scheduledTime: at, retryCount: retries, isRetry: retries > 0 };
    if (name !== "") own.name = name;
    for (const key of Object.keys(own)) Object.defineProperty(this, key, { value: own[key], writable: false, enumerable: true, configurable: true });
  }
}

defineInterface(DurableObjectTimers, TIMERS);
defineInterface(AlarmInvocationInfo, "AlarmInvocationInfo");

export const timers = (): DurableObjectTimers => new DurableObjectTimers(RAW);
export const alarmInfo = (name: string, at: number, retries: number): AlarmInvocationInfo => new AlarmInvocationInfo(RAW, name, at, retries);
