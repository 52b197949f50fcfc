//! Telling from a snippet's text what it is, and making a module of it.

/// The module that is run: it gives a function its arguments, and takes any other value as it is.
pub(crate) const ENTRY: &str = "import value from \"./snippet.js\";
export default (input, env) => typeof value === \"function\" ? value(input, env) : value;
";

/// Makes a module whose default export is a function of `(input, env)`, or a value.
///
/// The rules are lexical, so that no parser stands in the way of a snippet: a line that begins with `export` or `import` makes a
/// module; `async (…) =>`, `(…) =>`, `name =>` or `function` at the beginning makes a function; a text without `return`,
/// `;` and line breaks is an expression; everything else is the body of an async function. Line numbers are kept.
pub(crate) fn module_of(code: &str) -> String {
    let text = code.trim();
    if text.lines().any(is_module_line) {
        code.to_owned()
    } else if is_function(text) {
        format!("export default ({}\n);", text.trim_end_matches(';'))
    } else if is_expression(text) {
        format!("export default async (input, env) => ({}\n);", text.trim_end_matches(';'))
    } else {
        format!("export default async (input, env) => {{{code}\n}};")
    }
}

fn is_module_line(line: &str) -> bool {
    let line = line.trim_start();
    ["export ", "export{", "import ", "import{", "import\"", "import'"].iter().any(|start| line.starts_with(start))
}

fn is_function(text: &str) -> bool {
    let rest = text.strip_prefix("async").map_or(text, str::trim_start);
    if rest.starts_with("function") {
        return true;
    }
    if !rest.starts_with('(') {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
        return name > 0 && rest[name..].trim_start().starts_with("=>");
    }
    let mut depth = 0_u32;
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return rest[at + 1..].trim_start().starts_with("=>") || rest[at + 1..].trim_start().starts_with(':');
        }
    }
    false
}

fn is_expression(text: &str) -> bool {
    let statements = ["return", "const ", "let ", "var ", "if ", "if(", "for ", "for(", "while", "throw ", "try", "class ", "switch"];
    !text.is_empty()
        && !text.trim_end_matches(';').contains([';', '\n'])
        && !statements.iter().any(|word| text.starts_with(word))
        && !text.contains("return ")
}

#[cfg(test)]
mod tests {
    use super::module_of;

    #[test]
    fn each_form_becomes_a_module() {
        assert_eq!(module_of("export default 1"), "export default 1");
        assert_eq!(module_of("import x from './x.js'\nexport { x as default }"), "import x from './x.js'\nexport { x as default }");
        assert_eq!(module_of("async () => { return 1 }"), "export default (async () => { return 1 }\n);");
        assert_eq!(module_of("(a, b) => a"), "export default ((a, b) => a\n);");
        assert_eq!(module_of("x => x * 2"), "export default (x => x * 2\n);");
        assert_eq!(module_of("function f(x) { return x }"), "export default (function f(x) { return x }\n);");
        assert_eq!(module_of("(1 + 2) * 3"), "export default async (input, env) => ((1 + 2) * 3\n);");
        assert_eq!(module_of("await env.DB.all()"), "export default async (input, env) => (await env.DB.all()\n);");
        assert_eq!(module_of("const a = 1;\nreturn a"), "export default async (input, env) => {const a = 1;\nreturn a\n};");
        assert_eq!(module_of("return 1"), "export default async (input, env) => {return 1\n};");
        assert_eq!(module_of(""), "export default async (input, env) => {\n};");
    }
}
