/**
 * Request of the fetch standard, as far as it means something without a browser. Made by scripts, and by dispatch.ts for what arrives: then the URL
 * and headers are the host's and nothing is parsed.
 */
import { AbortSignal, makeSignal, signalAbort } from "./abort";
import { Body, cloneBody, extractBody, headersIn, isImmutable, isUsed, listIn, newState, stateIfMessage, stateOf, takeBody, type Source, type State } from "./body";
import { structuredClone } from "./clone";
import { headerList, type HeaderList, type Headers } from "./headers";
import { IdentityTransformStream, ReadableStream } from "./streams";
import { hrefOf } from "./url";
import { defineInterface, usvString } from "./webidl";

interface RequestInit {
  method?: string;
  headers?: unknown;
  body?: unknown;
  redirect?: string;
  signal?: AbortSignal | null;
  cf?: unknown;
  cache?: string;
  integrity?: string;
  keepalive?: boolean;
}

/** What most requests leave at its default. */
export interface RequestExtras {
  signal: AbortSignal | undefined;
  redirect: string;
  cache: string | undefined;
  keepalive: boolean;
  cf: unknown;
}

const RAW = Symbol();
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const none: RequestInit = Object.freeze(Object.create(null) as object);
// Written in any case and meant in upper case (as on workerd: the standard leaves PATCH and the WebDAV ones alone).
const known = new Set(
  ("GET POST PUT DELETE HEAD OPTIONS PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL REPORT SEARCH PURGE MKACTIVITY CHECKOUT MERGE " +
    "MSEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE").split(" "),
);

function convertMethod(v: unknown): string {
  const method = `${v as string}`;
  const upper = method.toUpperCase();
  if (known.has(upper)) return upper;
  if (!token.test(method) || upper === "CONNECT" || upper === "TRACE" || upper === "TRACK") throw new TypeError(`Invalid HTTP method string: ${method}`);
  return method;
}

function convertUrl(v: unknown): string {
  const text = usvString(v);
  const href = hrefOf(text);
  if (href === undefined) throw new TypeError(`Invalid URL: ${text}`);
  return href;
}

function checkInit(init: unknown): RequestInit {
  if (init === undefined || init === null) return none;
  if (typeof init !== "object" && typeof init !== "function") {
    throw new TypeError("Failed to construct 'Request': constructor parameter 2 is not of type 'RequestInitializerDict or Request'.");
  }
  return init as RequestInit;
}

const redirects = ["follow", "error", "manual"];
const caches = ["default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"];

function choice(v: unknown, choices: string[], what: string): string {
  const text = `${v as string}`;
  if (!choices.includes(text)) throw new TypeError(`Invalid ${what} value: ${text}. It must be one of: ${choices.join(", ")}.`);
  return text;
}

function convertSignal(v: AbortSignal | null | undefined, inherited: AbortSignal | undefined): AbortSignal | undefined {
  if (v === undefined) return inherited;
  if (v === null) return undefined;
  if (!(v instanceof AbortSignal)) {
    throw new TypeError("Incorrect type for the 'signal' field on 'RequestInitializerDict': the provided value is not of type 'AbortSignal'.");
  }
  return v;
}

function extras(init: RequestInit, inherited: RequestExtras | undefined): RequestExtras | undefined {
  const { cache, cf, integrity, keepalive, redirect, signal } = init;
  if (integrity !== undefined && `${integrity}` !== "") {
    throw new TypeError("Subrequest integrity checking is not implemented. The integrity option must be either undefined or an empty string.");
  }
  if (inherited === undefined && cache === undefined && cf === undefined && keepalive === undefined && redirect === undefined && signal === undefined) return undefined;
  return {
    signal: convertSignal(signal, inherited?.signal),
    redirect: redirect === undefined ? (inherited?.redirect ?? "follow") : choice(redirect, redirects, "redirect"),
    cache: cache === undefined ? inherited?.cache : choice(cache, caches, "cache"),
    keepalive: keepalive === undefined ? (inherited?.keepalive ?? false) : !!keepalive,
    cf: cf === undefined ? inherited?.cf : structuredClone(cf),
  };
}

const plain = (redirect: string, cf: unknown): RequestExtras => ({ signal: undefined, redirect, cache: undefined, keepalive: false, cf });

/** What has come in is passed on as it is: a redirect that it meets is for its client to follow. */
const arrived = (cf: string): RequestExtras => plain("manual", cf === "" ? undefined : (JSON.parse(cf) as unknown));

