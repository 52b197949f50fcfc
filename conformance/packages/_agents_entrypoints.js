/** Agents as a user writes them: state, SQL, schedules, a queue, callable methods, sockets. */
import { Agent, callable, getCurrentAgent } from "agents";

export class Chat extends Agent {
  initialState = { count: 0, lines: [] };

  onStart() { this.started = (this.started ?? 0) + 1; this.sql`CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)`; }
  onStateChanged(state, source) { (this.changes ??= []).push([state.count, source === "server" ? "server" : typeof source]); }
  async onRequest(request) {
    const { pathname } = new URL(request.url);
    if (pathname.endsWith("/state")) return Response.json(this.state);
    return Response.json({ name: this.name, method: request.method, body: await request.text(), tail: pathname.split("/").slice(-1)[0] });
  }
  onMessage(connection, message) { connection.send(`heard ${message}`); }
  increment(by = 1) { this.setState({ ...this.state, count: this.state.count + by }); return this.state.count; }
  current() { return this.state; }
  seen() { return this.changes ?? []; }
  note(text) { this.sql`INSERT INTO notes (text) VALUES (${text})`; return this.sql`SELECT id, text FROM notes ORDER BY id`; }
  badSql() { try { this.sql`SELECT * FROM nowhere`; } catch (e) { return [e.name, typeof e.message]; } }
  async later(ms) { const s = await this.schedule(new Date(Date.now() + ms), "ring", { mark: "dated" }); return [typeof s.id, s.callback, s.type, s.payload]; }
  async inSeconds(n) { const s = await this.schedule(n, "ring", { mark: "delayed" }); return [s.type, s.callback, s.delayInSeconds]; }
  async cron(text) { const s = await this.schedule(text, "ring", {}); const all = await this.getSchedules(); const gone = await this.cancelSchedule(s.id); return [s.type, s.cron, all.length, gone, (await this.getSchedules()).length]; }
  async badSchedule() { try { await this.schedule(1, "noSuchMethod"); return "taken"; } catch (e) { return e.message; } }
  async ring(payload) { this.sql`INSERT INTO notes (text) VALUES (${`rang ${payload.mark}`})`; this.setState({ ...this.state, rang: payload.mark }); }
  async queued() { const id = await this.queue("ring", { mark: "queued" }); return typeof id; }
  notes() { return this.sql`SELECT text FROM notes ORDER BY id`.map((r) => r.text); }
  async whoAmI() { const { agent } = getCurrentAgent(); return agent === this; }
  connections() { return [...this.getConnections()].length; }

  @callable() add(a, b) { return a + b; }
  @callable() bump(by) { return this.increment(by); }
  @callable() async ringSoon() { await this.schedule(1, "ring", { mark: "for a client" }); }
  @callable() fail() { throw new Error("not callable today"); }
  @callable({ streaming: true }) stream(response, n) { for (let i = 0; i < n; i++) response.send(i); response.end("done"); }
  hidden() { return "nobody may call this from outside"; }
}
