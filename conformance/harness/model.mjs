/**
 * A scripted OpenAI-compatible chat model for the AI SDK exercise: plain answers, streams and one tool call, chosen by the last message. It
 * understands no language and is never used outside the tests.
 */

async function json(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}

const usage = { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12 };
const head = { id: "chatcmpl-1", created: 1_700_000_000, model: "scripted" };

/** What the model says next: text, or a call of the first tool. */
function next(body) {
  const last = body.messages.at(-1);
  if (last.role === "tool") return { text: `The tool said ${typeof last.content === "string" ? last.content : JSON.stringify(last.content)}.` };
  const said = typeof last.content === "string" ? last.content : last.content.map((p) => p.text ?? "").join("");
  if (body.tools?.length) return { call: { name: body.tools[0].function.name, arguments: JSON.stringify({ city: said.split(" ").at(-1) }) } };
  if (body.response_format) return { text: JSON.stringify({ name: "skep", parts: ["hive", "straw"] }) };
  return { text: `You said: ${said}` };
}

function whole(response, turn) {
  const message = turn.call
    ? { role: "assistant", content: null, tool_calls: [{ id: "call_1", type: "function", function: turn.call }] }
    : { role: "assistant", content: turn.text };
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ ...head, object: "chat.completion", choices: [{ index: 0, message, finish_reason: turn.call ? "tool_calls" : "stop" }], usage }));
}

function streamed(response, turn) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (delta, finish_reason = null, more = {}) => response.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }], ...more })}\n\n`);
  send({ role: "assistant", content: "" });
  if (turn.call) {
    send({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: turn.call.name, arguments: "" } }] });
    for (const piece of turn.call.arguments.match(/.{1,6}/g)) send({ tool_calls: [{ index: 0, function: { arguments: piece } }] });
  } else {
    for (const word of turn.text.split(/(?<= )/)) send({ content: word });
  }
  send({}, turn.call ? "tool_calls" : "stop", { usage });
  response.end("data: [DONE]\n\n");
}

/** Answers `/v1/chat/completions`. */
export async function model(request, response) {
  const body = await json(request);
  if (JSON.stringify(body.messages).includes("refuse")) {
    response.writeHead(400, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { message: "refused", type: "invalid_request_error", code: "refused" } }));
    return;
  }
  (body.stream ? streamed : whole)(response, next(body));
}
