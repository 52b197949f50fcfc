/** ai (the AI SDK core) with an OpenAI-compatible provider, unmodified, against the scripted model of the origin. */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool, wrapLanguageModel, simulateReadableStream, convertToModelMessages, createUIMessageStream, createUIMessageStreamResponse, smoothStream, cosineSimilarity, jsonSchema, Output, APICallError } from "ai";
import { z } from "zod";

const model = (t) => createOpenAICompatible({ name: "local", baseURL: t.origin + "/v1", apiKey: "k", includeUsage: true, supportsStructuredOutputs: true })("scripted");
const weather = tool({ description: "weather", inputSchema: z.object({ city: z.string() }), execute: async ({ city }) => `sunny in ${city}` });
const all = async (iterable) => { const out = []; for await (const x of iterable) out.push(x); return out; };
const usage = (u) => [u.inputTokens, u.outputTokens, u.totalTokens];

export const cases = {
  "generateText": [async (t) => { const r = await generateText({ model: model(t), prompt: "hello" }); return [r.text, r.finishReason, usage(r.usage), r.response.modelId, r.steps.length]; }],
  "messages and system": [async (t) => (await generateText({ model: model(t), system: "be brief", messages: [{ role: "user", content: [{ type: "text", text: "parts" }] }] })).text, "You said: parts"],
  "streamText": [async (t) => { const r = streamText({ model: model(t), prompt: "one two three" }); const chunks = await all(r.textStream); return [chunks, await r.text, await r.finishReason, usage(await r.usage)]; }],
  "fullStream parts": [async (t) => (await all(streamText({ model: model(t), prompt: "a b" }).fullStream)).map((p) => p.type)],
  "tool call and a second step": [async (t) => { const r = await generateText({ model: model(t), prompt: "weather in Oslo", tools: { weather }, stopWhen: stepCountIs(3) }); return [r.text, r.steps.map((s) => [s.finishReason, s.toolCalls.map((c) => [c.toolName, c.input]), s.toolResults.map((c) => c.output)])]; }],
  "tool call, streamed": [async (t) => { const r = streamText({ model: model(t), prompt: "weather in Rome", tools: { weather }, stopWhen: stepCountIs(3) }); const parts = await all(r.fullStream); return [parts.map((p) => p.type), await r.text]; }],
  "tool that throws": [async (t) => { const r = await generateText({ model: model(t), prompt: "weather in X", tools: { weather: { ...weather, execute: async () => { throw new Error("no weather"); } } }, stopWhen: stepCountIs(2) }); return r.steps[0].content.map((p) => [p.type, p.error?.message]); }],
  "tool without execute": [async (t) => { const r = await generateText({ model: model(t), prompt: "weather in Y", tools: { weather: { ...weather, execute: undefined } } }); return [r.finishReason, r.toolCalls.map((c) => [c.toolName, c.input, c.toolCallId])]; }],
  "invalid tool input": [async (t) => { const r = await generateText({ model: model(t), prompt: "weather in Z", tools: { weather: tool({ inputSchema: z.object({ city: z.number() }), execute: async () => "x" }) } }); return r.content.map((p) => [p.type, p.invalid]); }],
  "generateObject": [async (t) => (await generateObject({ model: model(t), schema: z.object({ name: z.string(), parts: z.array(z.string()) }), prompt: "make" })).object, { name: "skep", parts: ["hive", "straw"] }],
  "generateObject that does not fit": [(t) => t.error(generateObject({ model: model(t), schema: z.object({ other: z.number() }), prompt: "make", maxRetries: 0 }))],
  "streamObject": [async (t) => { const r = streamObject({ model: model(t), schema: z.object({ name: z.string(), parts: z.array(z.string()) }), prompt: "make" }); const partials = await all(r.partialObjectStream); return [partials.at(-1), await r.object]; }],
  "Output.object with generateText": [async (t) => (await generateText({ model: model(t), output: Output.object({ schema: jsonSchema({ type: "object", properties: { name: { type: "string" } } }) }), prompt: "make" })).output],
  "errors of the API": [async (t) => { try { await generateText({ model: model(t), prompt: "refuse", maxRetries: 0 }); } catch (e) { return [e.name, APICallError.isInstance(e), e.statusCode, e.message, e.isRetryable]; } }],
  "errors in a stream": [async (t) => { const seen = []; const r = streamText({ model: model(t), prompt: "refuse", maxRetries: 0, onError: ({ error }) => { seen.push(error.name); } }); const parts = await all(r.fullStream); return [parts.map((p) => p.type), seen]; }],
  "abort": [async (t) => t.error(generateText({ model: model(t), prompt: "x", abortSignal: AbortSignal.abort() }))],
  "callbacks": [async (t) => { const seen = []; const r = streamText({ model: model(t), prompt: "c", onChunk: ({ chunk }) => seen.push(chunk.type), onFinish: ({ text }) => { seen.push(text); }, onStepFinish: ({ finishReason }) => { seen.push(finishReason); } }); await r.consumeStream(); return [...new Set(seen)]; }],
  "text stream response": [async (t) => { const r = streamText({ model: model(t), prompt: "resp" }).toTextStreamResponse(); return [r.headers.get("content-type"), await r.text()]; }],
  "UI message stream": [async (t) => { const r = streamText({ model: model(t), prompt: "ui" }).toUIMessageStreamResponse({ generateMessageId: () => "m1" }); return [r.headers.get("content-type"), (await r.text()).split("\n").filter(Boolean)]; }],
  "own UI stream": [async () => { const r = createUIMessageStreamResponse({ stream: createUIMessageStream({ generateId: () => "i", execute: ({ writer }) => { writer.write({ type: "data-x", data: 1 }); } }) }); return r.text(); }],
  "convertToModelMessages": [async () => convertToModelMessages([{ id: "1", role: "user", parts: [{ type: "text", text: "hi" }] }, { id: "2", role: "assistant", parts: [{ type: "text", text: "yo" }] }])],
  "smoothStream": [async (t) => (await all(streamText({ model: model(t), prompt: "smooth words here", experimental_transform: smoothStream({ delayInMs: null }) }).textStream))],
  "middleware": [async (t) => { const wrapped = wrapLanguageModel({ model: model(t), middleware: { transformParams: async ({ params }) => ({ ...params, prompt: [{ role: "user", content: [{ type: "text", text: "rewritten" }] }] }) } }); return (await generateText({ model: wrapped, prompt: "original" })).text; }, "You said: rewritten"],
  "simulateReadableStream and cosineSimilarity": [async () => [await all(simulateReadableStream({ chunks: [1, 2], chunkDelayInMs: 1 })), cosineSimilarity([1, 0], [1, 1]).toFixed(4)], [[1, 2], "0.7071"]],
};
