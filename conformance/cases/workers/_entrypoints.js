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

export class Hops extends WorkerEntrypoint {
  async fetch(request) {
    const { pathname, searchParams, search } = new URL(request.url);
    const to = (location, status = 302) => new Response(null, { status, headers: { location } });
    switch (pathname) {
      case "/hop": return to("/end", Number(searchParams.get("code")));
      case "/away": return to("http://other.host/end");
      case "/loop": return to("/loop");
      case "/scheme": return to("ftp://other.host/");
      case "/slow": await scheduler.wait(500); return new Response("late");
      case "/throw": {
        const kind = search.slice(1);
        if (kind === "string") throw "a string";
        throw new (globalThis[kind] ?? class Custom extends Error {})("thrown");
      }
      default: {
        const { headers } = request;
        const seen = { method: request.method, url: request.url, auth: headers.get("authorization"), a: headers.get("x-a"), type: headers.get("content-type"), length: headers.get("content-length"), body: (await request.text()).length };
        return Response.json(seen, { headers: { "x-b": "é" } });
      }
    }
  }
}
