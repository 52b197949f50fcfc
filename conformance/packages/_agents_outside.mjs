/** The package's own browser client, run here: state that follows both ways, calls, streams, and messages of one's own. */
import { AgentClient } from "agents/client";
import WebSocket from "ws";

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A client on a new agent, or on the one named. */
async function connect(at, options = {}, name = `outside-${Math.random()}`) {
  class Socket extends WebSocket {
    constructor(url, protocols) { super(url, protocols, { headers: at.headers }); }
  }
  const client = new AgentClient({ agent: "chat", name, host: `${at.host}:${at.port}`, protocol: "ws", basePath: `serve/0/agents/chat/${name}`, WebSocket: Socket, maxRetries: 0, ...options });
  await new Promise((done, failed) => { client.addEventListener("open", done); client.addEventListener("error", (e) => failed(new Error(e.message ?? "no connection"))); });
  return client;
}
const heard = (until) => { let resolve; const all = []; const done = new Promise((r) => { resolve = r; }); return { push: (x) => { all.push(x); if (until(all)) resolve(all); }, done: Promise.race([done, pause(3000).then(() => all)]) }; };

export const cases = {
  "state comes on connecting": [async (at) => { const states = heard((all) => all.length === 1); const c = await connect(at, { onStateUpdate: (s, from) => states.push([s, from]) }); const out = await states.done; c.close(); return out; }, [[{ count: 0, lines: [] }, "server"]]],
  "state set by a client reaches another": [async (at) => {
    const name = `outside-${Math.random()}`;
    const states = heard((all) => all.some(([s]) => s.count === 7));
    const a = await connect(at, { onStateUpdate: (s, from) => states.push([s, from]) }, name);
    const b = await connect(at, {}, name);
    await pause(50);
    b.setState({ count: 7, lines: ["b"] });
    const out = (await states.done).at(-1);
    a.close(); b.close();
    return out;
  }, [{ count: 7, lines: ["b"] }, "server"]],
  "calls": [async (at) => { const c = await connect(at); const out = [await c.call("add", [2, 3]), await c.call("bump", [4])]; c.close(); return out; }, [5, 4]],
  "calls that fail": [async (at) => { const c = await connect(at); const said = async (p) => p.then((x) => x, (e) => e.message); const out = [await said(c.call("fail")), await said(c.call("hidden")), await said(c.call("nowhere"))]; c.close(); return out; }],
  "streams": [async (at) => { const c = await connect(at); const chunks = []; const last = await new Promise((done, failed) => { c.call("stream", [3], { onChunk: (x) => chunks.push(x), onDone: done, onError: failed }).catch(failed); }); c.close(); return [chunks, last]; }],
  "stubs": [async (at) => { const c = await connect(at); const out = await c.stub.add(20, 22); c.close(); return out; }, 42],
  "messages of one's own": [async (at) => { const c = await connect(at); const got = new Promise((done) => c.addEventListener("message", (e) => String(e.data).startsWith("heard") && done(String(e.data)))); c.send("plain text"); const out = await Promise.race([got, pause(3000).then(() => "nothing")]); c.close(); return out; }, "heard plain text"],
  "a schedule changes the state of a client": [async (at) => {
    const states = heard((all) => all.some((s) => s.rang));
    const c = await connect(at, { onStateUpdate: (s) => states.push(s) });
    await c.call("ringSoon");
    const out = (await states.done).at(-1).rang;
    c.close();
    return out;
  }, "for a client"],
};
