/**
 * Web IDL's "pair iterator" for interfaces that are lists of name and value: `entries`, `keys`, `values`, `forEach` and iteration itself.
 * Used by URLSearchParams, Headers and FormData. Iteration is live: it looks at the list anew in each step.
 */

const iteratorPrototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())) as object;

const ENTRIES = 0, KEYS = 1, VALUES = 2;

/**
 * Gives `C` its iteration members. `pairs` returns the flat list (name, value, …) and is the brand check. Call it before
 * `defineInterface`.
 */
export function definePairIteration<T extends object>(C: { prototype: T }, name: string, pairs: (self: T) => readonly unknown[]): void {
  class PairIterator {
    #target: T;
    #kind: number;
    #index = 0;

    constructor(target: T, kind: number) {
      this.#target = target;
      this.#kind = kind;
    }

    next(): IteratorResult<unknown, undefined> {
      const list = pairs(this.#target);
      const i = this.#index;
      if (i >= list.length) return { value: undefined, done: true };
      this.#index = i + 2;
      const kind = this.#kind;
      return { value: kind === ENTRIES ? [list[i], list[i + 1]] : list[i + (kind === KEYS ? 0 : 1)], done: false };
    }
  }
  const prototype = PairIterator.prototype as object;
  delete (prototype as { constructor?: unknown }).constructor;
  Object.setPrototypeOf(prototype, iteratorPrototype);
  Object.defineProperty(prototype, "next", { enumerable: true });
  Object.defineProperty(prototype, Symbol.toStringTag, { value: `${name} Iterator`, configurable: true });

  const members = {
    entries(this: T) { return pairs(this), new PairIterator(this, ENTRIES); },
    keys(this: T) { return pairs(this), new PairIterator(this, KEYS); },
    values(this: T) { return pairs(this), new PairIterator(this, VALUES); },
    forEach(this: T, callback: (value: unknown, key: unknown, parent: T) => void, thisArg?: unknown): void {
      pairs(this);
      if (typeof callback !== "function") throw new TypeError(`Failed to execute 'forEach' on '${name}': parameter 1 is not of type 'function'.`);
      for (let i = 0, list = pairs(this); i < list.length; i += 2, list = pairs(this)) callback.call(thisArg, list[i + 1], list[i], this);
    },
  };
  Object.defineProperty(members.forEach, "length", { value: 1, configurable: true });
  for (const [key, value] of Object.entries(members)) Object.defineProperty(C.prototype, key, { value, writable: true, enumerable: true, configurable: true });
  Object.defineProperty(C.prototype, Symbol.iterator, { value: members.entries, writable: true, enumerable: false, configurable: true });
}

/** Web IDL conversion to `sequence<sequence<…>>`: the pairs of an iterable, flat, or undefined when `init` is not iterable. */
export function pairSequence(init: object, where: string): unknown[] | undefined {
  const method = (init as { [Symbol.iterator]?: unknown })[Symbol.iterator];
  if (method === undefined || method === null) return undefined;
  if (typeof method !== "function") throw new TypeError(`${where}: the initializer is not iterable.`);
  const flat: unknown[] = [];
  for (const item of init as Iterable<unknown>) {
    if ((typeof item !== "object" && typeof item !== "function") || item === null) throw new TypeError(`${where}: each element of the sequence must be a pair.`);
    const pair = Array.isArray(item) ? item : [...(item as Iterable<unknown>)];
    if (pair.length !== 2) throw new TypeError(`${where}: each inner sequence must have exactly two elements.`);
    flat.push(pair[0], pair[1]);
  }
  return flat;
}
