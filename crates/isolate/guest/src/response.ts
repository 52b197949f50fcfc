/**
 * Response of the fetch standard, with what Workers add: `webSocket`, `cf`, `encodeBody`. Made by scripts, and by fetch.ts from what the host
 * answers; dispatch.ts sends it.
 */
import { Body, cloneBody, extractBody, headersIn, isImmutable, listIn, newState, stateIfMessage, stateOf, type Source, type State } from "./body";
import { headerList, listHas, type HeaderList, type Headers } from "./headers";
import { hrefOf } from "./url";
import { defineInterface, requireArguments, usvString } from "./webidl";
import { isWebSocket, type WebSocket } from "./websocket";

interface ResponseInit {
  status?: number;
  statusText?: string;
  headers?: unknown;
  webSocket?: WebSocket | null;
  cf?: unknown;
  encodeBody?: string;
}

/** What few responses have: place `MORE` of the state. */
export interface ResponseExtras {
  statusText?: string;
  type?: string;
  url?: string;
  redirected?: boolean;
  webSocket?: WebSocket | null;
  cf?: unknown;
  manual?: boolean;
}

const RAW = Symbol();
const reasonPhrase = /^[\t\x20-\x7e\x80-\xff]*$/;
const stringify = JSON.stringify as (v: unknown) => string | undefined;
const ordinary: ResponseInit = Object.freeze(Object.create(null) as object);

function checkInit(init: unknown): ResponseInit {
  if (init === undefined || init === null) return ordinary;
  if (typeof init !== "object" && typeof init !== "function") {
    throw new TypeError("Failed to construct 'Response': constructor parameter 2 is not of type 'InitializerDict or Response'.");
  }
  return init as ResponseInit;
}

function convertStatus(v: unknown, webSocket: WebSocket | null | undefined): number {
  const status = v === undefined ? 200 : Number(v) | 0;
  if (webSocket !== undefined && webSocket !== null) {
    if (status !== 101) throw new RangeError("Responses with a WebSocket must have status code 101.");
    return status;
  }
  if (status < 200 || status > 599) throw new RangeError("Responses may only be constructed with status codes in the range 200 to 599, inclusive.");
  return status;
}

function convertStatusText(v: unknown): string {
  if (v === undefined || v === "") return "";
  const text = `${v as string}`;
  if (!reasonPhrase.test(text)) throw new TypeError("Invalid statusText");
  return text;
}

/** Statuses with which there is no body. */
export function isNullBodyStatus(status: number): boolean {
  return status === 204 || status === 304 || status === 205 || status === 101;
}

function bodyFor(status: number, given: unknown, list: HeaderList): Source {
  const source = extractBody(given, list);
  if (source === null || !isNullBodyStatus(status)) return source;
  // As on workerd, an empty string counts as none.
  if (source !== "") throw new TypeError("Response with null body status (101, 204, 205, or 304) cannot have a body.");
  return null;
}

function extras(init: ResponseInit, statusText: string): ResponseExtras | undefined {
  const { cf, encodeBody, webSocket } = init;
  if (statusText === "" && cf === undefined && encodeBody === undefined && (webSocket === undefined || webSocket === null)) return undefined;
  if (webSocket !== undefined && webSocket !== null && !isWebSocket(webSocket)) {
    throw new TypeError("Incorrect type for the 'webSocket' field on 'InitializerDict': the provided value is not of type 'WebSocket'.");
  }
  if (encodeBody !== undefined && encodeBody !== "manual" && encodeBody !== "automatic") {
    throw new TypeError(`encodeBody: unexpected value: ${encodeBody}`);
  }
  return { statusText, cf, webSocket: webSocket ?? null, manual: encodeBody === "manual" };
}

// Places of a response's state.
export const STATUS = 3, MORE = 4;

export type ResponseState = State & { [STATUS]: number; [MORE]: ResponseExtras | undefined };

/** The state behind a response; throws when it is none. */
export function responseState(response: unknown): ResponseState {
  const state = stateOf(response as object);
  if (typeof state[STATUS] !== "number") throw new TypeError("Illegal invocation: this is not a Response.");
  return state as ResponseState;
}

