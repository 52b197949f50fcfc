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
