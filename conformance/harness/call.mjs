/** One HTTP request to a runtime under test, on a connection of its own, with a deadline. */
import { request as open } from "node:http";

// What a front adds of its own to each answer or connection.
const perConnection = new Set(["date", "connection", "keep-alive", "transfer-encoding", "server", "x-request-id"]);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function write(sent, send) {
  for (const chunk of send.chunks ?? []) {
    sent.write(chunk);
    await pause(send.pause ?? 5);
  }
  sent.end(send.body);
}

/** Resolves to `{ status, text, headers, body }`, or `{ lost }` when the connection failed or nothing came in time. */
export function call(at, path, send = {}, deadline = 10_000) {
  return new Promise((done) => {
    const headers = { ...at.headers, ...send.headers };
    const sent = open({ host: at.host, port: at.port, path: at.path + path, method: send.method ?? "GET", headers, agent: false }, (response) => {
      const chunks = [];
      const finish = (ending) => done({
        status: response.statusCode,
        text: response.statusMessage,
        headers: Array.from({ length: response.rawHeaders.length / 2 }, (_, i) => [response.rawHeaders[2 * i].toLowerCase(), response.rawHeaders[2 * i + 1]])
          .filter(([name]) => !perConnection.has(name)).sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : 1)),
        body: Buffer.concat(chunks).toString("utf8"),
        ...(ending ? { ending } : {}),
      });
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => finish());
      response.on("error", () => finish("broken"));
    });
    sent.setTimeout(deadline, () => sent.destroy(new Error("timeout")));
    sent.on("error", (e) => done({ lost: e.message === "timeout" ? "timeout" : "connection" }));
    write(sent, send).catch(() => {});
  });
}
