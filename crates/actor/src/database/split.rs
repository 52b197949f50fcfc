//! Cuts a text of SQL into its statements, so that each can be compiled after the one before it has run.
//!
//! Pure. It knows what SQLite's tokenizer knows of quotes, comments and the bodies of triggers, and nothing else. It decides nothing about
//! safety: a piece that SQLite finds to be two statements is refused by who compiles it.

/// The statements of a text, each with at least one word; what is only blanks, comments and semicolons is left out.
pub(super) fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut scan = Scan::default();
    let (mut start, mut at) = (0, 0);
    let bytes = sql.as_bytes();
    while at < bytes.len() {
        let (token, end) = next(bytes, at);
        if scan.ends(token, &bytes[at..end]) {
            if scan.words {
                found.push(&sql[start..end]);
            }
            scan = Scan::default();
            start = end;
        }
        at = end;
    }
    if scan.words {
        found.push(&sql[start..]);
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Blank,
    Semicolon,
    Word,
    Other,
}

/// How far a statement has come.
#[derive(Default)]
struct Scan {
    words: bool,
    head: Head,
}

/// What decides whether a semicolon ends a statement: those in the body of a trigger do not, until the one after `END`.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Head {
    #[default]
    Start,
    Explain,
    Create,
    Trigger,
    TriggerSemicolon,
    TriggerEnd,
    Plain,
}

impl Scan {
    /// Takes a token in; true if the statement ends with it.
    fn ends(&mut self, token: Token, text: &[u8]) -> bool {
        if token == Token::Blank {
            return false;
        }
        if token == Token::Semicolon {
            return match self.head {
                Head::Trigger | Head::TriggerSemicolon => {
                    self.head = Head::TriggerSemicolon;
                    false
                }
                _ => true,
            };
        }
        self.words = true;
        let is = |word: &str| token == Token::Word && text.eq_ignore_ascii_case(word.as_bytes());
        self.head = match self.head {
            Head::Start if is("explain") => Head::Explain,
            Head::Explain if is("query") || is("plan") => Head::Explain,
            Head::Start | Head::Explain if is("create") => Head::Create,
            Head::Create if is("temp") || is("temporary") => Head::Create,
            Head::Create if is("trigger") => Head::Trigger,
            Head::TriggerSemicolon if is("end") => Head::TriggerEnd,
            Head::Trigger | Head::TriggerSemicolon | Head::TriggerEnd => Head::Trigger,
            _ => Head::Plain,
        };
        false
    }
}

/// The token that begins at a place, and where it ends. Ends are never within a character: only ASCII decides.
fn next(sql: &[u8], at: usize) -> (Token, usize) {
    let rest = &sql[at..];
    let until = |close: u8| {
        let mut i = 1;
        while i < rest.len() {
            if rest[i] == close {
                // A doubled quote stands for itself; brackets have no such thing.
                if close == b']' || rest.get(i + 1) != Some(&close) {
                    return at + i + 1;
                }
                i += 1;
            }
            i += 1;
        }
        sql.len()
    };
    match rest {
        [b';', ..] => (Token::Semicolon, at + 1),
        [b' ' | b'\t' | b'\n' | b'\r' | 0x0c, ..] => (Token::Blank, at + 1),
        [b'-', b'-', ..] => (Token::Blank, at + rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |i| i + 1)),
        [b'/', b'*', body @ ..] => (Token::Blank, at + body.windows(2).position(|w| w == b"*/").map_or(rest.len(), |i| i + 4)),
        [q @ (b'\'' | b'"' | b'`'), ..] => (Token::Other, until(*q)),
        [b'[', ..] => (Token::Other, until(b']')),
        [b, ..] if word(*b) => (Token::Word, at + rest.iter().position(|&b| !word(b)).unwrap_or(rest.len())),
        _ => (Token::Other, at + 1),
    }
}

fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn cuts_where_sqlite_does() {
        assert_eq!(statements("select 1; select 2;"), ["select 1;", " select 2;"]);
        assert_eq!(
            statements("select ';' -- ;\n, \"a;\"\"b\", [c;d], `e;f` /* ; */"),
            ["select ';' -- ;\n, \"a;\"\"b\", [c;d], `e;f` /* ; */"]
        );
        assert_eq!(statements(" ; -- x\n /* y */ ;"), [""; 0]);
        assert_eq!(statements("select 1;;-- end"), ["select 1;"]);
        assert_eq!(statements("select 'open; "), ["select 'open; "]);
        assert_eq!(statements("select é; select ü"), ["select é;", " select ü"]);
    }

    #[test]
    fn keeps_the_body_of_a_trigger_together() {
        let one = "create temp trigger t after insert on a begin update a set b = case when 1 then 2 end; delete from c; end;";
        assert_eq!(statements(&format!("{one} select 1")), [one, " select 1"]);
        assert_eq!(statements("create table t(a); insert into t values (1)").len(), 2);
        assert_eq!(statements(&format!("explain query plan {one}select 2")).len(), 2);
    }
}
