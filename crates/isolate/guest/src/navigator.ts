/**
 * `navigator`, `self` and `origin`: what a worker may ask about where it runs.
 */
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

Object.defineProperty(globalThis, Symbol.toStringTag, { value: "ServiceWorkerGlobalScope", configurable: true });

export const globals = { Navigator, navigator, self: globalThis, origin: "null" };
