/** @modelcontextprotocol/sdk, unmodified: client and server in memory, and over streamable HTTP with the web-standard transport. */
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { InMemoryTransport } from "@modelcontextprotocol/sdk/inMemory.js";
import { McpServer, ResourceTemplate } from "@modelcontextprotocol/sdk/server/mcp.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import { CreateMessageRequestSchema, ElicitRequestSchema, LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { CfWorkerJsonSchemaValidator } from "@modelcontextprotocol/sdk/validation/cfworker";
import { z } from "zod";

function makeServer() {
  const server = new McpServer({ name: "hive", version: "1.2.3" }, { capabilities: { logging: {} }, jsonSchemaValidator: new CfWorkerJsonSchemaValidator() });
  server.registerTool("add", { title: "Adder", description: "adds", inputSchema: { a: z.number(), b: z.number().default(10) }, outputSchema: { sum: z.number() } }, async ({ a, b }) => ({ content: [{ type: "text", text: String(a + b) }], structuredContent: { sum: a + b } }));
  server.registerTool("fail", { description: "fails" }, async () => { throw new Error("tool broke"); });
  server.registerTool("slow", { inputSchema: { steps: z.number() } }, async ({ steps }, extra) => {
    for (let i = 1; i <= steps; i++) if (extra._meta?.progressToken !== undefined) await extra.sendNotification({ method: "notifications/progress", params: { progressToken: extra._meta.progressToken, progress: i, total: steps } });
    return { content: [{ type: "text", text: "done" }] };
  });
  server.registerTool("log", {}, async () => { await server.server.sendLoggingMessage({ level: "info", data: { note: "logged" } }); return { content: [] }; });
  server.registerTool("ask", {}, async () => { const r = await server.server.createMessage({ messages: [{ role: "user", content: { type: "text", text: "hi" } }], maxTokens: 5 }); return { content: [r.content] }; });
  server.registerTool("elicit", {}, async () => { const r = await server.server.elicitInput({ message: "name?", requestedSchema: { type: "object", properties: { name: { type: "string" } }, required: ["name"] } }); return { content: [{ type: "text", text: `${r.action} ${r.content?.name}` }] }; });
  server.registerResource("fixed", "mem://fixed", { mimeType: "text/plain" }, async (uri) => ({ contents: [{ uri: uri.href, text: "fixed text" }] }));
  server.registerResource("item", new ResourceTemplate("mem://item/{id}", { list: async () => ({ resources: [{ name: "one", uri: "mem://item/1" }] }), complete: { id: (v) => ["1", "12", "2"].filter((x) => x.startsWith(v)) } }), {}, async (uri, { id }) => ({ contents: [{ uri: uri.href, text: `item ${id}` }] }));
  server.registerPrompt("greet", { argsSchema: { who: z.string() } }, ({ who }) => ({ messages: [{ role: "user", content: { type: "text", text: `hello ${who}` } }] }));
  return server;
}

async function memory(use, capabilities = {}) {
  const [a, b] = InMemoryTransport.createLinkedPair();
  const server = makeServer();
  const client = new Client({ name: "bee", version: "1" }, { capabilities, jsonSchemaValidator: new CfWorkerJsonSchemaValidator() });
  await Promise.all([server.connect(a), client.connect(b)]);
  try {
    return await use(client, server);
  } finally {
    await client.close();
  }
}

async function http(options, use) {
  const server = makeServer();
  const transport = new WebStandardStreamableHTTPServerTransport(options);
  await server.connect(transport);
  const client = new Client({ name: "bee", version: "1" }, { jsonSchemaValidator: new CfWorkerJsonSchemaValidator() });
  const seen = [];
  const wire = new StreamableHTTPClientTransport(new URL("http://mcp.local/mcp"), { fetch: async (u, init) => { const r = await transport.handleRequest(new Request(u, init)); seen.push([init?.method ?? "GET", r.status, r.headers.get("content-type")]); return r; } });
  await client.connect(wire);
  try {
    return await use(client, seen, wire);
  } finally {
    await client.close();
  }
}

