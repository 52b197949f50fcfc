/**
 * Conversions of arguments of the actor API, with the open-source runtime's texts. Used by every file here; no API of its own.
 */

/** The text for an argument that is not what it must be. */
export function wrongArgument(method: string, on: string, position: number, type: string): TypeError {
  return new TypeError(`Failed to execute '${method}' on '${on}': parameter ${position} is not of type '${type}'.`);
}

/** A required string: anything given is converted. */
export function text(args: ArrayLike<unknown>, position: number, method: string, on: string): string {
  if (args.length < position) throw wrongArgument(method, on, position, "string");
  return `${args[position - 1] as string}`;
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
