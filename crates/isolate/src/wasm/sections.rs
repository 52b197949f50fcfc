//! The few facts about a Wasm module that the compiler does not keep: indexes of exported functions, custom sections; and
//! the change that is made before compiling. The bytes are hostile: whatever is not as expected is "not found".

use std::ops::Range;

const HEADER: usize = 8;
const CUSTOM: u8 = 0;
const IMPORT: u8 = 2;
const FUNCTION: u8 = 3;
const MEMORY: u8 = 5;
const EXPORT: u8 = 7;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let n = self.number()? as usize;
        self.take(n)
    }
}

/// Sections in order: id, where the section begins, where its contents are.
fn sections(module: &[u8]) -> impl Iterator<Item = (u8, usize, Range<usize>)> + '_ {
    let mut reader = Reader { bytes: module, at: HEADER.min(module.len()) };
    std::iter::from_fn(move || {
        let start = reader.at;
        let id = reader.byte()?;
        let n = reader.number()? as usize;
        let from = reader.at;
        reader.take(n)?;
        Some((id, start, from..from + n))
    })
}

/// Functions that the module says it defines.
pub(super) fn functions(module: &[u8]) -> Option<u32> {
    let (_, _, contents) = sections(module).find(|(id, ..)| *id == FUNCTION)?;
    Reader { bytes: &module[contents], at: 0 }.number()
}

/// Index of each exported function, by name.
pub(super) fn function_exports(module: &[u8]) -> Option<Vec<(&[u8], u32)>> {
    let (_, _, contents) = sections(module).find(|(id, ..)| *id == EXPORT)?;
    let mut reader = Reader { bytes: &module[contents], at: 0 };
    let mut found = Vec::new();
    for _ in 0..reader.number()? {
        let (name, kind, index) = (reader.text()?, reader.byte()?, reader.number()?);
        if kind == 0 {
            found.push((name, index));
        }
    }
    Some(found)
}

/// Contents of the custom sections of that name.
pub(super) fn custom<'a>(module: &'a [u8], wanted: &[u8]) -> Vec<&'a [u8]> {
    let contents = |(id, _, contents): (u8, usize, Range<usize>)| {
        let mut reader = Reader { bytes: module.get(contents)?, at: 0 };
        (id == CUSTOM && reader.text()? == wanted).then(|| &reader.bytes[reader.at..])
    };
    sections(module).filter_map(contents).collect()
}

fn put_number(out: &mut Vec<u8>, mut n: u32) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_section(out: &mut Vec<u8>, id: u8, contents: &[u8]) {
    out.push(id);
    put_number(out, contents.len() as u32);
    out.extend_from_slice(contents);
}

/// The module with its one memory imported instead of defined: it is then made by the host, outside of the pool, where its pages
/// can be shared. `None` when it defines none (or is not as expected, which the compiler will tell). Indexes stay what they are.
pub(super) fn import_memory(module: &[u8], (from, name): (&str, &str)) -> Option<Vec<u8>> {
    let all: Vec<_> = sections(module).collect();
    let (_, memory_start, memory) = all.iter().find(|(id, ..)| *id == MEMORY)?.clone();
    let mut reader = Reader { bytes: &module[memory.clone()], at: 0 };
    if reader.number()? != 1 {
        return None;
    }
    let memory_type = &reader.bytes[reader.at..];
    let mut entry = Vec::new();
    for text in [from, name] {
        put_number(&mut entry, text.len() as u32);
        entry.extend_from_slice(text.as_bytes());
    }
    entry.push(2);
    entry.extend_from_slice(memory_type);
    let mut imports = Vec::new();
    let mut out = module[..HEADER].to_vec();
    match all.iter().find(|(id, ..)| *id == IMPORT) {
        Some((_, start, contents)) => {
            if *start > memory_start {
                return None;
            }
            let mut reader = Reader { bytes: &module[contents.clone()], at: 0 };
            put_number(&mut imports, reader.number()?.checked_add(1)?);
            imports.extend_from_slice(&reader.bytes[reader.at..]);
            imports.extend_from_slice(&entry);
            out.extend_from_slice(&module[HEADER..*start]);
            put_section(&mut out, IMPORT, &imports);
            out.extend_from_slice(&module[contents.end..memory_start]);
        }
        None => {
            put_number(&mut imports, 1);
            imports.extend_from_slice(&entry);
            // Before whatever comes first after the types.
            let after = |id: u8| id > IMPORT;
            let at = all.iter().find(|(id, ..)| after(*id)).map_or(memory_start, |(_, start, _)| *start);
            out.extend_from_slice(&module[HEADER..at]);
            put_section(&mut out, IMPORT, &imports);
            out.extend_from_slice(&module[at..memory_start]);
        }
    }
    out.extend_from_slice(&module[memory.end..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (module (memory 1) (export "m" (memory 0)))
    const MODULE: &[u8] = &[0, 97, 115, 109, 1, 0, 0, 0, 5, 3, 1, 0, 1, 7, 5, 1, 1, b'm', 2, 0];

    #[test]
    fn a_memory_becomes_an_import() {
        let changed = import_memory(MODULE, ("skep", "memory")).unwrap();
        let module = wasmtime::Module::new(&wasmtime::Engine::default(), &changed).unwrap();
        assert_eq!(module.imports().last().unwrap().name(), "memory");
        assert!(import_memory(&MODULE[..8], ("skep", "memory")).is_none());
    }

    #[test]
    fn cut_off_anywhere_it_is_not_found() {
        for n in 0..MODULE.len() {
            let _ = (
                import_memory(&MODULE[..n], ("a", "b")),
                functions(&MODULE[..n]),
                function_exports(&MODULE[..n]),
                custom(&MODULE[..n], b""),
            );
        }
    }
}
