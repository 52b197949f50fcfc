/** What stands on globalThis, and with which attributes (WinterTC minimum common API and what Workers code expects). */
const names = ["AbortController", "AbortSignal", "Blob", "ByteLengthQueuingStrategy", "CloseEvent", "CompressionStream", "CountQueuingStrategy", "Crypto", "CryptoKey", "CustomEvent", "DOMException", "DecompressionStream", "ErrorEvent", "Event", "EventSource", "EventTarget", "File", "FormData", "Headers", "MessageChannel", "MessageEvent", "MessagePort", "ReadableByteStreamController", "ReadableStream", "ReadableStreamBYOBReader", "ReadableStreamBYOBRequest", "ReadableStreamDefaultController", "ReadableStreamDefaultReader", "Request", "Response", "SubtleCrypto", "TextDecoder", "TextDecoderStream", "TextEncoder", "TextEncoderStream", "TransformStream", "TransformStreamDefaultController", "URL", "URLPattern", "URLSearchParams", "WebSocket", "WebSocketPair", "WritableStream", "WritableStreamDefaultController", "WritableStreamDefaultWriter", "PromiseRejectionEvent", "IdentityTransformStream", "FixedLengthStream", "Performance", "Navigator", "ExtendableEvent", "FetchEvent", "ScheduledEvent", "WorkerGlobalScope", "ServiceWorkerGlobalScope", "Cache", "CacheStorage", "HTMLRewriter", "PerformanceEntry", "PerformanceMark", "PerformanceMeasure", "PerformanceObserver", "WebAssembly", "Intl"];
const objects = ["crypto", "performance", "navigator", "scheduler", "caches", "console", "self", "globalThis", "origin"];
const functions = ["atob", "btoa", "fetch", "queueMicrotask", "reportError", "setTimeout", "setInterval", "clearTimeout", "clearInterval", "structuredClone", "addEventListener", "removeEventListener", "dispatchEvent", "setImmediate", "clearImmediate"];

export const cases = {
  ...Object.fromEntries(names.map((n) => [`class ${n}`, [() => [typeof globalThis[n], globalThis[n]?.name]]])),
  "objects": [() => objects.map((n) => [n, typeof globalThis[n], Object.prototype.toString.call(globalThis[n])])],
  "functions": [() => functions.map((n) => [n, typeof globalThis[n], globalThis[n]?.name])],
  "lengths of functions": [() => functions.map((n) => globalThis[n]?.length)],
  "attributes of globals": [() => ["Headers", "fetch", "crypto", "self"].map((n) => { const d = Object.getOwnPropertyDescriptor(globalThis, n); return d ? [d.enumerable, d.configurable] : null; })],
  "self is globalThis": [() => [self === globalThis, globalThis === this || typeof this], [true, "undefined"]],
  "no browser globals": [() => ["window", "document", "localStorage", "XMLHttpRequest", "alert", "importScripts", "Deno", "Bun", "require", "module", "exports", "__dirname", "__host"].filter((n) => n in globalThis), []],
  "node globals": [() => ["Buffer", "process", "global", "setImmediate"].map((n) => typeof globalThis[n]), ["function", "object", "object", "function"]],
  "navigator": [() => [typeof navigator.userAgent, navigator.userAgent.length > 0, typeof navigator.hardwareConcurrency, navigator.language]],
  "tag of globalThis": [() => Object.prototype.toString.call(globalThis)],
  "eval is refused": [(t) => [t.error(() => eval("1+1")), t.error(() => new Function("return 1")()), t.error(() => new (Object.getPrototypeOf(async () => {}).constructor)("")), t.error(() => setTimeout.constructor("return 2")())]],
  "modules are strict": [() => (function () { return this; })(), undefined],
  "import.meta": [() => [typeof import.meta, Object.keys(import.meta), typeof import.meta.url]],
  "dynamic import of a missing module": [(t) => t.error(import(["./no", "such.js"].join("-")))],
  "overwriting a global": [() => { const f = globalThis.btoa; globalThis.btoa = () => "mine"; const x = btoa("a"); globalThis.btoa = f; return [x, btoa("a")]; }, ["mine", "YQ=="]],
  "deleting a global class": [() => { const C = globalThis.EventSource; const gone = delete globalThis.EventSource; const after = typeof EventSource; globalThis.EventSource = C; return [gone, after, EventSource === C]; }],
  "performance.now": [() => [typeof performance.now(), performance.now() >= 0, typeof performance.timeOrigin]],
  "crypto is not replaceable by accident": [(t) => { const c = crypto; const e = t.error(() => { globalThis.crypto = 5; }); const x = typeof crypto; Object.defineProperty(globalThis, "crypto", { value: c, configurable: true, writable: true }); return [typeof e, x]; }],
};