export const cases = {
  "handshake": [() => memory(async (c) => [c.getServerVersion(), c.getServerCapabilities()])],
  "lists tools with their schemas": [() => memory(async (c) => (await c.listTools()).tools)],
  "calls a tool": [() => memory(async (c) => c.callTool({ name: "add", arguments: { a: 1 } }))],
  "bad arguments": [() => memory(async (c) => { const r = await c.callTool({ name: "add", arguments: { a: "x" } }); return [r.isError, r.content[0].text.slice(0, 40)]; })],
  "a tool that throws": [() => memory((c) => c.callTool({ name: "fail" }))],
  "an unknown tool": [(t) => memory(async (c) => t.error(c.callTool({ name: "nope" })))],
  "progress": [() => memory(async (c) => { const seen = []; await c.callTool({ name: "slow", arguments: { steps: 3 } }, undefined, { onprogress: (p) => seen.push([p.progress, p.total]) }); return seen; }), [[1, 3], [2, 3], [3, 3]]],
  "logging": [() => memory(async (c) => { const seen = []; c.setNotificationHandler(LoggingMessageNotificationSchema, (n) => { seen.push(n.params); }); await c.callTool({ name: "log" }); return seen; }), [{ level: "info", data: { note: "logged" } }]],
  "sampling": [() => memory(async (c) => { c.setRequestHandler(CreateMessageRequestSchema, async (r) => ({ model: "m", role: "assistant", content: { type: "text", text: `echo ${r.params.messages[0].content.text}` } })); return (await c.callTool({ name: "ask" })).content; }, { sampling: {} }), [{ type: "text", text: "echo hi" }]],
  "elicitation": [() => memory(async (c) => { c.setRequestHandler(ElicitRequestSchema, async () => ({ action: "accept", content: { name: "Ada" } })); return (await c.callTool({ name: "elicit" })).content[0].text; }, { elicitation: {} }), "accept Ada"],
  "resources": [() => memory(async (c) => [await c.listResources(), await c.listResourceTemplates(), await c.readResource({ uri: "mem://fixed" }), await c.readResource({ uri: "mem://item/42" })])],
  "prompts and completion": [() => memory(async (c) => [await c.listPrompts(), await c.getPrompt({ name: "greet", arguments: { who: "you" } }), await c.complete({ ref: { type: "ref/resource", uri: "mem://item/{id}" }, argument: { name: "id", value: "1" } })])],
  "timeout": [(t) => memory(async (c) => { c.setRequestHandler(CreateMessageRequestSchema, () => new Promise(() => {})); return t.error(c.callTool({ name: "ask" }, undefined, { timeout: 10 })); }, { sampling: {} })],
  "abort": [(t) => memory(async (c) => { c.setRequestHandler(CreateMessageRequestSchema, () => new Promise(() => {})); const a = new AbortController(); const p = c.callTool({ name: "ask" }, undefined, { signal: a.signal }); a.abort("stop"); return typeof await t.error(p); }, { sampling: {} }), "string"],
  "list changes": [() => memory(async (c, s) => { s.registerTool("late", {}, async () => ({ content: [] })); await null; return (await c.listTools()).tools.length; }), 7],
  "ping": [() => memory((c) => c.ping()), {}],
  "HTTP, stateless, event streams": [() => http({ sessionIdGenerator: () => "session-1" }, async (c, seen, wire) => [await c.callTool({ name: "add", arguments: { a: 2, b: 3 } }), wire.sessionId, seen.filter(([m]) => m === "POST")])],
  "HTTP, JSON answers": [() => http({ sessionIdGenerator: () => "s", enableJsonResponse: true }, async (c, seen) => [(await c.listTools()).tools.length, seen.filter(([m]) => m === "POST")])],
  "HTTP refuses nonsense": [async () => { const t = new WebStandardStreamableHTTPServerTransport({ sessionIdGenerator: () => "s" }); await makeServer().connect(t); const out = []; for (const [method, body, headers] of [["POST", "{", {}], ["POST", "{}", { accept: "application/json, text/event-stream", "content-type": "application/json" }], ["POST", '{"jsonrpc":"2.0","id":1,"method":"tools/list"}', { accept: "application/json, text/event-stream", "content-type": "application/json" }], ["PUT", "x", {}]]) { const r = await t.handleRequest(new Request("http://m/", { method, body, headers })); out.push([r.status, (await r.json()).error?.code]); } return out; }],
};
