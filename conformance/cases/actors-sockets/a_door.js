/** The door for the clients of `_outside.mjs`: its first case hands each request to the actor that the path names. */
export const cases = {
  "a request that is no upgrade": {
    send: [{ path: "/plain" }],
    async serve(request, env) {
      const url = new URL(request.url);
      if (request.headers.get("upgrade") !== "websocket") return new Response("no upgrade", { status: 426 });
      const room = env.ROOM.getByName(url.pathname);
      if (url.searchParams.has("auto")) await room.autoResponse("ping", "pong");
      return room.fetch(new Request(`http://room/${url.search}`, request));
    },
  },
};
