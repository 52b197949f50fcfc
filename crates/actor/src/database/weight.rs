//! How large one value may be in a statement, so that all its values together stay within the memory of one.
//!
//! Pure. SQLite bounds each value and the number of values, but not the product: a statement of 100 KB can have thousands of places that each
//! make a value of 2 MB, in a straight line of code in which nothing can interrupt it. So the more places a statement has that can make
//! large values, the smaller each may be. Statements that people write have a few and feel nothing of it.

use super::policy::Seen;

/// The largest value in bytes where a full-text table is searched: FTS5 takes time as the square of the number of words in a query, at once.
pub(super) const SEARCH: u32 = 128 << 10;

/// Bytes that the values of one statement may take together, about.
const TOGETHER: usize = 96 << 20;

/// Bytes that one function may gather out of its arguments before it finds that they are too many.
const GATHERED: usize = 256 << 20;

/// What a byte can become when it is written as JSON.
const ESCAPED: usize = 6;

/// Arguments that a function may have.
const ARGUMENTS: usize = 127;

/// A value may always be as large as this, in bytes.
const LEAST: usize = 16 << 10;

/// Places in a text of SQL that can make a value: concatenations and whatever has an opening parenthesis.
pub(super) fn places(sql: &str) -> usize {
    let bytes = sql.as_bytes();
    bytes.windows(2).filter(|pair| pair == b"||").count() + bytes.iter().filter(|&&b| b == b'(').count()
}

/// The largest value in bytes for a statement of which `seen` was seen, and what its values may take together. `schema` is the number of places in the worst view, trigger or generated
/// column of the database: each may be repeated wherever the statement reads from one.
pub(super) fn value_bytes(most: usize, sql: &str, seen: &Seen, schema: usize) -> (usize, usize) {
    let concatenations = sql.as_bytes().windows(2).filter(|pair| pair == b"||").count();
    let repeated = (seen.reads as usize + seen.selects as usize).saturating_mul(schema);
    let places = (seen.functions as usize).saturating_add(concatenations).saturating_add(repeated).max(1);
    let arguments = if seen.gathers { sql.bytes().filter(|&b| b == b',').count() + 1 } else { 1 };
    // Of a view nobody has counted the commas.
    let arguments = if seen.gathers && schema > 0 { ARGUMENTS } else { arguments.min(ARGUMENTS) };
    let value = (TOGETHER / places).min(GATHERED / (ESCAPED * arguments)).clamp(LEAST, most);
    (value, value.saturating_mul(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_statement_has_the_whole_size() {
        let seen = Seen { functions: 20, reads: 30, selects: 3, ..Seen::default() };
        assert_eq!(value_bytes(2_200_000, "select a || b", &seen, 0).0, 2_200_000);
    }

    #[test]
    fn many_arguments_make_small_values() {
        let seen = Seen { gathers: true, functions: 1, ..Seen::default() };
        assert_eq!(value_bytes(2_200_000, "select json_object('a', a)", &seen, 0).0, 2_200_000);
        assert!(value_bytes(2_200_000, &format!("select json_array({}x)", "x,".repeat(126)), &seen, 0).0 < 400_000);
    }

    #[test]
    fn many_places_make_small_values() {
        let seen = Seen { functions: 4_500, ..Seen::default() };
        assert!(value_bytes(2_200_000, "", &seen, 0).1 <= TOGETHER);
        let seen = Seen { reads: 10_000, ..Seen::default() };
        assert!(value_bytes(2_200_000, "", &seen, 3).0 <= LEAST);
        assert!(value_bytes(2_200_000, &"||".repeat(10_000), &Seen::default(), 0).0 < 20_000);
    }
}
