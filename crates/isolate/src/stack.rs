//! Stacks of guest exceptions, mapped back to the sources by the workers' source maps.

use std::collections::HashMap;

use sourcemap::SourceMap;

use crate::worker::Code;

/// Lines of a stack that are mapped: a script writes what it likes into a stack, and each line costs a search.
const LINES_MAX: usize = 64;

/// A stack with positions of the original sources where a module has a source map; other lines stay as they are.
pub(crate) fn map(code: &Code, stack: &str) -> String {
    if code.modules.values().all(|m| m.source_map.is_none()) {
        return stack.to_owned();
    }
    let mut maps = HashMap::new();
    let mapped = stack.lines().enumerate().map(|(i, line)| match i < LINES_MAX {
        true => map_line(code, &mut maps, line).unwrap_or_else(|| line.to_owned()),
        false => line.to_owned(),
    });
    mapped.collect::<Vec<_>>().join("\n")
}

/// Source maps read for one stack, by module.
type Maps<'c> = HashMap<&'c str, Option<SourceMap>>;

/// `    at f (main.js:3:14)` or `    at main.js:3:14`.
fn map_line<'c>(code: &'c Code, maps: &mut Maps<'c>, line: &str) -> Option<String> {
    let (before, position) = match line.rfind('(') {
        Some(i) => (&line[..=i], line[i + 1..].strip_suffix(')')?),
        None => line.find("at ").map(|i| line.split_at(i + 3))?,
    };
    let mut parts = position.rsplitn(3, ':');
    let column: u32 = parts.next()?.parse().ok()?;
    let row: u32 = parts.next()?.parse().ok()?;
    let (name, module) = code.modules.get_key_value(parts.next()?)?;
    let read = || SourceMap::from_slice(module.source_map.as_ref()?).ok();
    let map = maps.entry(name).or_insert_with(read).as_ref()?;
    let token = map.lookup_token(row.checked_sub(1)?, column.checked_sub(1)?)?;
    let close = if before.ends_with('(') { ")" } else { "" };
    Some(format!("{before}{}:{}:{}{close}", token.get_source()?, token.get_src_line() + 1, token.get_src_col() + 1))
}
