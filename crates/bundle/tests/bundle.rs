//! Projects on disk, bundled.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::{fs, path::Path};

use skep_bundle::{Kind, Project, ProjectBinding, bundle};

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn main_of(folder: &Path) -> (skep_bundle::Modules, String) {
    let bundled = bundle(&Project::find(folder).unwrap().entry).unwrap();
    let main = String::from_utf8(bundled.modules[&bundled.main].bytes.clone()).unwrap();
    (bundled, main)
}

#[test]
fn typescript_packages_and_texts_become_one_module() {
    let folder = project(&[
        ("package.json", r#"{ "name": "w", "main": "src/index.ts" }"#),
        (
            "src/index.ts",
            "import { a } from 'dep'; import page from './page.html'; import d from './d.json';\nimport * as e from 'events'; import { env } from 'cloudflare:workers';\nexport default { fetch: (r: Request): Response => new Response(a + page + d.x + e + env) };",
        ),
        ("src/page.html", "<p>hi</p>"),
        ("src/d.json", "{\"x\": 42}"),
        (
            "node_modules/dep/package.json",
            r#"{ "name": "dep", "exports": { ".": { "workerd": "./w.js", "node": "./n.js", "default": "./n.js" } } }"#,
        ),
        ("node_modules/dep/w.js", "export const a = 'worker build';"),
        ("node_modules/dep/n.js", "export const a = 'node build';"),
    ]);
    let (bundled, main) = main_of(folder.path());
    assert_eq!(bundled.modules.len(), 1, "{:?}", bundled.modules.keys());
    assert!(main.contains("worker build") && main.contains("<p>hi</p>") && main.contains("42"), "{main}");
    assert!(main.contains("\"node:events\"") && main.contains("\"cloudflare:workers\""), "{main}");
    assert!(bundled.modules[&bundled.main].source_map.is_some());
}

#[test]
fn wasm_and_bytes_become_modules_of_their_own() {
    let folder = project(&[
        (
            "index.js",
            "import m from './lib/add.wasm'; import b from './x.bin'; import m2 from './lib/add.wasm?module'; export default { m, b, m2 };",
        ),
        ("lib/add.wasm", "\0asm-ish"),
        ("x.bin", "bytes"),
    ]);
    let (bundled, main) = main_of(folder.path());
    let of = |kind| bundled.modules.iter().filter(|(_, m)| m.kind == kind).map(|(n, _)| n.clone()).collect::<Vec<_>>();
    let (wasm, data) = (of(Kind::Wasm), of(Kind::Data));
    assert_eq!((wasm.len(), data.len()), (1, 1), "{main}");
    assert!(main.contains(&format!("\"./{}\"", wasm[0])) && main.contains(&format!("\"./{}\"", data[0])), "{main}");
}

#[test]
fn commonjs_that_requires_a_runtime_module_gets_an_import() {
    let folder = project(&[
        ("index.js", "import d from './d.cjs'; export default { fetch: () => new Response(d) };"),
        ("d.cjs", "const E = require('events'); const { join } = require('node:path'); module.exports = new E() + join('a', 'b');"),
    ]);
    let (_, main) = main_of(folder.path());
    assert!(main.contains("from \"node:events\"") && main.contains("from \"node:path\""), "{main}");
    assert!(!main.contains("__require("), "{main}");
}

#[test]
fn a_dynamic_import_is_a_module_beside() {
    let folder = project(&[
        ("index.js", "export default { fetch: async () => (await import('./big.js')).f() };"),
        ("big.js", "export const f = () => new Response('big');"),
    ]);
    let (bundled, main) = main_of(folder.path());
    assert_eq!(bundled.modules.len(), 2, "{main}");
    assert!(main.contains("import(\"./big-"), "{main}");
}

#[test]
fn wrangler_files_are_understood() {
    let folder = project(&[
        (
            "wrangler.jsonc",
            "{ // a comment\n \"name\": \"w\", \"main\": \"app.ts\", \"compatibility_date\": \"2026-01-01\", \"compatibility_flags\": [\"nodejs_compat\"],\n \"vars\": { \"A\": \"text\", \"B\": { \"c\": 1 } }, \"services\": [{ \"binding\": \"S\", \"service\": \"other\" }],\n \"worker_loaders\": [{ \"binding\": \"LOADER\" }], }",
        ),
        ("app.ts", "export default {};"),
    ]);
    let found = Project::find(folder.path()).unwrap();
    assert_eq!(found.name.as_deref(), Some("w"));
    assert_eq!(found.compatibility_date.as_deref(), Some("2026-01-01"));
    assert_eq!(found.bindings["A"], ProjectBinding::Value("text".into()));
    assert_eq!(found.bindings["LOADER"], ProjectBinding::Loader);
    assert_eq!(found.bindings["S"], ProjectBinding::Service { worker: "other".to_owned(), entrypoint: None, props: None });
    assert!(found.entry.ends_with("app.ts"));

    let toml = project(&[("wrangler.toml", "name = 'x'\nmain = 'gone.js'")]);
    assert!(Project::find(toml.path()).unwrap_err().to_string().contains("gone.js"));
    assert!(Project::find(project(&[("readme.txt", "")]).path()).is_err());
}

#[test]
fn durable_objects_are_understood_and_migrations_reported() {
    let folder = project(&[
        (
            "wrangler.toml",
            "name = 'w'\nmain = 'app.ts'\n[[durable_objects.bindings]]\nname = 'ROOMS'\nclass_name = 'Room'\n
             [[durable_objects.bindings]]\nname = 'FAR'\nclass_name = 'User'\nscript_name = 'other'\n
             [[migrations]]\ntag = 'v1'\nnew_sqlite_classes = ['Room']\n[[migrations]]\ntag = 'v2'\nrenamed_classes = [{ from = 'A', to = 'B' }]\n
             [[migrations]]\ntag = 'v3'\ndeleted_classes = ['Old']",
        ),
        ("app.ts", "export default {};"),
    ]);
    let found = Project::find(folder.path()).unwrap();
    assert_eq!(found.bindings["ROOMS"], ProjectBinding::Actors { class_name: "Room".to_owned(), worker: None });
    assert_eq!(found.bindings["FAR"], ProjectBinding::Actors { class_name: "User".to_owned(), worker: Some("other".to_owned()) });
    assert_eq!(found.remarks.len(), 2, "{:?}", found.remarks);
    assert!(found.remarks[0].contains("v2") && found.remarks[1].contains("Old"), "{:?}", found.remarks);
}

#[test]
fn faults_are_told_with_their_place() {
    let missing = project(&[("index.ts", "import { x } from './nowhere'; export default x;")]);
    let error = bundle(&missing.path().join("index.ts")).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
    let broken = project(&[("index.ts", "export default {{;")]);
    let error = bundle(&broken.path().join("index.ts")).unwrap_err().to_string();
    assert!(error.contains("index.ts"), "{error}");
}
