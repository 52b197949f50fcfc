/**
 * What happens to exceptions that nobody catches: `reportError`, exceptions of callbacks, and unhandled promise rejections. Each is first an event
 * on the global object, then — unless a listener prevented it — an `exception` for the host's log.
 */
import { host } from "./host";
import { ErrorEvent, PromiseRejectionEvent, fire, globalTarget, hasListeners, reportException, setReporter } from "./events";
import { errorText, inspect } from "./inspect";
import { requireArguments } from "./webidl";
import { state } from "./state";
import { afterTurn } from "./timers";
import { brandOf } from "./brands";
import { callNow } from "./tail";

function isObject(v: unknown): v is object {
  return typeof v === "object" && v !== null && host.raw.getProxyDetails(v) === undefined;
}

/** Name, message and stack of anything thrown, without running code of the thrown value. */
export function describe(thrown: unknown): [name: string, message: string, stack: string] {
  if (typeof thrown === "string") return ["", thrown, ""];
  if (!isObject(thrown) || !["Error", "DOMException"].includes(brandOf(thrown) ?? "")) return ["", inspect(thrown), ""];
  const stack = errorText(thrown as Error);
  const head = /^(?:DOMException \[(.*?)\]|([^\n:]*))(?:: ([\s\S]*?))?(?:\n\s*at |$)/.exec(stack);
  return [head?.[1] ?? head?.[2] ?? "Error", head?.[3] ?? "", stack];
}

function toHost(thrown: unknown): void {
  let told: [string, string, string];
  try {
    told = describe(thrown);
  } catch {
    told = ["Error", "an exception that cannot be shown", ""]; // built-ins that the description needs were overwritten
  }
  host.call("exception", ...told, callNow());
}

setReporter((thrown) => {
  if (state.reporting || !hasListeners(globalTarget, "error")) return toHost(thrown);
  state.reporting = true;
  try {
    const [name, message] = describe(thrown);
    const text = name === "" ? message : message === "" ? name : `${name}: ${message}`;
    if (fire(globalTarget, new ErrorEvent("error", { cancelable: true, message: text, error: thrown }))) toHost(thrown);
  } finally {
    state.reporting = false;
  }
});

function reportError(error: unknown): void {
  requireArguments(arguments.length, 1, "Failed to execute 'reportError' on 'ServiceWorkerGlobalScope'");
  reportException(error);
}

// --- promise rejections --------------------------------------------------------------------------------------------------

const rejectionLimit = 1000;

host.raw.onReject((promise, reason, handled) => {
  // An exception that escaped to the engine, out of a job or an event.
  if (promise === undefined) return reportException(reason);
  if (!handled) {
    // Most get a handler before the turn ends. Beyond the bound the rest is dropped: no flood of memory from a flood of rejections.
    if (state.rejected === undefined) afterTurn(flush);
    const rejected = (state.rejected ??= []);
    if (rejected.length < rejectionLimit) rejected.push({ promise, reason, context: host.raw.asyncContext() });
    return;
  }
  const i = state.rejected?.findIndex((r) => r.promise === promise) ?? -1;
  if (i >= 0) state.rejected!.splice(i, 1);
  else if (state.notified?.delete(promise)) afterTurn(() => rejectionEvent("rejectionhandled", promise, reason));
});

function rejectionEvent(type: string, promise: Promise<unknown>, reason: unknown): boolean {
  if (!hasListeners(globalTarget, type)) return true;
  return fire(globalTarget, new PromiseRejectionEvent(type, { cancelable: type === "unhandledrejection", promise, reason }));
}

function flush(): void {
  const batch = state.rejected ?? [];
  state.rejected = undefined;
  for (const { promise, reason, context } of batch) {
    (state.notified ??= new WeakSet()).add(promise);
    // Listeners see what the code that rejected saw.
    const before = host.raw.asyncContext();
    host.raw.setAsyncContext(context);
    const unprevented = rejectionEvent("unhandledrejection", promise, reason);
    host.raw.setAsyncContext(before);
    if (unprevented) toHost(reason);
  }
}

// --- microtasks ----------------------------------------------------------------------------------------------------------

const enqueue = queueMicrotask;

function guardedMicrotask(callback: () => void): void {
  if (typeof callback !== "function") {
    throw new TypeError("Failed to execute 'queueMicrotask' on 'ServiceWorkerGlobalScope': parameter 1 is not of type 'function'.");
  }
  const context = host.raw.asyncContext();
  enqueue(() => {
    const before = host.raw.asyncContext();
    host.raw.setAsyncContext(context);
    try {
      callback();
    } catch (e) {
      reportException(e);
    } finally {
      host.raw.setAsyncContext(before);
    }
  });
}

export const globals = { reportError, queueMicrotask: guardedMicrotask };
