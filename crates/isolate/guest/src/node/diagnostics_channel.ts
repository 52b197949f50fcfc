/** `node:diagnostics_channel`: named channels, and tracing channels made of five of them. */
import { host } from "../host";
import { checkFunction, invalidArgType } from "./errors";
import type { AsyncLocalStorage } from "./async_hooks";

type Name = string | symbol;
type Subscriber = (message: unknown, name: Name) => void;
type Fn = (...args: any[]) => any;

const apply = Reflect.apply;
let channels: Map<Name, Channel> | undefined;

export class Channel {
  readonly name: Name;
  #subscribers: Subscriber[] = [];
  #stores: Map<AsyncLocalStorage, ((data: unknown) => unknown) | undefined> | undefined;

  constructor(name: Name) {
    this.name = name;
  }

  get hasSubscribers(): boolean {
    return this.#subscribers.length > 0 || (this.#stores?.size ?? 0) > 0;
  }

  subscribe(subscriber: Subscriber): void {
    checkFunction(subscriber, "subscription");
    this.#subscribers = [...this.#subscribers, subscriber];
  }

  unsubscribe(subscriber: Subscriber): boolean {
    const i = this.#subscribers.indexOf(subscriber);
    if (i < 0) return false;
    this.#subscribers = this.#subscribers.toSpliced(i, 1);
    return true;
  }

  bindStore(store: AsyncLocalStorage, transform?: (data: unknown) => unknown): void {
    (this.#stores ??= new Map()).set(store, transform);
  }

  unbindStore(store: AsyncLocalStorage): boolean {
    return this.#stores?.delete(store) ?? false;
  }

  publish(message: unknown): void {
    for (const f of this.#subscribers) {
      try {
        f(message, this.name);
      } catch (e) {
        // A subscriber's failure is not the publisher's.
        const error = Error.isError(e) ? e : new Error(String(e));
        host.call("exception", `${error.name}`, `${error.message}`, `${error.stack}`);
      }
    }
  }

  runStores(data: unknown, f: Fn, self?: unknown, ...args: unknown[]): unknown {
    let run = (): unknown => {
      this.publish(data);
      return apply(f, self, args);
    };
    for (const [store, transform] of this.#stores ?? []) {
      const next = run;
      run = () => store.run(transform === undefined ? data : transform(data), next);
    }
    return run();
  }
}

export function channel(name: Name): Channel {
  if (typeof name !== "string" && typeof name !== "symbol") throw invalidArgType("channel", ["string", "symbol"], name);
  let found = channels?.get(name);
  if (found === undefined) (channels ??= new Map()).set(name, (found = new Channel(name)));
  return found;
}

const events = ["start", "end", "asyncStart", "asyncEnd", "error"] as const;
type Event = (typeof events)[number];

export class TracingChannel {
  declare start: Channel;
  declare end: Channel;
  declare asyncStart: Channel;
  declare asyncEnd: Channel;
  declare error: Channel;

  constructor(source: string | Record<Event, Channel>) {
    for (const event of events) this[event] = typeof source === "string" ? channel(`tracing:${source}:${event}`) : source[event];
  }

  get hasSubscribers(): boolean {
    return events.some((event) => this[event].hasSubscribers);
  }

  subscribe(subscribers: Partial<Record<Event, Subscriber>>): void {
    for (const event of events) if (subscribers[event]) this[event].subscribe(subscribers[event]);
  }

  unsubscribe(subscribers: Partial<Record<Event, Subscriber>>): boolean {
    return events.map((event) => !subscribers[event] || this[event].unsubscribe(subscribers[event])).every(Boolean);
  }

  traceSync(f: Fn, context: Record<string, unknown> = {}, self?: unknown, ...args: unknown[]): unknown {
    return this.start.runStores(context, () => {
      try {
        return (context.result = apply(f, self, args));
      } catch (e) {
        context.error = e;
        this.error.publish(context);
        throw e;
      } finally {
        this.end.publish(context);
      }
    });
  }

  tracePromise(f: Fn, context: Record<string, unknown> = {}, self?: unknown, ...args: unknown[]): Promise<unknown> {
    const settled = (): void => {
      this.asyncStart.publish(context);
      this.asyncEnd.publish(context);
    };
    const failed = (e: unknown): never => {
      context.error = e;
      this.error.publish(context);
      settled();
      throw e;
    };
    return this.start.runStores(context, () => {
      try {
        return Promise.resolve(apply(f, self, args)).then((value) => {
          context.result = value;
          settled();
          return value as unknown;
        }, failed);
      } catch (e) {
        context.error = e;
        this.error.publish(context);
        throw e;
      } finally {
        this.end.publish(context);
      }
    }) as Promise<unknown>;
  }

  traceCallback(f: Fn, position = -1, context: Record<string, unknown> = {}, self?: unknown, ...args: unknown[]): unknown {
    const callback: unknown = args.at(position);
    checkFunction(callback, "callback");
    const { asyncStart, asyncEnd, error } = this;
    const wrapped = function (this: unknown, e: unknown, value: unknown): unknown {
      if (e) {
        context.error = e;
        error.publish(context);
      } else context.result = value;
      return asyncStart.runStores(context, () => {
        try {
          return apply(callback, wrapped, [e, value]) as unknown;
        } finally {
          asyncEnd.publish(context);
        }
      });
    };
    args.splice(position, 1, wrapped);
    return this.start.runStores(context, () => {
      try {
        return apply(f, self, args) as unknown;
      } catch (e) {
        context.error = e;
        error.publish(context);
        throw e;
      } finally {
        this.end.publish(context);
      }
    });
  }
}

export const exports = {
  Channel,
  channel,
  hasSubscribers: (name: Name) => channels?.get(name)?.hasSubscribers ?? false,
  subscribe: (name: Name, f: Subscriber) => channel(name).subscribe(f),
  unsubscribe: (name: Name, f: Subscriber) => channel(name).unsubscribe(f),
  tracingChannel: (source: string | Record<Event, Channel>) => new TracingChannel(source),
};
