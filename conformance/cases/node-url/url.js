/** node:url and node:querystring. */
import url, { URL as U, fileURLToPath, pathToFileURL, parse, format, resolve, domainToASCII, domainToUnicode, urlToHttpOptions } from "node:url";
import qs from "node:querystring";

export const cases = {
  "same URL class": [() => [U === URL, url.URLSearchParams === URLSearchParams], [true, true]],
  "fileURLToPath": [(t) => [fileURLToPath("file:///a%20b/c"), fileURLToPath(new URL("file:///x")), t.error(() => fileURLToPath("http://x")), t.error(() => fileURLToPath("file://host/x")), t.error(() => fileURLToPath("file:///a%2fb")), t.error(() => fileURLToPath(5))], ["/a b/c", "/x", "TypeError[ERR_INVALID_URL_SCHEME]", "TypeError[ERR_INVALID_FILE_URL_HOST]", "TypeError[ERR_INVALID_FILE_URL_PATH]", "TypeError[ERR_INVALID_ARG_TYPE]"]],
  "pathToFileURL": [() => ["/a b#?%\n", "/x/../y", "/é/"].map((p) => pathToFileURL(p).href), ["file:///a%20b%23%3F%25%0A", "file:///y", "file:///%C3%A9/"]],
  "legacy parse": [() => { const { protocol, auth, host, port, hostname, hash, search, query, pathname, path, href } = parse("http://u:p@Host.com:8080/p/a/t/h?q=s#hash"); return { protocol, auth, host, port, hostname, hash, search, query, pathname, path, href }; }, { protocol: "http:", auth: "u:p", host: "host.com:8080", port: "8080", hostname: "host.com", hash: "#hash", search: "?q=s", query: "q=s", pathname: "/p/a/t/h", path: "/p/a/t/h?q=s", href: "http://u:p@host.com:8080/p/a/t/h?q=s#hash" }],
  "legacy parse relative and query": [() => { const a = parse("/x?a=1&a=2", true); return [a.pathname, { ...a.query }, a.protocol, parse("//h/p", false, true).host, parse("mailto:a@b").href]; }],
  "legacy format and resolve": [() => [format({ protocol: "http", host: "a.com", pathname: "x", query: { b: 1 } }), format(new URL("http://u:p@é.com/x#h"), { auth: false, fragment: false, unicode: true }), resolve("/one/two", "three"), resolve("http://a.com/b", "../c")], ["http://a.com/x?b=1", "http://é.com/x", "/one/three", "http://a.com/c"]],
  "domains": [() => [domainToASCII("español.com"), domainToASCII("xn--iñvalid.com"), domainToUnicode("xn--espaol-zwa.com")], ["xn--espaol-zwa.com", "", "español.com"]],
  "urlToHttpOptions": [() => { const o = urlToHttpOptions(new URL("http://a:b@x.com:81/p?q#h")); return [o.protocol, o.hostname, o.port, o.path, o.auth, o.hash]; }, ["http:", "x.com", 81, "/p?q", "a:b", "#h"]],
  "qs parse": [() => [{ ...qs.parse("a=1&b=2&a=3&c&=d&e=%20+x") }, { ...qs.parse("a:1;b:2", ";", ":") }, { ...qs.parse("a=%zz&b=%E2%82%AC") }, { ...qs.parse("a=1&b=2&c=3", null, null, { maxKeys: 2 }) }], [{ a: ["1", "3"], b: "2", c: "", "": "d", e: "  x" }, { a: "1", b: "2" }, { a: "%zz", b: "€" }, { a: "1", b: "2" }]],
  "qs stringify": [() => [qs.stringify({ a: [1, "x"], b: "é &", c: true, d: null, e: undefined, f: NaN, g: {}, h: 1n }), qs.stringify({ a: 1, b: 2 }, ";", ":"), qs.stringify(null), qs.stringify({ a: [] })], ["a=1&a=x&b=%C3%A9%20%26&c=true&d=&e=&f=&g=&h=1", "a:1;b:2", "", ""]],
  "qs escape and unescape": [(t) => [qs.escape("a b/é!'()*"), qs.unescape("%41%zz+"), qs.encode === qs.stringify, qs.decode === qs.parse, Object.getPrototypeOf(qs.parse("a=1")), t.error(() => qs.escape("\ud800"))], ["a%20b%2F%C3%A9!'()*", "A%zz+", true, true, null, "URIError[ERR_INVALID_URI]"]],
};
