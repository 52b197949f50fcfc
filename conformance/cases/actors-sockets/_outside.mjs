/** Clients on connections of their own: a socket that stays open while the actor sleeps (workerd's sleep begins after ten idle seconds). */
import WebSocket from "ws";

const open = async (at, path) => {
  const ws = new WebSocket(`ws://${at.host}:${at.port}${path}`, { headers: at.headers });
  await new Promise((done, failed) => { ws.once("open", done); ws.once("error", failed); });
  return ws;
};
const ask = (ws, text) => new Promise((done) => { ws.once("message", (data) => done(String(data))); ws.send(text); });
const closed = (ws) => new Promise((done) => ws.once("close", (code, reason) => done([code, String(reason)])));
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const path = (n) => `/serve/${n}/room-${Math.random()}`;

/** The case of the folder that hands a request on to an actor is found by its place: the runner puts it first. */
const through = (query = "") => path(0) + query;

export const cases = {
  "echo": [async (at) => { const ws = await open(at, through()); const r = await ask(ws, "echo héllo"); ws.close(); return r; }, "héllo"],
  "close codes reach the client": [async (at) => { const ws = await open(at, through()); const c = closed(ws); ws.send('close [4005,"own reason"]'); return c; }, [4005, "own reason"]],
  "a dropped connection reaches the actor": [async (at) => { const name = through(); const ws = await open(at, name); await ask(ws, "echo x"); ws.terminate(); await pause(100); const other = await open(at, name); const r = await ask(other, "log"); other.close(); return r; }],
  "an answer while it sleeps, and a message that wakes it": [async (at) => {
    const ws = await open(at, through("?attach=7&auto=1"));
    await ask(ws, "echo x");
    await pause(12_000);
    const pong = await ask(ws, "ping");
    const out = [pong, await ask(ws, "attachment"), await ask(ws, "tags"), await ask(ws, "echo awake")];
    ws.close();
    return out;
  }, ["pong", '{"n":7}', "[]", "awake"]],
};
