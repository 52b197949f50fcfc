/**
 * Operations that the interpreter does together with the one that follows: comparisons with branches, strings with constants, fields of
 * variables, assignments to `let`. What they do must not depend on it, least of all where a value is not the usual one.
 */
const name = (f) => { try { return f(); } catch (e) { return e.constructor.name; } };
const pick = (v) => { switch (v) { case "a": return 1; case "ab": return 2; case "ä": return 3; case "Ω": return 4; case "": return 5; case "7": return 6; case "\u0100": return 7; default: return 0; } };
const equal = (v) => { if (v === "kind") return true; return false; };
const field = (o) => o.kind;
const rope = (a, b) => a + b;

export const cases = {
  "switch on strings": [() => ["a", "ab", "ä", "Ω", "", "7", "\u0100", "b", "aΩ".slice(1), "xab".slice(1), "long enough to be a slice: a".slice(-1), "long enough: ".slice(5, 5), "Ωa".slice(1), "\u0000", rope("a", "b")].map(pick)],
  "switch on other values": [() => [7, null, undefined, true, NaN, {}, [], ["a"], new String("a"), Symbol("a"), 7n].map(pick)],
  "a string and a constant": [() => ["kind", "kin" + "d", rope("ki", "nd"), "kinds", "Kind", new String("kind"), 4, null].map(equal)],
  "comparisons and branches": [() => {
    const values = [0, 1, -1, 2147483647, -2147483648, 0.5, NaN, "1", null, undefined, 1n, true];
    const out = [];
    for (const a of values) for (const b of values) {
      let bits = "";
      if (a < b) bits += "<"; if (a <= b) bits += "["; if (a > b) bits += ">"; if (a >= b) bits += "]";
      if (a == b) bits += "="; if (a != b) bits += "!"; if (a === b) bits += "s"; if (a !== b) bits += "n";
      out.push(bits);
    }
    return out;
  }],
  "fields of variables": [() => {
    class A { get kind() { return "getter of " + this.own; } }
    const a = new A();
    a.own = "a";
    const proxy = new Proxy({}, { get: (_, key, receiver) => [key, receiver === proxy] });
    const list = [1];
    list.kind = "list";
    return [{ kind: 1 }, Object.create({ kind: 2 }), Object.create(null), a, Object.create(a), proxy, Object.create(proxy).__proto__ === proxy, list, "text", 5, () => 0].map(field).concat(name(() => field(null)), name(() => field(undefined)));
  }],
  "lengths": [() => ["abc", "", rope("abc", "Ω"), [1, 2], { length: 7 }, {}, 5, new String("xy"), new Uint8Array(3), (a, b) => a + b].map((v) => v.length).concat(name(() => { let n = null; return n.length; }))],
  "assignments before the declaration": [() => [
    name(() => { a = 1; let a; return a; }), name(() => { a++; let a = 1; return a; }), name(() => { const f = () => { b = 2; }; f(); let b; return b; }),
    name(() => { const f = () => { b++; }; f(); let b = 1; return b; }),
    name(() => { let a = 1; { a + d; let d = 2; return d; } }), name(() => { switch (1) { case 0: let e = 1; case 1: e = 2; return e; } }),
  ]],
  "assignments": [() => {
    let a = 2147483647, b = "7", c = 5n, d = -1, text = "";
    const e = a++;
    b++; c++; d = d << 3 ^ d; d ^= d >>> 17;
    let captured = 0;
    const count = () => { captured++; captured = captured + 1; captured ^= 8; return captured; };
    for (let i = 0; i < 3; i++) { text = text + i; a = a + i; a = a | 0; count(); }
    const g = (d = 9);
    let s = 1n; s = s << 70n ^ 5n;
    return [a, b, String(c), d, e, g, text, captured, String(s), name(() => { let m = 1n; m = m << 1 ^ 3; return m; })];
  }],
  "order of effects": [() => {
    const log = [];
    const value = (n) => ({ valueOf() { log.push(n); return n; } });
    let x = value(1), y = value(2), z = value(3);
    let r = x << y ^ z;
    if (x < y) r = x + y;
    let k = value(5); k++;
    return [r, k, log];
  }],
};
