/**
 * Regular expressions: what the matcher finds, and what a program can observe of the built-ins around it. The first part looks at matches,
 * the second at the steps that the standard makes visible, which the engine may take a short way around only where nobody looks.
 */
const all = (r, s) => Array.from(s.matchAll(r), (m) => [m.index, ...m]);
const exec = (r, s) => { const m = r.exec(s); return m && [m.index, ...m]; };
/** Runs `f` with `RegExp.prototype[name]` replaced, and puts everything back. */
function meddled(name, descriptor, f) {
  const before = Object.getOwnPropertyDescriptor(RegExp.prototype, name);
  Object.defineProperty(RegExp.prototype, name, { configurable: true, ...descriptor });
  try {
    return f(before);
  } finally {
    Object.defineProperty(RegExp.prototype, name, before);
  }
}
const words = "the cat, the hat; THE end\nof Äpfel, straße, ΣΑΣ 😀😁 x1 y22 z333\r\nlast";
const patterns = ["the", "t?he?", "(\\w+)\\s(\\w+)", "(?:the|cat|hat)+", "[^a-z\\s]+", "\\b\\w", "\\B\\w\\b", "^\\w+", "\\w+$", ".", "[\\s\\S]{3}", "(.)\\1", "(\\d)\\1*", "(?=(t))\\1h", "(?!the)\\b\\w+",
  "(?<=the )\\w+", "(?<!x)\\d+", "(?<=(\\w))(\\d+)", "a*?t", "(a|ab|abc)?c", "(?:(a)|(t))+", "((a)|t)*?h", "\\u00e4", "[\\u00c0-\\u00ff]", "\\W{2,}", "(\\w{2,3}?),", "x*", "$", "^", "[]", "[^]", "(?:)", "\\S+(?=,)",
  "\\ud83d", "\\ude00", "😀", "[😀😁]", ".(?=😁)", "[^\\0-\\uffff]", "(?:.\\b)+", "σ", "ß|ẞ", "k|\\u212a", "[^\\W\\d_]+"];

