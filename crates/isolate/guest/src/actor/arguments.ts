/**
 * Conversions of arguments of the actor API, with the open-source runtime's texts. Used by every file here; no API of its own.
 */

const FURTHEST_MS = 2 ** 63 / 1e6;

/** The text for an argument that is not what it must be. */
export function wrongArgument(method: string, on: string, position: number, type: string): TypeError {
  return new TypeError(`Failed to execute '${method}' on '${on}': parameter ${position} is not of type '${type}'.`);
}

/** Anything as a string. */
export function string(value: unknown): string {
  if (typeof value === "symbol") throw new TypeError("Cannot convert a Symbol value to a string");
  return `${value as string}`;
}

/** A required string: anything given is converted. */
export function text(args: ArrayLike<unknown>, position: number, method: string, on: string): string {
  if (args.length < position) throw wrongArgument(method, on, position, "string");
  return string(args[position - 1]);
}

/** The error of a method that was taken off its object. */
export function illegalInvocation(): TypeError {
  return new TypeError(
    "Illegal invocation: function called with incorrect `this` reference. See " +
      "https://developers.cloudflare.com/workers/observability/errors/#illegal-invocation-errors for details.",
  );
}

/** The same class for code: called without `new`, it says so in the open-source runtime's words. */
export function withNew<C extends abstract new (...args: never[]) => object>(C: C, name: string): C {
  function constructor(...args: unknown[]): object {
    if (new.target === undefined) {
      throw new TypeError(`Failed to construct '${name}': Please use the 'new' operator, this object constructor cannot be called as a function.`);
    }
    return Reflect.construct(C, args, new.target) as object;
  }
  Object.defineProperties(constructor, {
    prototype: { value: C.prototype as object, writable: false, enumerable: false, configurable: false },
    name: { value: name, configurable: true },
    length: { value: C.length, configurable: true },
  });
  Object.defineProperty(C.prototype, "constructor", { value: constructor, writable: true, enumerable: false, configurable: true });
  return constructor as unknown as C;
}

/** A required function. */
export function callback<F>(value: unknown, position: number, method: string, on: string): F {
  if (typeof value !== "function") throw wrongArgument(method, on, position, "function");
  return value as F;
}

/** An optional dictionary. */
export function options<T extends object>(value: unknown, position: number, method: string, on: string, type: string): Partial<T> {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" && typeof value !== "function") throw wrongArgument(method, on, position, type);
  return value as Partial<T>;
}

/** A time: a number of ms since the epoch, or a Date. */
export function time(args: ArrayLike<unknown>, position: number, method: string, on: string): number {
  const value = args[position - 1];
  if (typeof value !== "number" && !(value instanceof Date)) throw wrongArgument(method, on, position, "date");
  const ms = Number(value);
  if (!Number.isFinite(ms)) throw new TypeError("The value cannot be converted because it is not a valid Date.");
  // As the open-source runtime words it, which counts nanoseconds in 64 bits.
  if (ms >= FURTHEST_MS) throw new TypeError("This API doesn't support dates after 2189.");
  if (ms <= -FURTHEST_MS) throw new TypeError("This API doesn't support dates before 1687.");
  return Math.trunc(ms);
}

/** Own properties as the open-source runtime's objects have them: enumerable, made when they are first read. */
export function defineLazily(object: object, properties: Record<string, () => unknown>): void {
  for (const name of Object.keys(properties)) {
    Object.defineProperty(object, name, {
      get(): unknown {
        const value = properties[name]!();
        Object.defineProperty(object, name, { value, writable: false, enumerable: true, configurable: true });
        return value;
      },
      enumerable: true,
      configurable: true,
    });
  }
}
