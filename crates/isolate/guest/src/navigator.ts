/**
 * `navigator`, `self` and `origin`: what a worker may ask about where it runs; and the classes that `globalThis` is an instance of.
 */
import { EventTarget } from "./events";
import { defineInterface } from "./webidl";

let secret: object | undefined = {};

class Navigator {
  #held = true;

  constructor() {
    if (secret === undefined) throw new TypeError("Illegal constructor");
  }

  // Reading the private field is the brand check.
  get userAgent(): string { return (this.#held, "skep"); }
  get hardwareConcurrency(): number { return (this.#held, 1); }
  get language(): string { return (this.#held, "en"); }
  get languages(): readonly string[] { return (this.#held, languages); }
}

const languages = Object.freeze(["en"]);

defineInterface(Navigator, "Navigator");

const navigator = new Navigator();
secret = undefined;

/** What `globalThis` is an instance of. Its members stand on itself. */
export class WorkerGlobalScope extends EventTarget {
  constructor() {
    super();
    throw new TypeError("Illegal constructor");
  }
}

export class ServiceWorkerGlobalScope extends WorkerGlobalScope {}

defineInterface(WorkerGlobalScope, "WorkerGlobalScope");
defineInterface(ServiceWorkerGlobalScope, "ServiceWorkerGlobalScope");
Object.setPrototypeOf(globalThis, ServiceWorkerGlobalScope.prototype);
delete (globalThis as { [Symbol.toStringTag]?: string })[Symbol.toStringTag]; // the engine's own

export const globals = { Navigator, ServiceWorkerGlobalScope, WorkerGlobalScope, navigator, self: globalThis, origin: "null" };
