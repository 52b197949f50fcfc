/**
 * The outside world of the cases: a local HTTP server that echoes, streams, redirects, sends server-sent events, speaks WebSocket and plays
 * an OpenAI-compatible model. Everything it answers is a pure function of the request.
 */
import { createServer } from "node:http";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { WebSocketServer } from "ws";
import { model } from "./model.mjs";

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const skipped = new Set(["host", "connection", "user-agent", "cf-connecting-ip", "cf-worker", "accept-encoding"]);

async function echo(request, response) {
  const body = await bodyOf(request);
  const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !skipped.has(name)).sort());
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ method: request.method, url: request.url, headers, body: body.toString("latin1") }));
}

async function stream(response, url) {
  const n = Number(url.searchParams.get("n") ?? 3);
  const wait = Number(url.searchParams.get("wait") ?? 10);
  response.writeHead(200, { "content-type": "text/plain" });
  for (let i = 0; i < n && !response.destroyed; i++) {
    response.write(`chunk ${i}\n`);
    await pause(wait);
  }
  if (url.searchParams.has("break")) response.destroy();
  else response.end();
}

async function events(request, response, url) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  const last = request.headers["last-event-id"];
  if (url.searchParams.has("reconnect") && last) {
    response.write(`data: again after ${last}\n\n`);
    return;
  }
  const script = {
    plain: ["data: one\n\n", "data: two\ndata: lines\n\n"],
    named: ["event: tick\nid: 7\ndata: a\n\n", ": comment\n\nevent: tick\ndata: b\n\n"],
    odd: ["data\n\n", "data:no space\r\n\r\n", "data:  two spaces\r\r", "unknown: x\nid: a\0b\ndata: z\n\n", "data: é"],
    reconnect: ["retry: 20\nid: 42\ndata: first\n\n"],
  }[url.searchParams.get("script") ?? (url.searchParams.has("reconnect") ? "reconnect" : "plain")];
  for (const part of script) {
    response.write(part);
    await pause(5);
  }
  response.end();
}

const routes = {
  "/echo": (q, r) => echo(q, r),
  "/stream": (q, r, u) => stream(r, u),
  "/events": (q, r, u) => events(q, r, u),
  "/status": (q, r, u) => { r.writeHead(Number(u.searchParams.get("code")), u.searchParams.get("text") ?? undefined); r.end(); },
  "/redirect": (q, r, u) => {
    const left = Number(u.searchParams.get("n") ?? 1);
    const to = left > 1 ? `/redirect?${new URLSearchParams({ n: left - 1, code: u.searchParams.get("code") ?? 302, to: u.searchParams.get("to") ?? "/echo" })}` : u.searchParams.get("to") ?? "/echo";
    r.writeHead(Number(u.searchParams.get("code") ?? 302), { location: to });
    r.end();
  },
  "/headers": (q, r) => { r.writeHead(200, [["x-one", "1"], ["x-one", "2"], ["set-cookie", "a=1"], ["set-cookie", "b=2, c"], ["x-empty", ""]].flat()); r.end("h"); },
  "/gzip": (q, r) => { r.writeHead(200, { "content-encoding": "gzip", "content-type": "text/plain" }); r.end(gzipSync("squeezed ".repeat(50))); },
  "/brotli": (q, r) => { r.writeHead(200, { "content-encoding": "br", "content-type": "text/plain" }); r.end(brotliCompressSync("squeezed ".repeat(50))); },
  "/coded": (q, r, u) => { r.writeHead(200, { "content-encoding": u.searchParams.get("as"), "content-type": "text/plain" }); r.end("as it is"); },
  "/bytes": (q, r, u) => { r.setHeader("content-type", "application/octet-stream"); r.end(Buffer.from({ length: Number(u.searchParams.get("n") ?? 256) }, 0)); },
  "/latin1": (q, r) => { r.setHeader("content-type", "text/plain; charset=iso-8859-1"); r.end(Buffer.from([0xe9, 0x20, 0x80])); },
  "/form": (q, r) => { r.setHeader("content-type", "application/x-www-form-urlencoded"); r.end("a=1&b=%20+2&a=3"); },
  "/multipart": (q, r) => {
    r.setHeader("content-type", 'multipart/form-data; boundary="x y"');
    r.end('--x y\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x y\r\nContent-Disposition: form-data; name="f"; filename="n.txt"\r\nContent-Type: text/plain\r\n\r\nfile\r\n--x y--\r\n');
  },
  "/html": (q, r) => { r.setHeader("content-type", "text/html"); r.end("<p>hi</p>"); },
  "/slow": async (q, r) => { await pause(2000); if (!r.destroyed) r.end("late"); },
  "/hangup": (q) => { q.socket.destroy(); },
};

const sockets = {
  "/ws/echo": (ws) => ws.on("message", (data, binary) => ws.send(data, { binary })),
  "/ws/greet": (ws) => { ws.send("hello"); ws.send(Buffer.from([1, 2, 3])); ws.close(4001, "done here"); },
  "/ws/drop": (ws) => ws.terminate(),
  "/ws/code": (ws) => ws.on("close", () => {}) && ws.on("message", (code) => ws.close(Number(code), "asked")),
};

/** Starts it on a free port; `url` is its origin. */
export async function startOrigin() {
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://origin");
    const route = url.pathname.startsWith("/v1/") ? model : routes[url.pathname] ?? (url.pathname.startsWith("/echo/") ? routes["/echo"] : undefined);
    if (!route) {
      response.writeHead(404);
      response.end("no such route");
      return;
    }
    Promise.resolve(route(request, response, url)).catch(() => response.destroy());
  });
  const upgrades = new WebSocketServer({ noServer: true, handleProtocols: (protocols) => (protocols.has("chat.v2") ? "chat.v2" : false) });
  server.on("upgrade", (request, socket, head) => {
    const accept = sockets[new URL(request.url, "http://origin").pathname];
    if (!accept) return socket.end("HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n");
    upgrades.handleUpgrade(request, socket, head, (ws) => accept(ws));
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => { server.closeAllConnections(); server.close(); upgrades.close(); } };
}
