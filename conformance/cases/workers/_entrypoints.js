/** Named entrypoints that the cases of this folder call through service bindings. */
import { WorkerEntrypoint } from "cloudflare:workers";

export class Plain extends WorkerEntrypoint {
  async fetch(request) {
    return Response.json({ method: request.method, path: new URL(request.url).pathname, body: await request.text(), header: request.headers.get("x-a"), props: this.ctx.props, env: this.env.TEXT, own: Object.keys(this) });
  }
  where() { return [this.env.TEXT, this.ctx.props, typeof this.ctx.waitUntil]; }
}

export class NoFetch extends WorkerEntrypoint {
  hello() { return "hello"; }
}

export class Streams extends WorkerEntrypoint {
  fetch(request) {
    if (request.url.endsWith("/echo")) return new Response(request.body, { headers: { "x-via": "service" } });
    if (request.url.endsWith("/throw")) throw new RangeError("thrown in the service");
    if (request.url.endsWith("/not-a-response")) return "text";
    if (request.url.endsWith("/redirect")) return new Response(null, { status: 302, headers: { location: "/echo" } });
    if (request.url.endsWith("/socket")) {
      const [client, server] = Object.values(new WebSocketPair());
      server.accept();
      server.addEventListener("message", (e) => { server.send(`got ${e.data}`); server.close(1000, "ok"); });
      return new Response(null, { status: 101, webSocket: client });
    }
    return new Response("streams", { status: 201, statusText: "Custom" });
  }
}
