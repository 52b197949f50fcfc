/** DOMException (WebIDL §4.3). */
export const cases = {
  "defaults": [() => { const e = new DOMException(); return [e.name, e.message, e.code, e instanceof Error, Object.prototype.toString.call(e)]; }, ["Error", "", 0, true, "[object DOMException]"]],
  "codes": [() => ["IndexSizeError", "NotFoundError", "NotSupportedError", "InvalidStateError", "SyntaxError", "InvalidAccessError", "SecurityError", "NetworkError", "AbortError", "QuotaExceededError", "TimeoutError", "DataCloneError", "EncodingError", "OperationError", "Nonsense"].map((n) => new DOMException("", n).code)],
  "name as options": [() => { const e = new DOMException("m", { name: "DataError", cause: 5 }); return [e.name, e.message, e.cause]; }],
  "constants": [() => [DOMException.ABORT_ERR, DOMException.DATA_CLONE_ERR, new DOMException().TIMEOUT_ERR, DOMException.prototype.SYNTAX_ERR], [20, 25, 23, 12]],
  "has a stack": [() => typeof new DOMException("m").stack, "string"],
  "string form": [() => [String(new DOMException("m", "AbortError")), String(new DOMException("", "X"))], ["AbortError: m", "X"]],
  "own keys": [() => Object.keys(new DOMException("m", "X"))],
  "prototype chain": [() => [Object.getPrototypeOf(DOMException.prototype) === Error.prototype, Object.hasOwn(DOMException.prototype, "name"), DOMException.length]],
  "needs new": [(t) => t.error(() => DOMException("x")), "TypeError"],
  "arguments are stringified": [() => { const e = new DOMException(5, 6); return [e.message, e.name]; }, ["5", "6"]],
};
