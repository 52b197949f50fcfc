/** An actor that keeps WebSockets by the hibernation API, and one that keeps them itself. */
import { DurableObject } from "cloudflare:workers";

export class Room extends DurableObject {
  constructor(ctx, env) { super(ctx, env); this.log = []; this.made = Math.random(); }
  fetch(request) {
    const url = new URL(request.url);
    const [client, server] = Object.values(new WebSocketPair());
    const tags = url.searchParams.getAll("tag");
    if (url.pathname === "/accepted") { server.accept(); server.addEventListener("message", ({ data }) => server.send(`own ${data}`)); return new Response(null, { status: 101, webSocket: client }); }
    if (tags.length) this.ctx.acceptWebSocket(server, tags); else this.ctx.acceptWebSocket(server);
    if (url.searchParams.has("attach")) server.serializeAttachment({ n: Number(url.searchParams.get("attach")) });
    if (url.searchParams.has("greet")) server.send("greeting");
    return new Response(null, { status: 101, webSocket: client });
  }
  async webSocketMessage(ws, message) {
    this.log.push(["message", typeof message === "string" ? message : [message.constructor.name, message.byteLength]]);
    if (typeof message !== "string") return ws.send(message);
    const [command, ...rest] = message.split(" ");
    const text = rest.join(" ");
    switch (command) {
      case "echo": return ws.send(text);
      case "all": for (const other of this.ctx.getWebSockets(text || undefined)) other.send(`to ${this.ctx.getTags(other).join("+")}`); return;
      case "tags": return ws.send(JSON.stringify(this.ctx.getTags(ws)));
      case "attach": ws.serializeAttachment(JSON.parse(text)); return ws.send("attached");
      case "attachment": return ws.send(JSON.stringify(ws.deserializeAttachment()));
      case "close": return ws.close(...JSON.parse(text || "[]"));
      case "throw": throw new Error("in a message");
      case "slow": await scheduler.wait(20); return ws.send(`slow ${text}`);
      case "again": return ws.send(await this.errorOf(() => this.ctx.acceptWebSocket(ws)));
      case "accept": return ws.send(await this.errorOf(() => ws.accept()));
      case "listen": return ws.send(await this.errorOf(() => { ws.addEventListener("message", () => this.log.push(["listener"])); }));
      case "what": return ws.send(JSON.stringify([ws.constructor.name, ws.readyState, ws.url, ws.protocol, ws.extensions, this.ctx.getWebSockets()[0] === ws]));
      case "log": return ws.send(JSON.stringify(this.log.filter(([kind]) => kind !== "message")));
      case "made": return ws.send(String(this.made));
      case "timestamp": return ws.send(typeof this.ctx.getWebSocketAutoResponseTimestamp(ws)?.getTime?.());
      default: ws.send(`? ${command}`);
    }
  }
  async errorOf(f) { try { await f(); return "taken"; } catch (e) { return `${e.name}: ${e.message}`; } }
  webSocketClose(ws, code, reason, wasClean) { this.log.push(["close", code, reason, wasClean, ws.readyState, this.ctx.getWebSockets().length]); }
  webSocketError(ws, error) { this.log.push(["error", error?.constructor?.name]); }
  seen() { return this.log; }
  count(tag) { return this.ctx.getWebSockets(tag).length; }
  which() { return this.made; }
  async tagErrors() {
    const out = [];
    for (const tags of [[], ["a", "a"], Array.from({ length: 10 }, (_, i) => `t${i}`), Array.from({ length: 11 }, (_, i) => `t${i}`), ["x".repeat(256)], ["x".repeat(257)], [""], [5], "text", null, [null]]) {
      const server = new WebSocketPair()[1];
      out.push(await this.errorOf(() => { this.ctx.acceptWebSocket(server, tags); }));
    }
    return out;
  }
  async acceptErrors() {
    const [a, b] = Object.values(new WebSocketPair());
    b.accept();
    const out = [await this.errorOf(() => this.ctx.acceptWebSocket(b)), await this.errorOf(() => this.ctx.acceptWebSocket({})), await this.errorOf(() => this.ctx.acceptWebSocket())];
    const [, d] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(d);
    out.push(await this.errorOf(() => this.ctx.acceptWebSocket(d)), await this.errorOf(() => d.accept()), await this.errorOf(() => this.ctx.getTags(a)), await this.errorOf(() => this.ctx.getTags({})), this.ctx.getTags(d));
    return out;
  }
  async attachmentErrors() {
    const [, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server);
    const out = [server.deserializeAttachment()];
    for (const value of ["x".repeat(2000), "x".repeat(17_000), () => 1, undefined, null, { d: new Date(1) }]) out.push(await this.errorOf(() => server.serializeAttachment(value)));
    const back = server.deserializeAttachment();
    const [, other] = Object.values(new WebSocketPair());
    return [...out, back.d.getTime(), await this.errorOf(() => other.serializeAttachment(1)), await this.errorOf(() => other.deserializeAttachment()), await this.errorOf(() => server.serializeAttachment())];
  }
  autoResponse(request, response) { this.ctx.setWebSocketAutoResponse(request === undefined ? undefined : new WebSocketRequestResponsePair(request, response)); }
  async autoResponseErrors() {
    const pair = new WebSocketRequestResponsePair("a", "b");
    const out = [[pair.request, pair.response, Object.keys(pair), pair.constructor.name], this.ctx.getWebSocketAutoResponse()];
    for (const args of [["x".repeat(2048), "y"], ["x".repeat(2049), "y"], ["x", "y".repeat(2049)], ["", ""], [5, null], ["x"], []]) out.push(await this.errorOf(() => { this.ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(...args)); }));
    this.ctx.setWebSocketAutoResponse(pair);
    const set = this.ctx.getWebSocketAutoResponse();
    this.ctx.setWebSocketAutoResponse();
    return [...out, set.request, this.ctx.getWebSocketAutoResponse(), await this.errorOf(() => this.ctx.setWebSocketAutoResponse("x")), await this.errorOf(() => WebSocketRequestResponsePair("a", "b"))];
  }
  async timeouts() {
    const out = [this.ctx.getHibernatableWebSocketEventTimeout()];
    for (const ms of [1000, 0, 604_800_000, 604_800_001, -1, undefined]) out.push([await this.errorOf(() => { this.ctx.setHibernatableWebSocketEventTimeout(ms); }), this.ctx.getHibernatableWebSocketEventTimeout()]);
    return out;
  }
  closeAll(code, reason) { for (const ws of this.ctx.getWebSockets()) ws.close(code, reason); return this.ctx.getWebSockets().length; }
  async sendAfterClose() { const [ws] = this.ctx.getWebSockets(); ws.close(1000, "x"); return [await this.errorOf(() => ws.send("late")), await this.errorOf(() => ws.close(1000, "again")), ws.readyState]; }
}

export class Silent extends DurableObject {
  fetch() { const [client, server] = Object.values(new WebSocketPair()); this.ctx.acceptWebSocket(server); return new Response(null, { status: 101, webSocket: client }); }
  hello() { return "hello"; }
}
