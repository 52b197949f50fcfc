/** Redirects over the network and behind a service binding (Fetch §4.4, HTTP-redirect fetch). */
const at = (t, q) => `${t.origin}/redirect?${new URLSearchParams(q)}`;
const echo = async (t, q, init) => (await fetch(at(t, q), init)).json();

export const cases = {
  "methods by status": [async (t) => { const out = []; for (const code of [301, 302, 303, 307, 308]) for (const method of ["POST", "PUT", "GET"]) out.push((await echo(t, { code }, { method, ...(method === "GET" ? {} : { body: "b" }) })).method); return out; }],
  "bodies by status": [async (t) => { const out = []; for (const code of [301, 302, 303, 307, 308]) out.push((await echo(t, { code }, { method: "POST", body: "b" })).body); return out; }, ["", "", "", "b", "b"]],
  "PUT keeps its body": [async (t) => [(await echo(t, { code: 302 }, { method: "PUT", body: "b" })).body, (await echo(t, { code: 303 }, { method: "PUT", body: "b" })).body]],
  "other statuses are no redirects": [async (t) => { const out = []; for (const code of [300, 304, 305, 306]) out.push((await fetch(at(t, { code }))).status); return out; }, [300, 304, 305, 306]],
  "twenty are followed": [async (t) => t.error(async () => (await fetch(at(t, { n: 20 }))).redirected), { ok: true }],
  "a hundred are not": [async (t) => typeof await t.error(fetch(at(t, { n: 100 }))), "string"],
  "url has no fragment": [async (t) => { const r = await fetch(at(t, { to: "/echo#part" })); return r.url === `${t.origin}/echo`; }],
  "relative targets": [async (t) => { const out = []; for (const to of ["echo?x", "/echo?y", "?n=1&to=%2Fecho%3Fz", `${t.origin}/echo?w`]) out.push((await echo(t, { to })).url); return out; }, ["/echo?x", "/echo?y", "/echo?z", "/echo?w"]],
  "manual": [async (t) => { const r = await fetch(at(t, { to: "/x" }), { redirect: "manual" }); return [r.status, r.headers.get("location"), r.redirected, r.url === at(t, { to: "/x" })]; }],
  "custom headers stay": [async (t) => (await echo(t, {}, { headers: { "x-a": "1", "content-type": "a/b" } })).headers["x-a"], "1"],
  "a stream is not sent again": [async (t) => { const body = new ReadableStream({ start(c) { c.enqueue(new Uint8Array([1])); c.close(); } }); return typeof await t.error(fetch(at(t, { code: 307 }), { method: "POST", body, duplex: "half" })); }, "string"],
  "a stream is dropped by 303": [async (t) => t.error(async () => { const body = new ReadableStream({ start(c) { c.enqueue(new Uint8Array([1])); c.close(); } }); return (await echo(t, { code: 303 }, { method: "POST", body, duplex: "half" })).method; })],
  "HEAD stays HEAD": [async (t) => { const r = await fetch(at(t, { code: 303 }), { method: "HEAD" }); return [r.status, r.redirected, await r.text()]; }, [200, true, ""]],
};
