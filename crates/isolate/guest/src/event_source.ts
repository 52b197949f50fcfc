/**
 * EventSource of the HTML standard over `fetch`, with reconnection, and `EventSource.from(stream)` as on workerd. Parsing is one pass over each
 * chunk, whatever its line ends.
 */
import { AbortController, AbortSignal } from "./abort";
import { TextDecoder } from "./encoding";
import { ErrorEvent, Event, EventTarget, MessageEvent, defineEventAttributes, fire, hasListeners } from "./events";
import { fetch } from "./fetch";
import { ReadableStream, bytesOf } from "./streams";
import { clearTimeout, setTimeout } from "./timers";
import { parseUrl } from "./url";
import { defineInterface, requireArguments, usvString } from "./webidl";

const CONNECTING = 0, OPEN = 1, CLOSED = 2;
const HREF = 0, ORIGIN = 10;
const RAW = Symbol();
const RETRY_MS = 2000;
/** Longest event kept, in UTF-16 units; a stream that exceeds it fails instead of filling the memory. */
const EVENT_MAX = 32 << 20;

interface Fetcher {
  fetch(url: string, init: object): Promise<Response>;
}

type Response = Awaited<ReturnType<typeof fetch>>;

/** The event stream format (HTML §9.2.5): text in, fields out. */
class EventStreamParser {
  #decoder = new TextDecoder();
  /** Pieces of the line that has not ended yet. */
  #line: string[] = [];
  #size = 0;
  #afterCr = false;
  #data: string[] = [];
  #type = "";
  lastEventId = "";
  #id = "";
  readonly #emit: (type: string, data: string) => void;
  readonly #retry: (ms: number) => void;

  constructor(lastEventId: string, emit: (type: string, data: string) => void, retry: (ms: number) => void) {
    this.#id = this.lastEventId = lastEventId;
    this.#emit = emit;
    this.#retry = retry;
  }

  push(bytes: Uint8Array): void {
    const text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    let at = this.#afterCr && text[0] === "\n" ? 1 : 0;
    this.#afterCr = text.endsWith("\r");
    const ends = /\r\n?|\n/g;
    ends.lastIndex = at;
    for (let m = ends.exec(text); m !== null; m = ends.exec(text)) {
      this.#endOfLine(text.slice(at, m.index));
      at = ends.lastIndex;
    }
    if (at < text.length) this.#keep(this.#line, text.slice(at));
  }

  #keep(pieces: string[], piece: string): void {
    this.#size += piece.length;
    if (this.#size > EVENT_MAX) throw new RangeError("An event of the stream is too long.");
    pieces.push(piece);
  }

  #endOfLine(rest: string): void {
    let line = rest;
    if (this.#line.length > 0) {
      line = this.#line.join("") + rest;
      this.#size -= line.length - rest.length;
      this.#line = [];
    }
    if (line === "") return this.#endOfEvent();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#keep(this.#data, value);
    else if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.#retry(Number(value));
  }

  #endOfEvent(): void {
    this.lastEventId = this.#id;
    const data = this.#data;
    const type = this.#type;
    this.#type = "";
    if (data.length === 0) return;
    this.#data = [];
    this.#size = 0;
    this.#emit(type === "" ? "message" : type, data.join("\n"));
  }
}

export class EventSource extends EventTarget {
  #url = "";
  #origin = "";
  #state = CONNECTING;
  #retry = RETRY_MS;
  #lastEventId = "";
  #fetcher: Fetcher | undefined;
  #abort: AbortController | undefined;
  #timer: unknown;

  constructor(url: string, init: { withCredentials?: boolean; fetcher?: Fetcher } | undefined = undefined) {
    super();
    if ((url as unknown) === RAW) return;
    requireArguments(arguments.length, 1, "Failed to construct 'EventSource'");
    const text = usvString(url);
    const c = parseUrl(text, null);
    if (c === null) throw new DOMException(`Cannot open an EventSource to '${text}'. The URL is invalid.`, "SyntaxError");
    if (init?.withCredentials) throw new DOMException("The init.withCredentials option is not supported. It must be false or undefined.", "NotSupportedError");
    if (init?.fetcher !== undefined && typeof init.fetcher?.fetch !== "function") {
      throw new TypeError("Incorrect type for the 'fetcher' field on 'EventSourceInit': the provided value is not of type 'Fetcher'.");
    }
    this.#url = c[HREF]!;
    this.#origin = c[ORIGIN]!;
    this.#fetcher = init?.fetcher;
    void this.#connect();
  }

