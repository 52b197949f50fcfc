/**
 * Intl.ListFormat for English.
 */
import { type Options, choice, chooseLocale, defineService, strictOptions } from "./locale";
import { type Part, text } from "./number_format";

export class ListFormat {
  #locale: string;
  #type: "conjunction" | "disjunction" | "unit";
  #style: "long" | "short" | "narrow";

  constructor(locales?: unknown, options?: unknown) {
    this.#locale = chooseLocale(locales, "ListFormat").locale;
    const o = strictOptions(options);
    choice(o, "localeMatcher", ["lookup", "best fit"], "best fit");
    this.#type = choice(o, "type", ["conjunction", "disjunction", "unit"], "conjunction");
    this.#style = choice(o, "style", ["long", "short", "narrow"], "long");
  }

  format(list?: Iterable<string>): string {
    return text(this.formatToParts(list));
  }

  formatToParts(list?: Iterable<string>): Part[] {
    const items: string[] = [];
    if (list !== undefined) {
      for (const item of list) {
        if (typeof item !== "string") throw new TypeError("Iterable yielded a non-String value");
        items.push(item);
      }
    }
    const word = this.#word();
    const comma = this.#type === "unit" && this.#style === "narrow" ? " " : ", ";
    const parts: Part[] = [];
    items.forEach((value, i) => {
      const last = i === items.length - 1 && word !== "";
      if (i > 0) parts.push({ type: "literal", value: !last ? comma : items.length === 2 ? ` ${word} ` : `${comma}${word} ` });
      parts.push({ type: "element", value });
    });
    return parts;
  }

  #word(): string {
    if (this.#type === "disjunction") return "or";
    if (this.#type === "unit" || this.#style === "narrow") return "";
    return this.#style === "long" ? "and" : "&";
  }

  resolvedOptions(): Options {
    return { locale: this.#locale, type: this.#type, style: this.#style };
  }
}

defineService(ListFormat, "ListFormat");
