/**
 * `tracing` of `cloudflare:workers`: spans around parts of a worker's work. Nobody records them here, so a span remembers nothing and says that it is
 * not traced; what code runs inside of one runs all the same.
 */
import { AsyncLocalStorage } from "./node/async_hooks";

type Fn = (...args: unknown[]) => unknown;

const create = {};

function name(given: unknown, count: number, method: string): void {
  if (count < 1 || given === undefined) throw new TypeError(`Failed to execute '${method}' on 'Tracing': parameter 1 is not of type 'string'.`);
  void `${given as string}`;
}

function callback(f: unknown, method: string, place: number): Fn {
  if (typeof f !== "function") throw new TypeError(`Failed to execute '${method}' on 'Tracing': parameter ${place} is not of type 'Function'.`);
  return f as Fn;
}

class Span {
  readonly #brand = true;

  constructor(token?: unknown) {
    if (token !== create) throw new TypeError("Illegal constructor");
  }

  get isTraced(): boolean { return !this.#brand; }
  spanContext(): undefined { void this.#brand; }
  setAttribute(_key: string, _value?: unknown): this { return void this.#brand, this; }
  setAttributes(_attributes: object): this { return void this.#brand, this; }
  recordException(_exception: unknown): this { return void this.#brand, this; }
  updateName(_name: string): this { return void this.#brand, this; }
  setStatus(_status: unknown): this { return void this.#brand, this; }
  end(): void { void this.#brand; }
}

const nothing = new Span(create);
const active = new AsyncLocalStorage<Span>();

class Tracing {
  get Span(): typeof Span { return Span; }

  startSpan(given: string, _options?: unknown): Span {
    name(given, arguments.length, "startSpan");
    return new Span(create);
  }

  /** Calls `f(span, ...args)`; the span is the active one meanwhile. */
  enterSpan(given: string, f: Fn, ...args: unknown[]): unknown {
    name(given, arguments.length, "enterSpan");
    const run = callback(f, "enterSpan", 2);
    const span = new Span(create);
    return active.run(span, () => run(span, ...args));
  }

  /** As in OpenTelemetry: options and a context may stand before the callback, which comes last. */
  startActiveSpan(given: string, ...rest: unknown[]): unknown {
    name(given, arguments.length, "startActiveSpan");
    const run = callback(rest.at(-1), "startActiveSpan", rest.length < 2 ? 2 : rest.length + 1);
    const span = new Span(create);
    return active.run(span, () => run(span));
  }

  getActiveSpan(): Span {
    return active.getStore() ?? nothing;
  }

  withActiveSpan(span: Span, f: Fn): unknown {
    if (!(span instanceof Span)) throw new TypeError("Failed to execute 'withActiveSpan' on 'Tracing': parameter 1 is not of type 'Span'.");
    const run = callback(f, "withActiveSpan", 2);
    return active.run(span, () => run(span));
  }
}

for (const C of [Span, Tracing]) Object.defineProperty(C.prototype, Symbol.toStringTag, { value: C.name, configurable: true });

export const tracing = new Tracing();
