/**
 * `fetch`: sends a Request through a channel (0 is the worker's way out, others are service bindings) and makes a Response of the answer.
 * Redirects, connections and content codings are the host's.
 */
import { type AbortSignal, addAbortAlgorithm, removeAbortAlgorithm } from "./abort";
import { Encoded, decodedStream, isCoding, listIn, pumpOf, streamOf, takeBody, type Pump, type Source, type State } from "./body";
import { host, type Ended } from "./host";
import { parseMimeType, serializeMimeType } from "./mime_type";
import { METHOD, Request, URL_, isRequest, requestExtras, requestState } from "./request";
import { isNullBodyStatus, responseOver, type Response } from "./response";
import { ReadableStream } from "./streams";
import { percentDecode } from "./url";
import { socketOver } from "./websocket";

/** `[status, statusText, headers, body, url, redirected, socket]` */
type Answer = [number, string, string[], null | Uint8Array | number, string, boolean, number | null];

const noop = (): void => {};

/** The request that `fetch(input, init)` means. An untouched Request is sent as it is. */
function requestOf(input: unknown, init: unknown): Request {
  return isRequest(input) && (init === undefined || init === null) ? input : new Request(input, init as object);
}

/** `fetch` through a channel; `ended` runs once, when the channel is no longer needed for it. `call`: which call asks, for a channel that counts. */
export function fetchVia(channel: number, input: unknown, init: unknown, ended?: Ended, call = 0): Promise<Response> {
  try {
    return send(channel, requestOf(input, init), ended, call);
  } catch (e) {
    ended?.(false);
    return Promise.reject(e as Error);
  }
}

function checkScheme(channel: number, url: string): void {
  // A service binding takes any URL: it is only passed on.
  if (channel === 0 && !url.startsWith("http:") && !url.startsWith("https:")) throw new TypeError(`Fetch API cannot load: ${url}`);
}

/** A compressed body goes on as it came if the request says so. */
function asSent(source: Source, list: string[]): Exclude<Source, Encoded> {
  if (!(source instanceof Encoded)) return source;
  return headerIn(list, "content-encoding").toLowerCase() === source.coding ? source.raw : decodedStream(source);
}

function bodyOf(request: State): Source {
  try {
    return takeBody(request);
  } catch {
    throw new TypeError("Cannot reconstruct a Request with a used body.");
  }
}

/** A `data:` URL as its answer (fetch §6). */
function dataResponse(url: string): Response {
  const hash = url.indexOf("#");
  const end = hash < 0 ? url.length : hash;
  const comma = url.indexOf(",");
  if (comma < 0 || comma > end) throw new TypeError(`Fetch API cannot load: ${url.slice(0, 100)}`);
  const head = url.slice(5, comma).trim();
  const base64 = /; *base64$/i.exec(head);
  let bytes = percentDecode(url.slice(comma + 1, end));
  if (base64 !== null) {
    try {
      bytes = Uint8Array.from(atob(host.utf8Decode(bytes, false, true)), (c) => c.charCodeAt(0));
    } catch {
      throw new TypeError("Fetch API cannot load a data: URL with malformed base64.");
    }
  }
  const given = base64 === null ? head : head.slice(0, base64.index);
  const type = parseMimeType(given.startsWith(";") ? `text/plain${given}` : given);
  const contentType = type === undefined ? "text/plain;charset=US-ASCII" : serializeMimeType(type);
  return responseOver(bytes, 200, ["content-type", contentType], true, { statusText: "OK", url: url.slice(0, end) });
}

/** Throws only before the operation is started. One promise is all that is made for it: this is the way of every call between workers and actors. */
function send(channel: number, request: Request, ended: Ended | undefined, call: number): Promise<Response> {
  const state = requestState(request);
  const more = requestExtras(state);
  const signal = more?.signal;
  signal?.throwIfAborted();
  const url = state[URL_], method = state[METHOD];
  if (channel === 0 && url.startsWith("data:")) return Promise.resolve(dataResponse(url));
  checkScheme(channel, url);
  let list = listIn(state);
  let body = asSent(bodyOf(state), list);
  const id = host.nextId();
  let pump: Pump | undefined;
  if (body instanceof ReadableStream) {
    pump = pumpOf(body, (list = list.slice()));
    body = pump.to;
    // The script gets the upload's own error, not what the host makes of a request whose body broke off.
    pump.done.catch((e: unknown) => host.abandon(id, e));
  }
  const options: Record<string, string> = {};
  if (more?.cache !== undefined) options.cache = more.cache;
  if (more?.cf !== undefined) options.cf = JSON.stringify(more.cf) ?? "";
  let settled = ended;
  if (signal !== undefined) {
    const abort = (): void => {
      host.abandon(id, signal.reason);
      pump?.cancel(signal.reason);
    };
    settled = (early) => {
      removeAbortAlgorithm(signal, abort);
      ended?.(early);
    };
    addAbortAlgorithm(signal, abort);
  }
  const made = (answer: Answer): Response => responseFrom(answer, method, signal);
  const args = [channel, method, url, list, body, more?.redirect ?? "follow", options];
  if (call !== 0) args.push(call);
  const answer = host.startAs(id, "fetch", args, made, settled);
  // Nothing of it needs this side any more, unless somebody looks at it.
  if (signal === undefined && pump === undefined) host.answers(id, answer, method === "HEAD");
  return answer;
}

function responseFrom(answer: Answer, method: string, signal: AbortSignal | undefined): Response {
  const status = answer[0], headers = answer[2], body = answer[3], socket = answer[6];
  let source: Source = body;
  if (method === "HEAD" || isNullBodyStatus(status)) {
    if (typeof body === "number") host.call("stream.cancel", body);
    source = null;
  } else if (body !== null) {
    const coding = headerIn(headers, "content-encoding").toLowerCase();
    if (isCoding(coding)) source = new Encoded(body, coding);
    if (typeof body === "number" && signal !== undefined) source = abortable(streamOf(source as Encoded | number), signal);
  }
  const webSocket = typeof socket !== "number" ? null : socketOver(socket, headerIn(headers, "sec-websocket-protocol"));
  return responseOver(source, status, headers, true, { statusText: answer[1], url: answer[4], redirected: answer[5], webSocket });
}

function headerIn(list: string[], name: string): string {
  for (let i = 0; i < list.length; i += 2) if (list[i] === name) return list[i + 1]!;
  return "";
}

/** The same stream, but it fails with the signal's reason when that aborts while it is read. */
function abortable(stream: ReadableStream, signal: AbortSignal): ReadableStream {
  const reader = stream.getReader();
  let abort = noop;
  return new ReadableStream({
    type: "bytes",
    start(controller) {
      abort = () => {
        controller.error(signal.reason);
        reader.cancel(signal.reason).catch(noop);
      };
      addAbortAlgorithm(signal, abort);
    },
    async pull(controller) {
      const { done, value } = await reader.read();
      if (signal.aborted) return;
      if (!done) return controller.enqueue(value);
      removeAbortAlgorithm(signal, abort);
      controller.close();
      controller.byobRequest?.respond(0);
    },
    cancel(reason) {
      removeAbortAlgorithm(signal, abort);
      return reader.cancel(reason);
    },
  });
}

export function fetch(input: unknown, init: unknown = undefined): Promise<Response> {
  if (input === undefined) return Promise.reject(new TypeError("Failed to execute 'fetch' on 'ServiceWorkerGlobalScope': parameter 1 is not of type 'Request or string'."));
  return fetchVia(0, input, init);
}

export const globals = { fetch };