/** The body of `from` moves into a new request; `from` is used after this. */
function movedBody(from: State): Source {
  if (isUsed(from)) throw new TypeError("Cannot reconstruct a Request with a used body.");
  const source = takeBody(from);
  return source instanceof ReadableStream ? source.pipeThrough(new IdentityTransformStream()) : source;
}

// Places of a request's state.
export const URL_ = 3, METHOD = 4;
const MORE = 5;

/** What is in place `MORE` of a request that has come in is JSON (of `cf`, or empty) as long as nobody asked for it. */
type RequestState = State & { [URL_]: string; [METHOD]: string; [MORE]: RequestExtras | string | undefined };

/** The state behind a request; throws when it is none. */
export function requestState(request: unknown): RequestState {
  const state = stateOf(request as object);
  if (typeof state[URL_] !== "string") throw new TypeError("Illegal invocation: this is not a Request.");
  return state as RequestState;
}

export function isRequest(v: unknown): v is Request {
  return typeof v === "object" && v !== null && typeof stateIfMessage(v)?.[URL_] === "string";
}

export function requestExtras(state: RequestState): RequestExtras | undefined {
  const more = state[MORE];
  return typeof more === "string" ? (state[MORE] = arrived(more)) : more;
}

/** A request as it arrived: nothing is checked or copied, the headers are immutable. `cf` is JSON, or empty. */
export function requestOver(url: string, method: string, list: HeaderList, source: Source, cf: string): Request {
  return new Request(newState(source, list, true, url, method, cf), undefined, RAW);
}

/** Marks a request as abandoned by its client: aborts its signal. */
export function abandonRequest(request: Request): void {
  const state = requestState(request);
  const more = (state[MORE] = requestExtras(state) ?? plain("follow", undefined));
  if (more.signal === undefined) more.signal = AbortSignal.abort();
  else signalAbort(more.signal);
}

export class Request extends Body {
  // The third parameter is `requestOver`'s: then the first is the state.
  constructor(input: unknown, init?: RequestInit | null, raw?: unknown) {
    if (raw === RAW) {
      super(input as State);
      return;
    }
    if (input === undefined) throw new TypeError("Failed to construct 'Request': constructor parameter 1 is not of type 'Request or string'.");
    const from = isRequest(input) ? requestState(input) : undefined;
    const url = from === undefined ? convertUrl(input) : from[URL_];
    const given = checkInit(init);
    const { body: content, headers, method: verb } = given;
    const method = verb !== undefined ? convertMethod(verb) : from === undefined ? "GET" : from[METHOD];
    const list = headers !== undefined ? headerList(headers) : from === undefined ? [] : listIn(from).slice();
    const more = extras(given, from === undefined ? undefined : requestExtras(from));
    if (content !== undefined && content !== null && (method === "GET" || method === "HEAD")) {
      throw new TypeError("Request with a GET or HEAD method cannot have a body.");
    }
    const source = content === undefined && from !== undefined ? movedBody(from) : extractBody(content, list);
    super(newState(source, list, false, url, method, more));
  }

  clone(): Request {
    const state = requestState(this);
    const { signal } = this; // now there is one, and the copy follows it too
    const more = { ...requestExtras(state)!, signal };
    return new Request(newState(cloneBody(state), listIn(state).slice(), isImmutable(state), state[URL_], state[METHOD], more), undefined, RAW);
  }

  get method(): string { return requestState(this)[METHOD]; }
  get url(): string { return requestState(this)[URL_]; }
  get headers(): Headers { return headersIn(requestState(this)); }
  get redirect(): string { return requestExtras(requestState(this))?.redirect ?? "follow"; }
  get fetcher(): null { return requestState(this), null; }
  get signal(): AbortSignal {
    const state = requestState(this);
    return ((state[MORE] = requestExtras(state) ?? plain("follow", undefined)).signal ??= makeSignal());
  }
  get cf(): unknown { return requestExtras(requestState(this))?.cf; }
  get integrity(): string { return requestState(this), ""; }
  get keepalive(): boolean { return requestExtras(requestState(this))?.keepalive ?? false; }
  get cache(): string | undefined { return requestExtras(requestState(this))?.cache; }
}

defineInterface(Request, "Request");
Object.defineProperty(Request, "length", { value: 1, configurable: true });

export const globals = { Request };