/** The same, or undefined when `v` is no response. */
export function stateIfResponse(v: unknown): ResponseState | undefined {
  if (typeof v !== "object" || v === null) return undefined;
  const state = stateIfMessage(v);
  return state !== undefined && typeof state[STATUS] === "number" ? (state as ResponseState) : undefined;
}

/** A response as the runtime makes it: nothing is checked or copied. */
export function responseOver(source: Source, status: number, list: HeaderList, immutable: boolean, more?: ResponseExtras): Response {
  return new Response(newState(source, list, immutable, status, more, undefined), undefined, RAW);
}

export class Response extends Body {
  // The third parameter is `responseOver`'s: then the first is the state.
  constructor(body?: unknown, init?: ResponseInit | null, raw?: unknown) {
    if (raw === RAW) {
      super(body as State);
      return;
    }
    const given = init === undefined ? ordinary : checkInit(init);
    if (given === ordinary) {
      const list: HeaderList = [];
      super(newState(extractBody(body, list), list, false, 200, undefined, undefined));
      return;
    }
    const headers = given.headers;
    const list = headers === undefined ? [] : headerList(headers);
    const text = convertStatusText(given.statusText);
    const more = extras(given, text);
    const status = convertStatus(given.status, more?.webSocket);
    super(newState(bodyFor(status, body, list), list, false, status, more, undefined));
  }

  static error(): Response {
    return responseOver(null, 0, [], true, { type: "error" });
  }

  static redirect(url: string, status = 302): Response {
    requireArguments(arguments.length, 1, "Failed to execute 'redirect' on 'Response'");
    const text = usvString(url);
    const href = hrefOf(text);
    if (href === undefined) throw new TypeError(`Unable to parse URL: ${text}`);
    const code = Number(status) | 0;
    if (code !== 301 && code !== 302 && code !== 303 && code !== 307 && code !== 308) {
      throw new RangeError(`${code} is not a redirect status code. It must be one of: 301, 302, 303, 307, or 308.`);
    }
    return responseOver(null, code, ["location", href], true);
  }

  static json(data: unknown, init?: ResponseInit | null): Response {
    const text = stringify(data);
    if (text === undefined) throw new TypeError("Failed to execute 'json' on 'Response': the data is not JSON serializable.");
    const body = text.isWellFormed() ? text : text.toWellFormed();
    if (init === undefined) return responseOver(body, 200, ["content-type", "application/json"], false);
    const given = checkInit(init);
    const headers = given.headers;
    const list = headers === undefined ? [] : headerList(headers);
    if (!listHas(list, "content-type")) list.push("content-type", "application/json");
    const rest = extras(given, convertStatusText(given.statusText));
    const status = convertStatus(given.status, rest?.webSocket);
    if (isNullBodyStatus(status)) throw new TypeError("Response with null body status (101, 204, 205, or 304) cannot have a body.");
    return responseOver(body, status, list, false, rest);
  }

  clone(): Response {
    const state = responseState(this);
    if (state[MORE]?.webSocket) throw new TypeError("Cannot clone a response to a WebSocket handshake.");
    return responseOver(cloneBody(state), state[STATUS], listIn(state).slice(), isImmutable(state), state[MORE]);
  }

  get status(): number { return responseState(this)[STATUS]; }
  get statusText(): string { return responseState(this)[MORE]?.statusText ?? ""; }
  get headers(): Headers { return headersIn(responseState(this)); }
  get ok(): boolean {
    const status = responseState(this)[STATUS];
    return status >= 200 && status <= 299;
  }
  get redirected(): boolean { return responseState(this)[MORE]?.redirected ?? false; }
  get url(): string { return responseState(this)[MORE]?.url ?? ""; }
  get webSocket(): WebSocket | null { return responseState(this)[MORE]?.webSocket ?? null; }
  get cf(): unknown { return responseState(this)[MORE]?.cf; }
  get type(): string { return responseState(this)[MORE]?.type ?? "default"; }
}

defineInterface(Response, "Response");
Object.defineProperty(Response, "length", { value: 0, configurable: true });
Object.defineProperty(Response.json, "length", { value: 1, configurable: true });

export const globals = { Response };
