/** `partyserver`, unmodified, from a worker. */
import { getServerByName, routePartykitRequest } from "partyserver";

const message = (ws) => new Promise((r) => ws.addEventListener("message", (e) => r(e.data), { once: true }));
/** The socket, and its first message: listened for before anything can come. */
const join = async (s, id) => {
  const { webSocket } = await s.fetch(`http://p/parties/party/room?_pk=${id}`, { headers: { upgrade: "websocket" } });
  const first = message(webSocket);
  webSocket.accept();
  return { ws: webSocket, first };
};

export const cases = {
  "routes": {
    send: [{ path: "/parties/party/one" }, { path: "/parties/party/two", method: "POST" }, { path: "/parties/nobody/x" }, { path: "/" }],
    async serve(request, env) {
      const url = new URL(request.url);
      url.pathname = url.pathname.replace(/^\/serve\/\d+/, "");
      return (await routePartykitRequest(new Request(url, request), env)) ?? new Response("not routed", { status: 404 });
    },
  },
  "methods": [async (t) => (await getServerByName(t.env.PARTY, "room-1")).hello(), "hello from room-1"],
  "sockets": [async (t) => {
    const s = await getServerByName(t.env.PARTY, crypto.randomUUID());
    const { ws: a, first: joined } = await join(s, "e1");
    const out = [await joined];
    const next = message(a);
    const { ws: b, first } = await join(s, "o2");
    out.push(await Promise.all([next, first]));
    const both = Promise.all([message(a), message(b)]);
    a.send("news");
    out.push(await both);
    const state = message(a);
    a.send("state");
    out.push(await state);
    const tags = message(b);
    b.send("tags");
    out.push(await tags);
    a.close();
    b.close();
    return out;
  }],
};
