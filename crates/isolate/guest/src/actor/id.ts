/**
 * DurableObjectId: which actor, as a value. Made by namespaces and for `ctx.id`; it opens nothing by itself.
 */
import { defineInterface } from "../webidl";
import { wrongArgument } from "./arguments";

const RAW = Symbol();
const defineProperty = Object.defineProperty;
/** The one description of all properties here: an id is made for most calls of an actor. */
const shown: PropertyDescriptor = Object.assign(Object.create(null) as object, { value: undefined, writable: false, enumerable: true, configurable: true });
/** The 64 hexadecimal digits of an id; undefined for everything else. */
export let digitsOf: (value: unknown) => string | undefined;

/** Makes an id that of another actor: a forked heap wakes as somebody else. */
let renewId: (id: DurableObjectId, digits: string, name: string | undefined) => void;

export class DurableObjectId {
  #digits: string;
  declare readonly name: string | undefined;
  declare readonly jurisdiction: string | undefined;

  constructor(raw: unknown, id: string, name: string | undefined) {
    if (raw !== RAW) throw new TypeError("Illegal constructor");
    this.#digits = id;
    shown.value = undefined;
    defineProperty(this, "jurisdiction", shown);
    DurableObjectId.#rename(this, name);
  }

  static #rename(id: DurableObjectId, name: string | undefined): void {
    shown.value = name;
    defineProperty(id, "name", shown);
  }

  toString(): string { return this.#digits; }

  equals(other: unknown): boolean {
    const theirs = digitsOf((this.#digits, other));
    if (theirs === undefined) throw wrongArgument("equals", "DurableObjectId", 1, "DurableObjectId");
    return theirs === this.#digits;
  }

  static {
    renewId = (id, digits, name) => {
      id.#digits = digits;
      DurableObjectId.#rename(id, name);
    };
    digitsOf = (value) => (typeof value === "object" && value !== null && #digits in value ? value.#digits : undefined);
  }
}

defineInterface(DurableObjectId, "DurableObjectId");

export function actorId(id: string, name: string | undefined): DurableObjectId {
  return new DurableObjectId(RAW, id, name);
}

/**
 * What a facet is given as its own id, as one text: 64 digits, behind `-` or followed by a space and a name; or any other text, behind `=`. The host
 * only keeps it.
 */
export function encodeId(id: unknown): string {
  const known = digitsOf(id);
  if (known === undefined) return `=${id as string}`;
  const { name } = id as DurableObjectId;
  return name === undefined ? `-${known}` : `${known} ${name}`;
}

/** Digits and name of an id as the host says it; undefined for a facet's text. */
function decoded(id: string, name: string | undefined): [digits: string, name: string | undefined] | undefined {
  if (id.startsWith("=")) return undefined;
  if (id.startsWith("-")) return [id.slice(1), undefined];
  return id.length > 64 ? [id.slice(0, 64), id.slice(65)] : [id, name];
}

/** `ctx.id`: an id, or the text that a facet was given in its place. */
export function ownId(id: string, name: string | undefined): DurableObjectId | string {
  const known = decoded(id, name);
  return known === undefined ? id.slice(1) : actorId(...known);
}

/** Makes the object that is `ctx.id` say what the host says now. */
export function renewOwnId(own: DurableObjectId | string, id: string, name: string | undefined): void {
  const known = decoded(id, name);
  if (typeof own === "object" && known !== undefined) renewId(own, ...known);
}
