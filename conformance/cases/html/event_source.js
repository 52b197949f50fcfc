/** EventSource (HTML §9.2) against the local origin. */
const collect = (es, names, until) => new Promise((done) => {
  const out = [];
  const take = (e) => { out.push([e.type, e.data, e.lastEventId]); if (out.length === until) { es.close(); done(out); } };
  for (const n of names) es.addEventListener(n, take);
  es.onerror = () => { if (es.readyState === EventSource.CLOSED) done([...out, "closed"]); };
  setTimeout(() => { es.close(); done([...out, "timeout"]); }, 1500);
});

export const cases = {
  "messages": [(t) => collect(new EventSource(t.origin + "/events?script=plain"), ["message"], 2), [["message", "one", ""], ["message", "two\nlines", ""]]],
  "named events, ids, comments": [(t) => collect(new EventSource(t.origin + "/events?script=named"), ["tick", "message"], 2), [["tick", "a", "7"], ["tick", "b", "7"]]],
  "odd fields": [(t) => collect(new EventSource(t.origin + "/events?script=odd"), ["message"], 4), [["message", "", ""], ["message", "no space", ""], ["message", " two spaces", ""], ["message", "z", ""]]],
  "reconnects with the last id": [(t) => collect(new EventSource(t.origin + "/events?reconnect=1"), ["message"], 2), [["message", "first", "42"], ["message", "again after 42", "42"]]],
  "open event and states": [(t) => new Promise((r) => { const es = new EventSource(t.origin + "/events"); const a = es.readyState; es.onopen = (e) => { const b = es.readyState; es.close(); r([a, e.type, b, es.readyState]); }; }), [0, "open", 1, 2]],
  "wrong content type fails for good": [(t) => new Promise((r) => { const es = new EventSource(t.origin + "/html"); es.onerror = (e) => { r([e.type, es.readyState]); es.close(); }; }), ["error", 2]],
  "404 fails for good": [(t) => new Promise((r) => { const es = new EventSource(t.origin + "/none"); es.onerror = () => { r(es.readyState); es.close(); }; }), 2],
  "constants": [() => [EventSource.CONNECTING, EventSource.OPEN, EventSource.CLOSED, EventSource.prototype.CLOSED], [0, 1, 2, 2]],
  "url and withCredentials": [(t) => { const es = new EventSource(t.origin + "/events?x"); const out = [es.url === t.origin + "/events?x", es.withCredentials, es instanceof EventTarget]; es.close(); return out; }],
  "bad URL": [(t) => t.error(() => new EventSource("/relative")), "DOMException:SyntaxError"],
  "withCredentials": [(t) => t.error(() => { const es = new EventSource(t.origin + "/events", { withCredentials: true }); const x = es.withCredentials; es.close(); return x; })],
  "from a stream": [async (t) => t.error(async () => { const es = EventSource.from(new Blob(["data: s1\n\nevent: e\ndata: s2\n\n"]).stream()); return collect(es, ["message", "e"], 2); })],
  "close stops at once": [(t) => new Promise((r) => { let n = 0; const es = new EventSource(t.origin + "/events?script=plain"); es.onmessage = () => { n++; es.close(); }; setTimeout(() => r(n), 150); }), 1],
};
