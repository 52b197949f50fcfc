/**
 * `util.parseArgs`: command-line parsing as Node does it, tokens included.
 */
import { checkObject, checkString, invalidArgType, invalidArgValue, nodeError } from "./errors";

type Value = string | boolean;

interface Option {
  type: "string" | "boolean";
  short?: string;
  multiple?: boolean;
  default?: Value | Value[];
}

interface Config {
  args?: string[];
  options?: Record<string, Option>;
  strict?: boolean;
  allowPositionals?: boolean;
  allowNegative?: boolean;
  tokens?: boolean;
}

type Token =
  | { kind: "option"; name: string; rawName: string; index: number; value: string | undefined; inlineValue: boolean | undefined }
  | { kind: "positional"; index: number; value: string }
  | { kind: "option-terminator"; index: number };

type OptionToken = Extract<Token, { kind: "option" }>;

function optionOf(config: Config, name: string): Option | undefined {
  return Object.hasOwn(config.options!, name) ? config.options![name] : undefined;
}

function longNameOf(config: Config, short: string): string {
  return Object.keys(config.options!).find((name) => config.options![name]!.short === short) ?? short;
}

function tokenize(args: string[], config: Config): Token[] {
  const tokens: Token[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index]!;
    const takesNext = (name: string): boolean => optionOf(config, name)?.type === "string" && index + 1 < args.length;
    if (arg === "--") {
      tokens.push({ kind: "option-terminator", index });
      while (++index < args.length) tokens.push({ kind: "positional", index, value: args[index]! });
    } else if (arg.startsWith("--")) {
      const eq = arg.indexOf("=", 3);
      const name = eq < 0 ? arg.slice(2) : arg.slice(2, eq);
      const token: OptionToken = { kind: "option", name, rawName: `--${name}`, index, value: undefined, inlineValue: undefined };
      if (eq >= 0) Object.assign(token, { value: arg.slice(eq + 1), inlineValue: true });
      else if (takesNext(name)) Object.assign(token, { value: args[++index], inlineValue: false });
      tokens.push(token);
    } else if (arg.length > 1 && arg.startsWith("-")) {
      const at = index;
      for (let i = 1; i < arg.length; i++) {
        const short = arg[i]!;
        const name = longNameOf(config, short);
        const token: OptionToken = { kind: "option", name, rawName: `-${short}`, index: at, value: undefined, inlineValue: undefined };
        tokens.push(token);
        if (optionOf(config, name)?.type !== "string") continue;
        if (i + 1 < arg.length) {
          Object.assign(token, { value: arg.slice(i + 1), inlineValue: true });
          break;
        }
        if (takesNext(name)) Object.assign(token, { value: args[++index], inlineValue: false });
      }
    } else tokens.push({ kind: "positional", index, value: arg });
  }
  return tokens;
}

function checkConfig(config: Config): void {
  for (const [name, option] of Object.entries(config.options!)) {
    checkObject(option, `options.${name}`);
    if (option.type !== "string" && option.type !== "boolean") {
      throw nodeError(TypeError, "ERR_INVALID_ARG_TYPE", `The "options.${name}.type" property must be one of type string ('string' | 'boolean').`);
    }
    if (option.short !== undefined) {
      checkString(option.short, `options.${name}.short`);
      if (option.short.length !== 1) throw invalidArgValue(`options.${name}.short`, option.short, "must be a single character");
    }
    if (option.default === undefined) continue;
    for (const value of option.multiple ? (option.default as Value[]) : [option.default]) {
      if (typeof value !== option.type) throw invalidArgType(`options.${name}.default`, option.type, value);
    }
  }
}

function unknownOption(token: OptionToken, config: Config): Error {
  const hint = config.allowPositionals
    ? `. To specify a positional argument starting with a '-', place it at the end of the command after '--', as in '-- ${JSON.stringify(token.rawName)}`
    : "";
  return nodeError(TypeError, "ERR_PARSE_ARGS_UNKNOWN_OPTION", `Unknown option '${token.rawName}'${hint}`);
}

function checkToken(token: OptionToken, name: string, config: Config): void {
  const option = optionOf(config, name);
  if (option === undefined) throw unknownOption(token, config);
  const shown = `${option.short === undefined ? "" : `-${option.short}, `}--${name}`;
  const invalid = (text: string): Error => nodeError(TypeError, "ERR_PARSE_ARGS_INVALID_OPTION_VALUE", text);
  if (option.type === "string" && token.value === undefined) throw invalid(`Option '${shown} <value>' argument missing`);
  if (option.type === "boolean" && token.value !== undefined) throw invalid(`Option '${shown}' does not take an argument`);
  if (token.inlineValue === false && token.value!.length > 1 && token.value!.startsWith("-")) {
    throw invalid(
      `Option '${token.rawName}' argument is ambiguous.\nDid you forget to specify the option argument for '${token.rawName}'?\n` +
        `To specify an option argument starting with a dash use '${token.rawName.startsWith("--") ? `${token.rawName}=-XYZ` : `--${name}=-XYZ' or '${token.rawName}-XYZ`}'.`,
    );
  }
}

function store(values: Record<string, Value | Value[]>, name: string, value: Value, option: Option | undefined): void {
  if (name === "__proto__") return;
  if (!option?.multiple) values[name] = value;
  else if (Array.isArray(values[name])) (values[name] as Value[]).push(value);
  else values[name] = [value];
}

export function parseArgs(given: Config = {}): object {
  checkObject(given, "config");
  const strict = given.strict ?? true;
  const config: Config = { ...given, strict, options: given.options ?? {}, allowPositionals: given.allowPositionals ?? !strict };
  checkConfig(config);
  const tokens = tokenize([...(given.args ?? [])], config);
  const values = Object.create(null) as Record<string, Value | Value[]>;
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") {
      if (!config.allowPositionals) {
        throw nodeError(TypeError, "ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL", `Unexpected argument '${token.value}'. This command does not take positional arguments`);
      }
      positionals.push(token.value);
    }
    if (token.kind !== "option") continue;
    let { name } = token;
    let value: Value = token.value ?? true;
    if (config.allowNegative && name.startsWith("no-") && token.value === undefined && optionOf(config, name) === undefined) {
      name = name.slice(3);
      value = false;
    }
    if (strict) checkToken(token, name, config);
    store(values, name, value, optionOf(config, name));
  }
  for (const [name, option] of Object.entries(config.options!)) {
    if (option.default !== undefined && values[name] === undefined) values[name] = option.default;
  }
  return config.tokens ? { values, positionals, tokens } : { values, positionals };
}
