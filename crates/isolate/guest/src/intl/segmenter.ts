/**
 * Intl.Segmenter: grapheme clusters by the rules of Unicode Annex 29 as far as properties known to regular expressions carry them,
 * words and sentences by a simple form of its rules.
 */
import { type Options, choice, chooseLocale, defineService, strictOptions } from "./locale";

const hangul = "(?:[\\u1100-\\u115f\\ua960-\\ua97c]*(?:[\\uac00-\\ud7a3]|[\\u1160-\\u11a7\\ud7b0-\\ud7c6])[\\u1160-\\u11a7\\ud7b0-\\ud7c6]*[\\u11a8-\\u11ff\\ud7cb-\\ud7fb]*|[\\u1100-\\u115f\\ua960-\\ua97c]+|[\\u11a8-\\u11ff\\ud7cb-\\ud7fb]+)";
const extend = "[\\p{M}\\p{Emoji_Modifier}\\u200c\\u200d]";
// In these scripts a virama binds the next consonant to the cluster.
const conjunct = "(?<=[\\u094d\\u09cd\\u0acd\\u0b4d\\u0c4d\\u0d4d]\\u200d?)(?=\\p{Lo})[\\p{Script=Devanagari}\\p{Script=Bengali}\\p{Script=Gujarati}\\p{Script=Oriya}\\p{Script=Telugu}\\p{Script=Malayalam}]";
const emoji = `\\p{Extended_Pictographic}(?:[\\p{M}\\p{Emoji_Modifier}]*\\u200d\\p{Extended_Pictographic})*`;
const grapheme = new RegExp(
  `\\r\\n|[\\p{Cc}\\p{Zl}\\p{Zp}]|(?:\\p{RI}\\p{RI}|${emoji}|${hangul}|[^\\p{Cc}\\p{Zl}\\p{Zp}])(?:${extend}|${conjunct})*`,
  "uy",
);

const letter = "[\\p{Alphabetic}\\p{M}]";
const ideograph = "[\\p{Script=Han}\\p{Script=Hiragana}]";
const word = new RegExp(
  `\\r\\n|${ideograph}\\p{M}*|`
  + `(?:(?!${ideograph})${letter}|[\\p{Nd}_])(?:(?!${ideograph})[\\p{Alphabetic}\\p{M}\\p{Nd}_\\u200d]|(?<=${letter})['’·](?=${letter})|(?<=\\p{Nd})[.,;'’](?=\\p{Nd}))*|`
  + `[ \\u2000-\\u2006\\u2008-\\u200a\\u205f\\u3000]+|(?:\\p{RI}\\p{RI}|${emoji}|[^])[\\p{M}\\p{Emoji_Modifier}\\u200d]*`,
  "uy",
);
const wordLike = /[\p{Alphabetic}\p{N}]/u;

interface Segment {
  segment: string;
  index: number;
  input: string;
  isWordLike?: boolean;
}

type Granularity = "grapheme" | "word" | "sentence";

// A terminator with its closing marks and blanks, or the end of a paragraph.
const terminator = /([.\u2024!?…。！？]+)["'”’»)\]}]*[^\S\r\n\u0085\u2028\u2029]*(\r\n|[\r\n\u0085\u2028\u2029])?|\r\n|[\r\n\u0085\u2028\u2029]/gu;

/** Where the sentence that starts at `from` ends. */
function sentenceEnd(input: string, from: number): number {
  terminator.lastIndex = from;
  for (let m = terminator.exec(input); m !== null; m = terminator.exec(input)) {
    const end = m.index + m[0].length;
    const rest = input.slice(end, end + 200);
    const marks = m[1];
    if (marks === undefined || m[2] !== undefined) return end;
    if (/^[,:;\-–—、]/u.test(rest)) continue;
    const full = marks.endsWith(".");
    const bare = m[0] === marks;
    if (full && bare && /^\p{Nd}/u.test(rest)) continue; // 3.14
    if (full && bare && /[\p{Lu}\p{Ll}]/u.test(input[m.index - 1] ?? "") && /^\p{Lu}/u.test(rest)) continue; // U.S
    if (full && /^[^\p{L}\r\n.!?]*\p{Ll}/u.test(rest)) continue; // etc. and
    return end;
  }
  return input.length;
}

/** The segment that starts at `index`. */
function segmentAt(input: string, index: number, granularity: Granularity): Segment {
  if (granularity === "sentence") return { segment: input.slice(index, sentenceEnd(input, index)), index, input };
  const pattern = granularity === "grapheme" ? grapheme : word;
  pattern.lastIndex = index;
  const segment = pattern.exec(input)?.[0] ?? input[index]!;
  const result: Segment = { segment, index, input };
  if (granularity === "word") result.isWordLike = wordLike.test(segment);
  return result;
}

class Segments {
  #input: string;
  #granularity: Granularity;

  constructor(input: string, granularity: Granularity) {
    this.#input = input;
    this.#granularity = granularity;
  }

  containing(index?: number): Segment | undefined {
    const n = Math.trunc(Number(index)) || 0;
    if (n < 0 || n >= this.#input.length) return undefined;
    for (let at = 0; ; ) {
      const segment = segmentAt(this.#input, at, this.#granularity);
      at += segment.segment.length;
      if (at > n) return segment;
    }
  }

  *[Symbol.iterator](): Generator<Segment> {
    for (let at = 0; at < this.#input.length; ) {
      const segment = segmentAt(this.#input, at, this.#granularity);
      at += segment.segment.length;
      yield segment;
    }
  }
}

export class Segmenter {
  #locale: string;
  #granularity: Granularity;

  constructor(locales?: unknown, options?: unknown) {
    this.#locale = chooseLocale(locales, "Segmenter").locale;
    const o = strictOptions(options);
    choice(o, "localeMatcher", ["lookup", "best fit"], "best fit");
    this.#granularity = choice(o, "granularity", ["grapheme", "word", "sentence"], "grapheme");
  }

  segment(input: unknown): Segments {
    return new Segments(`${input as string}`, this.#granularity);
  }

  resolvedOptions(): Options {
    return { locale: this.#locale, granularity: this.#granularity };
  }
}

defineService(Segmenter, "Segmenter");
