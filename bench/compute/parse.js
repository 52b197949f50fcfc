/** A parser-like mix: tokenises arithmetic by character, parses by precedence climbing into objects, evaluates the tree. */
const source = Array.from({ length: 120 }, (_, i) => `(a${i % 7} + ${i}.5 * (b - ${i % 13})) / max(c, ${1 + (i % 5)}) - -d ^ 2`).join(" + ");
const precedence = { "+": 1, "-": 1, "*": 2, "/": 2, "^": 3 };

class Lexer {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.token = null;
    this.advance();
  }
  advance() {
    const { text } = this;
    while (text[this.at] === " ") this.at++;
    if (this.at >= text.length) return (this.token = { kind: "end" });
    const start = this.at;
    const code = text.charCodeAt(start);
    if (code >= 48 && code <= 57) {
      while (/[\d.]/.test(text[this.at] ?? "")) this.at++;
      return (this.token = { kind: "number", value: Number(text.slice(start, this.at)) });
    }
    if (code >= 97 && code <= 122) {
      while (this.at < text.length && /[a-z\d]/.test(text[this.at])) this.at++;
      return (this.token = { kind: "name", value: text.slice(start, this.at) });
    }
    this.at++;
    return (this.token = { kind: text[start] });
  }
}

function primary(lexer) {
  const { token } = lexer;
  lexer.advance();
  switch (token.kind) {
    case "number": return token;
    case "-": return { kind: "negate", of: primary(lexer) };
    case "(": {
      const inner = expression(lexer, 0);
      lexer.advance();
      return inner;
    }
    default: {
      if (lexer.token.kind !== "(") return token;
      const args = [];
      do {
        lexer.advance();
        args.push(expression(lexer, 0));
      } while (lexer.token.kind === ",");
      lexer.advance();
      return { kind: "call", name: token.value, args };
    }
  }
}

function expression(lexer, least) {
  let left = primary(lexer);
  for (let rank = precedence[lexer.token.kind]; rank > least; rank = precedence[lexer.token.kind]) {
    const operator = lexer.token.kind;
    lexer.advance();
    left = { kind: "binary", operator, left, right: expression(lexer, rank) };
  }
  return left;
}

function evaluate(node, scope) {
  switch (node.kind) {
    case "number": return node.value;
    case "name": return scope.get(node.value) ?? 1;
    case "negate": return -evaluate(node.of, scope);
    case "call": return Math.max(...node.args.map((a) => evaluate(a, scope)));
    default: {
      const l = evaluate(node.left, scope);
      const r = evaluate(node.right, scope);
      switch (node.operator) {
        case "+": return l + r;
        case "-": return l - r;
        case "*": return l * r;
        case "/": return l / r;
        default: return l ** r;
      }
    }
  }
}

export function run() {
  const scope = new Map([["a1", 3], ["b", 2.5], ["c", 4], ["d", 1.5]]);
  let sum = 0;
  for (let i = 0; i < 40; i++) sum += evaluate(expression(new Lexer(source), 0), scope);
  return Math.round(sum);
}
