/** A party as its documentation has it: rooms with connections that sleep. */
import { Server } from "partyserver";

export class Party extends Server {
  static options = { hibernate: true };
  onStart() { this.starts = (this.starts ?? 0) + 1; }
  onConnect(connection) { connection.setState({ since: "connect" }); this.broadcast(`joined ${[...this.getConnections()].length}`, []); }
  onMessage(connection, message) {
    if (message === "state") return connection.send(JSON.stringify(connection.state));
    if (message === "tags") return connection.send(JSON.stringify([...this.getConnections("even")].length));
    this.broadcast(`${message}`, [connection.id]);
    connection.send(`sent ${message}`);
  }
  getConnectionTags(connection) { return connection.id.startsWith("e") ? ["even"] : []; }
  onRequest(request) { return Response.json({ room: this.name, method: request.method, starts: this.starts }); }
  hello() { return `hello from ${this.name}`; }
}
