/** `ctx.facets`: actors within an actor, each with a database of its own. */
const fresh = (ns) => ns.get(ns.newUniqueId());
const call = (method) => (t) => fresh(t.env.OUTER)[method]();

export const cases = {
  "surface": [call("surface")],
  "get and call": [call("basics"), [1, 3, 3, "Fetcher"]],
  "storage is apart": [call("apart"), [1, 10, 100]],
  "tables are apart": [call("tablesApart")],
  "started at the first call, once": [call("started")],
  "started by a promise": [call("startedLater"), 3],
  "bad starts": [call("badStarts")],
  "names": [call("badNames")],
  "ids": [call("ids")],
  "fetch": [call("fetching"), "inner POST /path"],
  "errors": [call("errors")],
  "abort": [call("abort")],
  "abort by itself": [call("abortSelf")],
  "abort and delete of nobody": [call("abortNone")],
  "delete": [call("remove")],
  "clone": [call("clone")],
  "clone of nobody and onto itself": [call("cloneOdd")],
  "facets of facets": [call("nested"), [4, 5, 5]],
  "callbacks": [call("callbacks"), "heard from a facet"],
  "a stub handed out": [(t) => t.said(async () => (await fresh(t.env.OUTER).handOut()).value())],
  "data outlives the outer actor's memory": [async (t) => { const id = t.env.OUTER.newUniqueId(); await t.env.OUTER.get(id).add("a", 4); await t.said(t.env.OUTER.get(id).abortAll()); await t.sleep(20); return t.env.OUTER.get(id).value("a"); }, 4],
  "alarms": [call("alarms")],
  "deleteAll of the outer one": [call("deleteAll")],
  "code from the loader": [call("loaded")],
  "code from the loader, with props": [call("loadedProps")],
  "code from the loader without the class": [call("loadedMissing")],
  "code from the loader, loaded again": [call("loadedAgain"), 8],
};
