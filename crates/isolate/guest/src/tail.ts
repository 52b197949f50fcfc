/**
 * Traces: what a worker with tails says of itself (arguments of `console.log`), and what a tail's `tail(events)` handler gets. Both in the form of
 * the open-source runtime. The host writes the trace itself; it arrives as JSON.
 */
import { state } from "./state";

const stringify = JSON.stringify;
const { getPrototypeOf, prototype: objectPrototype } = Object;

/** The number of the call that runs now; 0 outside of any. */
export let callNow: () => number = () => 0;

/** Called once while the image is made, by the dispatcher. */
export function bindCalls(now: () => number): void {
  callNow = now;
}

/** From `load`: whether this worker has tails. */
export function setTailed(tailed: boolean): void {
  state.tailed = tailed;
}

function isData(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return !["bigint", "symbol", "function"].includes(typeof value);
  if (Array.isArray(value)) return true;
  const proto: unknown = getPrototypeOf(value);
  return proto === null || proto === objectPrototype || typeof (value as { toJSON?: unknown }).toJSON === "function";
}

function one(value: unknown): string {
  try {
    return (isData(value) ? (stringify(value) as string | undefined) : stringify(`${value as string}`)) ?? "null";
  } catch {
    return "{}"; // a symbol, a cycle, a getter that throws
  }
}

/** The arguments as a JSON array: data as data, everything else as text. */
export function traced(args: unknown[]): string {
  return `[${args.map(one).join()}]`;
}

interface TracedRequest {
  headers: Record<string, string>;
  url: string;
  getUnredacted?: () => TracedRequest;
}

interface TraceItem {
  event: { request?: TracedRequest; response?: unknown } | null;
}

const sensitive = /^cookie2?$|^set-cookie|auth|key|secret|token/;
const hexId = /[0-9a-f]{32,}/gi;

/** What must not lie about in logs: credentials in headers, long identifiers in addresses. */
function redact(request: TracedRequest): TracedRequest {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) headers[name] = sensitive.test(name.toLowerCase()) ? "REDACTED" : value;
  const redacted = { ...request, headers, url: request.url.replace(hexId, "REDACTED") };
  Object.defineProperty(redacted, "getUnredacted", { value: () => request, configurable: true });
  return redacted;
}

/** The events of a `tail` handler. */
export function traceItems(json: string): TraceItem[] {
  const items = JSON.parse(json) as TraceItem[];
  for (const { event } of items) {
    if (event?.request === undefined) continue;
    event.request = redact(event.request);
    event.response ??= undefined; // there, even if there was no answer
  }
  return items;
}
