/** What the loaded children may call: a host service and an outbound gate. */
import { WorkerEntrypoint } from "cloudflare:workers";

export class Host extends WorkerEntrypoint {
  hello(name) { return `hello ${name} from ${this.ctx.props.who}`; }
}

export class Outbound extends WorkerEntrypoint {
  async fetch(request) {
    return new Response(`outbound ${request.method} ${request.url} ${await request.text()} ${this.ctx.props.secret}`);
  }
}

/** What the tails of this isolate have been told, by the key in their `props`. */
const told = (globalThis.told ??= new Map());

export class Tail extends WorkerEntrypoint {
  tail(events) {
    const { key } = this.ctx.props;
    told.set(key, [...(told.get(key) ?? []), ...events]);
  }
  fetch() { return new Response("a tail"); }
}

export class BadTail extends WorkerEntrypoint {
  tail() { throw new Error("a tail that throws"); }
}

export class Sink extends WorkerEntrypoint {
  async fetch(request) {
    const { key } = this.ctx.props;
    told.set(key, [...(told.get(key) ?? []), await request.text()]);
    return new Response(null, { status: 204 });
  }
}
