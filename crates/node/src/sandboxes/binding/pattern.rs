//! Patterns of paths, as a worker writes them for a watch: `*` and `?` within a step, `**` across steps. Pure.
//!
//! Both pattern and path may be hostile, and every change is matched: a pattern is an automaton of at most 127 states that are the bits of one number, so
//! that a path costs its length and nothing else. It is not: a search of the file system.

use std::collections::HashMap;

use super::Refusal;

/// Most patterns of one watch.
const PATTERNS_MAX: usize = 32;

/// Most characters of one: with the state after the last they are the bits of a number.
const LENGTH_MAX: usize = 127;

/// One pattern. Bit `n` is the state before its `n`th part; the one after the last part accepts.
#[derive(Default)]
struct Pattern {
    literals: HashMap<char, u128>,
    /// `?`
    one: u128,
    /// `*`
    some: u128,
    /// `**`
    all: u128,
    /// `**/`, where a step begins; the next bit is the state within a step.
    folders: u128,
    accepts: u128,
    /// It has steps, and is about a whole path; else about a name.
    of_paths: bool,
}

impl Pattern {
    fn of(text: &str) -> Self {
        let mut made = Self { of_paths: text.contains('/'), ..Self::default() };
        let (mut at, mut rest) = (1_u128, text);
        while let Some(first) = rest.chars().next() {
            rest = if let Some(after) = rest.strip_prefix("**/") {
                made.folders |= at;
                at <<= 1;
                after
            } else if let Some(after) = rest.strip_prefix("**") {
                made.all |= at;
                after
            } else {
                match first {
                    '*' => made.some |= at,
                    '?' => made.one |= at,
                    other => *made.literals.entry(other).or_default() |= at,
                }
                &rest[first.len_utf8()..]
            };
            at <<= 1;
        }
        made.accepts = at;
        made
    }

    /// The states that are reached without reading anything.
    fn closed(&self, mut states: u128) -> u128 {
        loop {
            let more = states | (states & (self.some | self.all)) << 1 | (states & self.folders) << 2;
            if more == states {
                return states;
            }
            states = more;
        }
    }

    fn after(&self, states: u128, read: char) -> u128 {
        let (literal, within) = (self.literals.get(&read).copied().unwrap_or_default(), self.folders << 1);
        let (mut moved, mut stayed) = (states & literal, states & self.all);
        if read == '/' {
            stayed |= states & self.folders | (states & within) >> 1;
        } else {
            moved |= states & (self.one | self.folders);
            stayed |= states & (self.some | within);
        }
        self.closed(moved << 1 | stayed)
    }

    /// Whether it means all of `text`, or, where that is asked for, a folder that it begins with.
    fn means(&self, text: &str, or_above: bool) -> bool {
        let mut states = self.closed(1);
        for read in text.chars() {
            if or_above && read == '/' && states & self.accepts != 0 {
                return true;
            }
            states = self.after(states, read);
        }
        states & self.accepts != 0
    }
}

/// What of a watched folder is told.
pub(super) enum Wanted {
    /// What one of these means.
    Only(Patterns),
    /// All but what one of these means, and what is below it.
    AllBut(Patterns),
}

/// Some of them.
pub(super) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Of what a worker wrote.
    pub fn of(texts: &[String]) -> Result<Self, Refusal> {
        let refused = |text: &String| text.is_empty() || text.chars().count() > LENGTH_MAX;
        if texts.len() > PATTERNS_MAX || texts.iter().any(refused) {
            return Err(Refusal::invalid(format!("there are at most {PATTERNS_MAX} patterns of 1 to {LENGTH_MAX} characters")));
        }
        Ok(Self(texts.iter().map(|text| Pattern::of(text)).collect()))
    }
}

impl Wanted {
    /// `path` is seen from the watched folder.
    pub fn has(&self, path: &str) -> bool {
        match self {
            Self::Only(Patterns(all)) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                all.iter().any(|pattern| pattern.means(if pattern.of_paths { path } else { name }, false))
            }
            Self::AllBut(Patterns(all)) => !all.iter().any(|pattern| match pattern.of_paths {
                true => pattern.means(path, true),
                false => path.split('/').any(|step| pattern.means(step, false)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::of(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn names_and_paths_are_matched() {
        for (pattern, path, has) in [
            ("*.ts", "a.ts", true),
            ("*.ts", "deep/in/a.ts", true),
            ("*.ts", "a.tsx", false),
            ("?.c", "é.c", true),
            ("?.c", "ab.c", false),
            ("src/*.ts", "src/a.ts", true),
            ("src/*.ts", "src/in/a.ts", false),
            ("src/**", "src/in/a.ts", true),
            ("src/**/a.ts", "src/a.ts", true),
            ("src/**/a.ts", "src/x/y/a.ts", true),
            ("src/**/a.ts", "src/xa.ts", false),
            ("**/a.ts", "a.ts", true),
            ("**/**/**", "x", true),
            ("", "x", false),
        ] {
            let Ok(only) = Patterns::of(&[pattern.to_owned()]) else {
                assert!(pattern.is_empty());
                continue;
            };
            assert_eq!(Wanted::Only(only).has(path), has, "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_below_something_unwanted_is_unwanted() {
        let wanted = Wanted::AllBut(patterns(&["node_modules", ".git", "out/*"]));
        for path in ["node_modules", "a/node_modules/b/c", ".git/HEAD", "out/a/b"] {
            assert!(!wanted.has(path), "{path}");
        }
        for path in ["a", "my_node_modules", "out", "x/out/a", ".gitignore"] {
            assert!(wanted.has(path), "{path}");
        }
    }

    #[test]
    fn hostile_patterns_cost_no_more_than_others() {
        // For one that tries and goes back, each of these would be without end.
        let wanted = Wanted::Only(patterns(&[&format!("{}b", "a*".repeat(63)), &format!("x/{}b", "**/a*".repeat(24))]));
        let (name, path) = ("a".repeat(4_000), format!("x/{}", "a/".repeat(2_000)));
        let began = std::time::Instant::now();
        for _ in 0..100 {
            assert!(!wanted.has(&name) && !wanted.has(&path));
        }
        assert!(began.elapsed().as_secs() < 10);
        for refused in [vec![String::new()], vec!["x".repeat(128)], vec!["x".to_owned(); 33]] {
            assert!(Patterns::of(&refused).is_err());
        }
    }
}
