/** Two classes, so that ids of one can be shown to the other. */
import { DurableObject } from "cloudflare:workers";

export class One extends DurableObject {
  who() { return { id: this.ctx.id.toString(), name: this.ctx.id.name }; }
  async same(name) { return [this.ctx.id.equals(this.env.ONE.idFromName(name)), this.env.ONE.idFromName(name).equals(this.ctx.id)]; }
  ownId() { return this.ctx.id; }
  peer(name) { return this.env.TWO.getByName(name); }
}

export class Two extends DurableObject {
  who() { return { id: this.ctx.id.toString(), name: this.ctx.id.name }; }
}