export const cases = {
  "plain patterns": [() => patterns.map((p) => all(new RegExp(p, "g"), words))],
  "patterns with i": [() => patterns.map((p) => all(new RegExp(p, "gi"), words))],
  "patterns with m and s": [() => patterns.map((p) => all(new RegExp(p, "gms"), words))],
  "patterns with u": [() => patterns.map((p) => all(new RegExp(p, "gu"), words))],
  "patterns with iu": [() => patterns.map((p) => all(new RegExp(p, "giu"), words))],
  "patterns with v": [() => patterns.map((p) => all(new RegExp(p, "gv"), words))],
  "patterns with y": [() => patterns.map((p) => { const r = new RegExp(p, "y"); r.lastIndex = 4; return [exec(r, words), r.lastIndex]; })],
  "patterns on narrow text": [() => patterns.map((p) => all(new RegExp(p, "g"), "the cat the hat\nxx11 aab \xe4\xc4"))],
  "indices": [() => { const m = /(?<a>\w)(x)?(?<b>\d+)/d.exec("ab12"); return [m.indices, { ...m.indices.groups }, m.groups.b]; }],
  "named groups": [() => { const m = /(?<year>\d{4})-(?<month>\d\d)(?:-(?<day>\d\d))?/.exec("on 2024-05"); return [{ ...m.groups }, Object.keys(m.groups), Object.getPrototypeOf(m.groups), /(?<a>.)\k<a>/.test("xx")]; }],
  "lookbehind": [() => [exec(/(?<=(\d+)(\d+))$/, "1053"), exec(/(?<=\1(\d+))$/, "1212"), exec(/(?<=^(?:ab)*)c/, "ababc"), exec(/(?<![a-z])\d/, "a1 2"), exec(/(?<=a.*)b/, "a__b"), exec(/(?<=([abc]+)).\1/, "abcdbc")]],
  "lookahead": [() => [exec(/(?=(a+))a*b\1/, "baaabac"), exec(/(?=(a+))/, "baaabac"), exec(/(.*?)a(?!(a+)b\2c)\2(.*)/, "baaabaac"), exec(/(?!(?!a))a/, "ba"), "aXbX".replace(/(?=X)/g, "-")]],
  "groups are reset by each round": [() => [exec(/(z)((a+)?(b+)?(c))*/, "zaacbbbcac"), exec(/(?:(a)|b)*/, "ab"), exec(/(?:(?:(a)|(b))c?)+/, "acb"), exec(/(a*)*/, "b"), exec(/(?:a*?)*?$/, "aa"), exec(/(?:(x)?y)*/, "xyy")]],
  "empty rounds": [() => [exec(/(?:a?)*?b/, "aab"), exec(/(a?)*b/, "aab"), exec(/(?:a|())*c/, "aac"), exec(/(?:(?=(\w)))?\w/, "q"), exec(/(\2a)(\1)/, "aaa"), exec(/()*?x/, "x"), exec(/(?:){3}x/, "x")]],
  "counted repetitions": [() => ["a{0}b", "a{1}", "a{2}", "a{2,}", "a{2,3}", "a{0,2}?b", "(a{2}){2}", "(?:ab){2,3}", "(?:ab){2,3}?", "(a|b){3}", "[ab]{3,4}", "a{,2}", "a{2", "(?:a{0,1}){3}"].map((p) => exec(new RegExp(p), "aaab ababab a{,2} a{2"))],
  "lazy and greedy": [() => ["<.+>", "<.+?>", "<[^>]*>", "(.*)(\\d+)", "(.*?)(\\d+)", "(.*?)(\\d+)$", "a.*c.*e", "\\w+?$", "\\d??x"].map((p) => exec(new RegExp(p), "<a><b> abcde 123"))],
  "legacy syntax": [() => [exec(/\1(a)/, "a"), exec(/[\b]/, "\b"), exec(/\8/, "8"), exec(/\052/, "*"), exec(/\c/, "\\c"), exec(/[\c_]/, "\x1f"), exec(/a{/, "a{"), exec(/]/, "]"), exec(/(?=a)*/, ""), exec(/\k/, "k"), exec(/\x1/, "x1"), exec(/\u{2}/, "uu")]],
  "case folding": [() => [["\u017f", "s"], ["\u212a", "k"], ["\u1e9e", "ß"], ["σ", "ς"], ["µ", "μ"], ["ÿ", "Ÿ"], ["å", "Å"], ["İ", "i"], ["ı", "I"], ["𐐨", "𐐀"], ["ǆ", "ǅ"], ["ﬀ", "FF"], ["\u0390", "\u1fd3"]].map(([a, b]) => ["i", "iu", "iv"].map((f) => [new RegExp(a, f).test(b), new RegExp(b, f).test(a), new RegExp(`[${a}]`, f).test(b), new RegExp(`[^${a}]`, f).test(b)]))],
  "word boundaries with iu": [() => ["i", "u", "iu"].map((f) => [/\bs/, /\w/, /\W/, /\b/].map((r) => ["\u017f", "\u212a", "a\u017f"].map((s) => new RegExp(r.source, f).test(s))))],
  "unicode sets": [() => [..."aé5_😀İ"].map((c) => [/[\p{L}--[a-z]]/v, /[\p{L}&&[a-z]]/v, /[[a-z]\d]/v, /[^\p{L}]/v, /[\q{ab|é}]/v, /\p{RGI_Emoji}/v, /[\p{ASCII}--\w]/v].map((r) => r.test(c)))],
  "strings in unicode sets": [() => [exec(/^[\q{abc|ab|a}]+$/v, "ababc"), exec(/[\q{abc|b}--\q{abc}]/v, "abc"), exec(/[\q{KM|😀}]/iv, "km"), all(/\p{Emoji_Keycap_Sequence}/gv, "1️⃣ 2")]],
  "strings in unicode sets, looking behind": [() => exec(/(?<=[\q{ab|c}])x/v, "abx")],
  "surrogates": [() => [exec(/\ud83d/u, "😀"), exec(/\ud83d/, "😀"), exec(/^.$/u, "\ud83d"), exec(/[\ud83d]/u, "\ud83dx"), exec(/(?<=\ud83d)./, "😀"), exec(/(?<=😀)./u, "😀a"), "😀".split(/(?:)/u), "😀".split(/(?:)/), "😀x".replace(/(?:)/gu, "-"), "😀".replace(/./g, "-")]],
  "lastIndex inside a pair": [() => [/./gu, /\udf06/u, /\udf06/gu, /./yu, /^|\udf06/gu].map((r) => { r.lastIndex = 1; const m = exec(r, "\ud834\udf06x"); return [m, r.lastIndex]; })],
  "line ends": [() => ["a\nb", "a\r\nb", "a\u2028b", "a\u2029b", "a\x85b"].map((s) => [all(/^./gm, s), all(/.$/gm, s), all(/.+/g, s), all(/a.b/gs, s), all(/\s/g, s), /^b/m.test(s), /a$/.test(s)])],
  "whitespace": [() => ["\u00a0", "\ufeff", "\u1680", "\u180e", "\u2000", "\u202f", "\u205f", "\u3000", "\u200b", "\x0b", "\x85"].map((c) => [/\s/.test(c), /\S/.test(c), /[\s]/.test(c), /[^\s]/.test(c), /[\s\d]/u.test(c)])],
  "long runs": [() => { const s = "ab".repeat(5000); return [/^(?:ab)*$/.test(s), /(a|b)*c/.test(s), s.match(/[ab]+/)[0].length, s.match(/(?:a|b)+?$/)[0].length, s.replace(/b/g, "").length, s.split(/a/).length, /^[^c]*b$/.test(s), /\w*\d/.test(s.slice(0, 500))]; }],
  "many alternatives": [() => { const r = new RegExp(`^(?:${Array.from({ length: 500 }, (_, i) => `k${i}x`).join("|")})$`); return ["k0x", "k499x", "k500x", "k49"].map((s) => r.test(s)); }, [true, true, false, false]],
  "many groups": [() => { const m = new RegExp("(a)?(b)?".repeat(50) + "(c)").exec("abc"); return [m.length, m[1], m[2], m[3], m[101]]; }],
  "modifiers": [(t) => t.error(() => [/(?i:a)b/.test("Ab"), /(?-i:a)b/i.test("aB"), /(?-i:a)b/i.test("AB"), /(?s:.)./.test("\n\n"), /(?m:^b)/.test("a\nb"), /(?i-s:a.)/s.test("A\n")])],
  "duplicate names": [(t) => t.error(() => { const r = new RegExp("(?:(?<y>\\d{4})-x|y-(?<y>\\d{2}))+"); return ["2024-x", "y-24", "2024-xy-24"].map((s) => { const m = r.exec(s); return [...m, m.groups.y]; }); })],

  "exec: result object": [() => { const m = /(b)(x)?/.exec("abc"); return [Object.getOwnPropertyDescriptors(m), Array.isArray(m), Object.keys(m), m.length, m.input, m.index, m.groups]; }],
  "exec: the result grows and shrinks": [() => { const m = /(b)/.exec("abc"); m.push("z"); m.length = 1; m[3] = 4; return [m, m.length, m.concat([1]).length, m.slice(0, 2).groups]; }],
  "exec: what counts as lastIndex": [(t) => [undefined, null, "1", 1.9, -1, NaN, Infinity, 2 ** 32, { valueOf: () => 1 }, true].map((v) => ["g", "y", ""].map((f) => { const r = new RegExp("a", f); r.lastIndex = v; const m = exec(r, "aaa"); return [m && m[0], r.lastIndex === v ? "same" : r.lastIndex]; }))],
  "exec: lastIndex is read even when not used": [(t) => { const seen = []; const r = /a/; r.lastIndex = { valueOf() { seen.push("read"); return 0; } }; r.exec("a"); r.test("a"); "a".replace(r, ""); "a".match(r); return seen; }],
  "exec: frozen expressions": [(t) => ["g", "y", ""].map((f) => { const r = Object.freeze(new RegExp("a", f)); return [t.error(() => exec(r, "ba")), t.error(() => r.test("b")), t.error(() => "aa".replace(r, "x")), t.error(() => "aa".match(r)), t.error(() => "bab".split(r)), t.error(() => "aa".search(r))]; })],
  "exec: strings from objects": [() => [exec(/b/, { toString: () => "abc" }), /undefined/.test(), /null/.test(null), exec(/1/, 21), exec(/(?:)/, ["", ""])]],
  "exec: foreign this": [(t) => [t.error(() => RegExp.prototype.exec.call({}, "")), t.error(() => RegExp.prototype.test.call({ exec: () => null }, "x")), t.error(() => RegExp.prototype.test.call({ exec: () => 1 }, "x")), t.error(() => RegExp.prototype[Symbol.replace].call(1, "x"))]],
  "test moves lastIndex": [() => { const r = /a(b)?/g; const out = []; for (let i = 0; i < 5; i++) out.push(r.test("ab-a"), r.lastIndex); return out; }],
  "test with an own exec": [() => { const r = /a/; r.exec = () => ({}); const s = /a/; s.exec = () => null; return [r.test("x"), s.test("a"), "xx".replace(r, "y"), "a".match(s)]; }],
  "an exec of the prototype": [() => meddled("exec", { value(s) { return s === "yes" ? Object.assign(["y", "q"], { index: 0 }) : null; }, writable: true }, () => [/a/.test("yes"), /a/.test("a"), "yes".replace(/zz/, "[$1]"), "yes".match(/zz/), "a".search(/a/), [..."no".matchAll(/n/g)].length, "ab".split(/b/)])],
  "an exec that is not callable": [() => meddled("exec", { value: 5, writable: true }, () => [/a/.test("a"), "aa".replace(/a/g, "b")])],
  "flags of the prototype": [() => meddled("flags", { get: () => "g" }, () => ["aXa".match(/a/y), "aaa".replace(/b|^a/y, "x"), "a-b".split(/-/)])],
  "single flags of the prototype": [() => meddled("global", { get: () => true }, () => [/x/.flags, /x/y.flags]), ["g", "gy"]],
  "flags are read from the expression": [() => { const seen = []; const r = new Proxy(/a/g, { get: (o, k) => { seen.push(String(k)); const v = Reflect.get(o, k, o); return typeof v === "function" ? v.bind(o) : v; } }); const out = RegExp.prototype[Symbol.replace].call(r, "banana", "o"); return [out, seen]; }],
  "own flags": [() => { const r = /a/; Object.defineProperty(r, "flags", { value: "g" }); const s = /a/g; Object.defineProperty(s, "global", { value: false }); return ["aaa".match(s), s.flags, "aXa".replace(s, "-")]; }],
  "own exec counts calls": [() => { let n = 0; const r = /a/g; r.exec = function (s) { n++; return RegExp.prototype.exec.call(this, s); }; return ["banana".replace(r, "o"), "banana".match(r), n]; }],
  "subclass": [() => { class R extends RegExp { exec(s) { const m = super.exec(s); if (m) m[0] = m[0].toUpperCase(); return m; } } return ["banana".match(new R("a", "g")), "banana".replace(new R("(n)a", "g"), "<$&$1>"), new R("a").test("a"), "banana".split(new R("n")), [..."aa".matchAll(new R("a", "g"))].length, new R("x") instanceof R]; }],
  "species": [() => { const made = []; class R extends RegExp { static get [Symbol.species]() { return function (p, f) { made.push(f); return new RegExp(p, f); }; } } return ["a-b".split(new R("-")), [..."ab".matchAll(new R(".", "g"))].length, made]; }],
  "own constructor": [() => { const r = /-/; r.constructor = class extends RegExp {}; const s = /-/; s.constructor = undefined; return ["a-b".split(r), "a-b".split(s)]; }],
  "Symbol.match and friends replaced": [() => { const r = /a/; r[Symbol.replace] = (s, x) => `${s}:${x}`; r[Symbol.split] = () => "split"; r[Symbol.match] = null; return ["q".replace(r, "w"), "q".split(r), t0(() => "/a/".match(r)), "a".startsWith("a")]; function t0(f) { try { return f(); } catch (e) { return e.name; } } }],
  "replace: patterns": [() => ["$$", "$&", "$`", "$'", "$1", "$2", "$01", "$10", "$11", "$00", "$0", "$3", "$<x>", "$", "a$", "$$1", "$1$2$1", "é$&", "$\u0661"].map((p) => ["-ab-ab-".replace(/(a)(b)/g, p), "-ab-".replace(/(a)(b)/, p), "-ab-".replace("ab", p)])],
  "replace: patterns of named groups": [() => ["$<x>", "$<y>", "$<x", "$<>", "[$<x>$1]"].map((p) => "-ab-".replace(/(?<x>a)b/g, p))],
  "replace: functions": [() => { const seen = []; return ["a1b22".replace(/([a-z])(\d)?(z)?/g, (...a) => { seen.push(a); return `<${a[0]}>`; }), seen, "xyz".replace(/y/, () => "$&"), "xyz".replace(/y/, () => 5), "xyz".replace(/(?<n>y)/, (...a) => JSON.stringify(a)), "aaa".replace(/a/g, () => undefined)]; }],
  "replace: functions see one state": [() => { const r = /a/g; const seen = []; const out = "aXaXa".replace(r, () => { seen.push(r.lastIndex); r.lastIndex = 3; r.exec = () => { throw 1; }; return "b"; }); return [out, seen, r.lastIndex]; }],
  "replace: a function that throws": [(t) => { const r = /a/g; return [t.error(() => "aaa".replace(r, () => { throw new RangeError("no"); })), r.lastIndex]; }],
  "replace: a function that compiles anew": [() => { const r = /a(b)?/g; return "abaab".replace(r, (m) => { r.compile("b", "y"); return `[${m}]`; }); }],
  "replace: empty matches": [() => ["abc".replace(/(?:)/g, "-"), "abc".replace(/x*/g, "-"), "abc".replace(/$/g, "!"), "".replace(/^/g, "x"), "a\nb".replace(/^/gm, "> "), "abc".replace(/(?=b)|(?<=b)/g, "|"), "😀".replace(/x*/gu, "-"), "😀".replace(/x*/g, "-").length]],
  "replace: sticky": [() => { const r = /a/y; const out = ["aab".replace(r, "x"), r.lastIndex]; out.push("aab".replace(r, "x"), r.lastIndex, "aab".replace(r, "x"), r.lastIndex); return [...out, "aaba".replace(/a/gy, "x")]; }],
  "replace: lastIndex after global": [() => { const r = /a/g; r.lastIndex = 2; const out = ["banana".replace(r, "o"), r.lastIndex]; r.lastIndex = 3; out.push("xyz".replace(r, "o"), r.lastIndex); return out; }],
  "replace: the replacement is converted once": [() => { let n = 0; return ["aaa".replace(/a/g, { toString: () => `${++n}` }), n, "aaa".replace(/a/g, undefined), "a".replace(/a/, null)]; }],
  "replace: nested": [() => "a(b(c))".replace(/[a-c]/g, (m) => m.replace(/./g, (x) => x.toUpperCase().replace(/(.)/, "$1$1")))],
  "replaceAll and matchAll need g": [(t) => [t.error(() => "a".replaceAll(/a/, "b")), t.error(() => "a".matchAll(/a/)), "aa".replaceAll(/a/g, "b"), [..."ab".matchAll("b")][0].index]],
  "match": [() => ["aBab".match(/b/gi), "abc".match(/x/g), "abc".match(/(b)(c)/).index, "abc".match(/(?:)/g), "aaa".match(/a/gy), "baa".match(/a/gy), "x".match(), "a.c".match("."), "😀".match(/(?:)/gu).length, "😀".match(/(?:)/g).length]],
  "matchAll keeps its own lastIndex": [() => { const r = /a/g; r.lastIndex = 1; const i = "aaa".matchAll(r); r.lastIndex = 0; return [[...i].map((m) => m.index), r.lastIndex, Object.prototype.toString.call(i)]; }],
  "search": [() => { const r = /b/g; r.lastIndex = 2; return ["abc".search(r), r.lastIndex, "abc".search("c"), "abc".search(/z/), "abc".search(/b/y), "ab".search()]; }],
  "split": [() => [["a1b2c", /\d/], ["a1b2c", /(\d)/], ["abc", /(?:)/], ["abc", /b*/], ["", /x/], ["", /(?:)/], ["", /^/], ["aXbX", /x/i], ["a,b,", /,/], [",a", /,/], ["a\nb", /^/m], ["test", /(?=s)/], ["aab", /(?<=a)/], ["A<B>bold</B>and<CODE>coded</CODE>", /<(\/)?([^<>]+)>/], ["abc", /$/], ["abc", /c/y], ["abab", /a/y], ["😀😁", /(?:)/u], ["a  b", / */], ["ab", /(a)|b/]].map(([s, r]) => s.split(r))],
  "split: limits": [() => [0, 1, 2, 3, -1, 2 ** 32, 2 ** 32 + 1, undefined, null, "2", NaN, 1.9].map((n) => "a1b2c".split(/(\d)/, n))],
  "split leaves the expression alone": [() => { const r = /,/g; r.lastIndex = 7; return ["a,b".split(r), r.lastIndex]; }],
  "species of RegExp": [() => { const before = Object.getOwnPropertyDescriptor(RegExp, Symbol.species); Object.defineProperty(RegExp, Symbol.species, { configurable: true, value: class extends RegExp { exec() { return null; } } }); try { return "a-b".split(/-/); } finally { Object.defineProperty(RegExp, Symbol.species, before); } }, ["a-b"]],
  "compile": [() => { const r = /a/g; r.lastIndex = 3; r.compile("b(c)"); return [String(r), r.lastIndex, exec(r, "abc"), r.flags]; }],
  "source and flags": [() => [/\//.source, new RegExp("/").source, new RegExp("").source, new RegExp("\n").source, String(/[/]/dgimsuy), RegExp.prototype.source, RegExp.prototype.flags, RegExp.prototype.toString()]],
  "literals are new each time": [() => { const f = () => /a/g; const r = f(); r.test("a"); return [f() === f(), r.lastIndex, f().lastIndex]; }, [false, 1, 0]],
  "other prototypes": [(t) => { const r = Object.setPrototypeOf(/a/g, null); const s = Object.setPrototypeOf(/a/g, Array.prototype); return [t.error(() => RegExp.prototype.exec.call(r, "a").length), t.error(() => r.exec), t.error(() => RegExp.prototype[Symbol.match].call(s, "aa"))]; }],
};
