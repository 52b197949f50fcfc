//! Types go, JSX becomes calls, everything else stays.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use skep_bundle::{Language, strip};

fn code(source: &str, language: Language) -> String {
    strip("m.ts", source, language).unwrap().code
}

#[test]
fn drops_types_and_keeps_code() {
    let source = "import type { A } from './a'; interface B { c: number }\nexport const f = <T,>(x: T): T => x as T;\nenum E { One = 1 }\nexport default { async fetch(r: Request): Promise<Response> { return new Response(String(E.One satisfies number)) } };";
    let out = code(source, Language::Ts);
    for gone in ["import", "interface", "Promise<", " as ", "satisfies", ": T"] {
        assert!(!out.contains(gone), "{gone} in\n{out}");
    }
    assert!(out.contains("async fetch(r)"), "{out}");
}

#[test]
fn leaves_what_the_engine_knows() {
    let source = "class A { #x = 1; static { } get x() { return this.#x ?? 0 } }\nawait using_(); export const y = a?.b ?? c; for await (const z of q) {}\n label: while (x ||= 1) { break label }";
    let out = code(source, Language::Ts);
    for kept in ["#x = 1", "static {", "?.b ?? c", "for await", "||="] {
        assert!(out.contains(kept), "{kept} not in\n{out}");
    }
}

#[test]
fn jsx_becomes_calls() {
    let out = code(
        "/** @jsx h */ /** @jsxRuntime classic */\nimport { h } from './h.js'; export default (p: { n: string }) => <b id={p.n}>hi</b>;",
        Language::Tsx,
    );
    assert!(out.contains("h(\"b\"") && !out.contains("<b"), "{out}");
}

#[test]
fn maps_back_to_the_source() {
    let stripped = strip("dir/m.ts", "type A = 1;\nconst x: number = 1;\nthrow new Error('x')", Language::Ts).unwrap();
    let map: serde_json::Value = serde_json::from_str(&stripped.source_map).unwrap();
    assert_eq!(map["sources"][0], "dir/m.ts");
    assert!(!map["mappings"].as_str().unwrap().is_empty());
}

#[test]
fn says_where_it_does_not_parse() {
    let error = strip("m.ts", "const a = 1;\nconst b: = 2;", Language::Ts).unwrap_err();
    assert!(error.0.starts_with("m.ts:2:"), "{error}");
}