  /** Reads events from a stream of bytes; there is nothing to reconnect to. */
  static from(stream: ReadableStream): EventSource {
    if (!(stream instanceof ReadableStream)) throw new TypeError("Failed to execute 'from' on 'EventSource': parameter 1 is not of type 'ReadableStream'.");
    if (stream.locked) throw new TypeError("This ReadableStream is locked.");
    const source = new EventSource(RAW as unknown as string);
    source.#state = OPEN;
    void source.#read(stream, undefined);
    return source;
  }

  get url(): string { return this.#url; }
  get withCredentials(): boolean { return this.#state, false; }
  get readyState(): number { return this.#state; }

  close(): void {
    this.#state = CLOSED;
    this.#abort?.abort();
    clearTimeout(this.#timer);
  }

  async #connect(): Promise<void> {
    const headers: Record<string, string> = { accept: "text/event-stream", "cache-control": "no-cache" };
    if (this.#lastEventId !== "") headers["last-event-id"] = this.#lastEventId;
    const { signal } = (this.#abort = new AbortController());
    let response: Response;
    try {
      const init = { headers, signal };
      response = await (this.#fetcher === undefined ? fetch(this.#url, init) : this.#fetcher.fetch(this.#url, init));
    } catch (e) {
      return this.#reconnect(e);
    }
    if (this.#state === CLOSED) return;
    const type = response.headers.get("content-type") ?? "";
    if (response.status !== 200 || !/^text\/event-stream[\t ]*(?:;|$)/i.test(type.trim()) || response.body === null) return this.#fail(response);
    this.#origin = parseUrl(response.url, null)?.[ORIGIN] ?? this.#origin;
    this.#state = OPEN;
    fire(this, new Event("open"));
    await this.#read(response.body, signal);
  }

  async #read(stream: ReadableStream, signal: AbortSignal | undefined): Promise<void> {
    const parser = new EventStreamParser(
      this.#lastEventId,
      (type, data) => {
        this.#lastEventId = parser.lastEventId;
        if (this.#state === CLOSED || !hasListeners(this, type)) return;
        fire(this, new MessageEvent(type, { data, lastEventId: parser.lastEventId, origin: this.#origin }));
      },
      (ms) => { this.#retry = ms; },
    );
    const reader = stream.getReader();
    try {
      while (this.#isOpen()) {
        const { done, value } = await reader.read();
        if (done) break;
        const bytes = bytesOf(value);
        if (bytes === undefined) throw new TypeError("This ReadableStream did not return bytes.");
        parser.push(bytes);
        this.#lastEventId = parser.lastEventId;
      }
      if (!this.#isOpen()) reader.cancel().catch(() => {});
      this.#end(signal, undefined);
    } catch (e) {
      reader.cancel(e).catch(() => {});
      this.#end(signal, e);
    }
  }

  /** Asked after awaits: listeners may have closed it meanwhile. */
  #isOpen(): boolean {
    return this.#state === OPEN;
  }

  #end(signal: AbortSignal | undefined, e: unknown): void {
    if (this.#state === CLOSED) return;
    if (signal !== undefined) return this.#reconnect(e);
    this.#state = CLOSED;
    this.#error(e);
  }

  #reconnect(e: unknown): void {
    if (this.#state === CLOSED) return;
    this.#state = CONNECTING;
    this.#error(e);
    if (this.#stillConnecting()) this.#timer = setTimeout(() => void this.#connect(), this.#retry);
  }

  #stillConnecting(): boolean {
    return this.#state === CONNECTING;
  }

  #fail(response: Response): void {
    this.#state = CLOSED;
    response.body?.cancel().catch(() => {});
    this.#error(undefined);
  }

  #error(e: unknown): void {
    if (hasListeners(this, "error")) fire(this, new ErrorEvent("error", { error: e, message: e instanceof Error ? e.message : "" }));
  }
}

defineEventAttributes(EventSource, "open", "message", "error");
defineInterface(EventSource, "EventSource", { CONNECTING, OPEN, CLOSED });

export const globals = { EventSource };
