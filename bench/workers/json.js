/** The worker that every start, memory and request figure is taken on: a small JSON handler that uses Request, URL, Headers and Response. */
let served = 0;

export default {
  async fetch(request) {
    const url = new URL(request.url);
    const name = url.searchParams.get("name") ?? "world";
    const agent = request.headers.get("user-agent") ?? "nobody";
    return Response.json({ hello: name, path: url.pathname, agent: agent.slice(0, 40), served: ++served });
  },
};
