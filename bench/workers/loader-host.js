/**
 * The peer's side of the start and memory figures: loads fresh workers by the Worker Loader from the code string in `env.CODE`.
 * `/noop` answers at once, `/cold` loads one and calls it, `/batch?n=` does so n times and reports the time, `/hold?n=` keeps n alive.
 */
let unique = 0;

const code = (env) => ({ compatibilityDate: "2026-11-01", mainModule: "json.js", modules: { "json.js": env.CODE } });

function load(env) {
  unique++;
  return env.LOADER.load(code(env));
}

const call = async (worker) => (await worker.getEntrypoint().fetch(`http://bench/path?name=n${unique}`)).text();

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const n = Number(url.searchParams.get("n") ?? 1);
    switch (url.pathname) {
      case "/cold":
        return new Response(await call(load(env)));
      case "/batch": {
        const start = Date.now();
        for (let i = 0; i < n; i++) await call(load(env));
        return Response.json({ ms: Date.now() - start });
      }
      case "/hold":
        // By name: those stay, while a worker without a name goes with the request that loaded it.
        for (let i = 0; i < n; i++) await call(env.LOADER.get(`held-${unique++}`, () => code(env)));
        return new Response("held");
      default:
        return new Response("noop");
    }
  },
};
