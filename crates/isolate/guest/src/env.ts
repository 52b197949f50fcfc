/**
 * The worker's `env`, made from the binding descriptors of `load`. One object for the life of the isolate: handlers get it, and `cloudflare:workers`
 * exports it. What a binding does is elsewhere; here it only gets its name.
 */
import type { Wire } from "./host";

/**
 * What the host sends for each binding: name, kind, and what that kind needs — text or a secret's placeholder, JSON text, bytes, a channel, or a
 * serialised value with the channels it refers to.
 */
export type BindingDescriptor = [name: string, kind: string, value: Wire, channels?: number[]];

/** Makes the value of a binding that is more than data. */
export type BindingMaker = (value: any, channels: number[]) => unknown;

const makers: Record<string, BindingMaker> = Object.assign(Object.create(null) as object, {
  text: (value: string) => value,
  secret: (value: string) => value,
  json: (value: string) => JSON.parse(value) as unknown,
  data: (value: Uint8Array) => value.buffer,
});

/** Puts what the host says now behind a value that was made before. */
export type BindingRenewer = (made: unknown, value: any) => void;

const renewers: Record<string, BindingRenewer> = Object.create(null) as Record<string, BindingRenewer>;

/** Called while the image is made, for the kinds whose values are made elsewhere. `renew`: for what stands for something of the host's. */
export function defineBinding(kind: string, make: BindingMaker, renew?: BindingRenewer): void {
  makers[kind] = make;
  if (renew !== undefined) renewers[kind] = renew;
}

// Defined, not assigned: `__proto__` is a name like any other.
function define(into: object, name: string, value: unknown): void {
  Object.defineProperty(into, name, { value, writable: true, enumerable: true, configurable: true });
}

/** The bindings as an object. A nameless one is an `env` given as a whole (by the loader): its properties are the bindings. */
export function makeEnv(descriptors: readonly BindingDescriptor[], into: Record<string, unknown> = {}): Record<string, unknown> {
  for (const [name, kind, value, channels] of descriptors) {
    const make = makers[kind];
    if (make === undefined) throw new TypeError(`Binding "${name}" is of an unknown kind: "${kind}".`);
    const made = make(value, channels ?? []);
    if (name !== "") define(into, name, made);
    else for (const key of Object.keys(made as object)) define(into, key, (made as Record<string, unknown>)[key]);
  }
  return into;
}

/**
 * After waking: the host's table is new, and so are the numbers in it. Objects that stand for something in it stay the same, for scripts hold them;
 * one that a script has put something else in the place of is left alone.
 */
export function renewEnv(descriptors: readonly BindingDescriptor[], of: Record<string, unknown>): void {
  for (const descriptor of descriptors) {
    const [name, kind, value] = descriptor;
    const renew = renewers[kind];
    if (renew !== undefined) renew(of[name], value);
    else makeEnv([descriptor], of);
  }
}

/** The live `env`: empty until `load`. */
export const env: Record<string, unknown> = {};

