//! Stacks of guest exceptions, mapped back to the sources by the workers' source maps.

use crate::worker::Code;

/// A stack with positions of the original sources where a module has a source map; other lines stay as they are.
pub(crate) fn map(code: &Code, stack: &str) -> String {
    if code.modules.values().all(|m| m.source_map.is_none()) {
        return stack.to_owned();
    }
    stack.lines().map(|line| map_line(code, line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>().join("\n")
}

/// `    at f (main.js:3:14)` or `    at main.js:3:14`.
fn map_line(code: &Code, line: &str) -> Option<String> {
    let (before, position) = match line.rfind('(') {
        Some(i) => (&line[..=i], line[i + 1..].strip_suffix(')')?),
        None => line.find("at ").map(|i| line.split_at(i + 3))?,
    };
    let mut parts = position.rsplitn(3, ':');
    let column: u32 = parts.next()?.parse().ok()?;
    let row: u32 = parts.next()?.parse().ok()?;
    let module = code.modules.get(parts.next()?)?;
    let map = sourcemap::SourceMap::from_slice(module.source_map.as_ref()?).ok()?;
    let token = map.lookup_token(row.checked_sub(1)?, column.checked_sub(1)?)?;
    let close = if before.ends_with('(') { ")" } else { "" };
    Some(format!("{before}{}:{}:{}{close}", token.get_source()?, token.get_src_line() + 1, token.get_src_col() + 1))
}
