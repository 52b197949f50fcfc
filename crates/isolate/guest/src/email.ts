/**
 * The module `cloudflare:email`: a message as a value, so that programs which may send mail can be imported. A way to send one would be a binding; there
 * is none.
 */
import { host } from "./host";
import { defineInterface } from "./webidl";

class EmailMessage {
  readonly #from: string;
  readonly #to: string;
  readonly #raw: unknown;

  constructor(from: string, to: string, raw: unknown) {
    if (arguments.length < 3) throw new TypeError(`Failed to construct 'EmailMessage': 3 arguments required, but only ${arguments.length} present.`);
    this.#from = `${from}`;
    this.#to = `${to}`;
    this.#raw = typeof raw === "object" && raw !== null ? raw : `${raw as string}`;
  }

  get from(): string { return this.#from; }
  get to(): string { return this.#to; }
  /** The message as text, or the stream that it is read from. */
  get raw(): unknown { return this.#raw; }
}

defineInterface(EmailMessage, "EmailMessage");

/** Makes the module importable. */
export function install(): void {
  host.raw.registerModule("cloudflare:email", { EmailMessage });
}
