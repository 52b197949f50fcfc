/**
 * Makes `error.stack` read as on other engines: the error's name and message, then the frames. QuickJS keeps the frames only.
 */

const native = Object.getOwnPropertyDescriptor(Error.prototype, "stack")!;
const nativeGet = native.get!;
const toString = Error.prototype.toString;

/** The stack as the engine has it: without the head, and without running code of the error. */
export function nativeStack(error: object): unknown {
  return nativeGet.call(error);
}

function withHead(error: object, stack: unknown): unknown {
  if (typeof stack !== "string" || (stack !== "" && !stack.startsWith("    at "))) return stack;
  let head: string;
  try {
    head = toString.call(error);
  } catch {
    head = "Error";
  }
  return stack === "" ? head : `${head}\n${stack.trimEnd()}`;
}

Object.defineProperty(Error.prototype, "stack", {
  ...native,
  get(this: Error): unknown {
    return withHead(this, nativeGet.call(this));
  },
  // An own property from then on, whatever it is; the engine's own setter takes nothing but text.
  set(this: Error, value: unknown): void {
    if ((typeof this !== "object" && typeof this !== "function") || this === null) throw new TypeError("stack can only be set on an object");
    Object.defineProperty(this, "stack", { value, writable: true, configurable: true, enumerable: false });
  },
});

const nativeCapture = Error.captureStackTrace;

Object.defineProperty(Error, "captureStackTrace", {
  value: function captureStackTrace(target: object, constructor?: Function): void {
    nativeCapture(target, constructor ?? captureStackTrace);
    const d = Object.getOwnPropertyDescriptor(target, "stack");
    if (d !== undefined && "value" in d) Object.defineProperty(target, "stack", { ...d, value: withHead(target, d.value) });
  },
  writable: true,
  configurable: true,
  enumerable: false,
});
