//! SQL functions that the bundled SQLite lacks, or whose own version a guest could hang a thread with.
//!
//! Registered on every connection by `database`. SQLite can be interrupted between two instructions but not within one, so a function has to be
//! quick for the largest values there are: `instr`, `replace` and `trim` of SQLite take time as the product of their arguments (minutes for two
//! of 1 MB), these as the sum.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use memchr::memmem;
use parking_lot::Mutex;
use rusqlite::{
    Connection, Result,
    functions::{Context, FunctionFlags},
    types::{Value, ValueRef},
};

const PURE: FunctionFlags = FunctionFlags::SQLITE_UTF8.union(FunctionFlags::SQLITE_DETERMINISTIC).union(FunctionFlags::SQLITE_INNOCUOUS);

/// A function of one number.
type Unary = (&'static str, fn(f64) -> f64);

const UNARY: [Unary; 20] = [
    ("acos", f64::acos),
    ("acosh", f64::acosh),
    ("asin", f64::asin),
    ("asinh", f64::asinh),
    ("atan", f64::atan),
    ("atanh", f64::atanh),
    ("cos", f64::cos),
    ("cosh", f64::cosh),
    ("degrees", f64::to_degrees),
    ("exp", f64::exp),
    ("ln", f64::ln),
    ("log", f64::log10),
    ("log10", f64::log10),
    ("log2", f64::log2),
    ("radians", f64::to_radians),
    ("sin", f64::sin),
    ("sinh", f64::sinh),
    ("sqrt", f64::sqrt),
    ("tan", f64::tan),
    ("tanh", f64::tanh),
];

/// Functions that keep an integer an integer.
const ROUNDING: [Unary; 4] = [("ceil", f64::ceil), ("ceiling", f64::ceil), ("floor", f64::floor), ("trunc", f64::trunc)];

/// A function of two numbers.
type Binary = (&'static str, fn(f64, f64) -> f64);

const BINARY: [Binary; 5] = [
    ("atan2", f64::atan2),
    ("log", |base, x| if base > 0.0 && base != 1.0 { x.ln() / base.ln() } else { f64::NAN }),
    ("mod", |x, y| x % y),
    ("pow", f64::powf),
    ("power", f64::powf),
];

/// Puts them all on a connection. `value_bytes` bounds what `replace` makes.
///
/// # Errors
/// When SQLite has no memory.
pub(super) fn register(db: &Connection, value_bytes: usize) -> Result<()> {
    for (name, f) in UNARY {
        db.create_scalar_function(name, 1, PURE, move |c| Ok(number(c.get_raw(0)).map(f).filter(|x| !x.is_nan())))?;
    }
    for (name, f) in BINARY {
        db.create_scalar_function(name, 2, PURE, move |c| {
            Ok(number(c.get_raw(0)).zip(number(c.get_raw(1))).map(|(x, y)| f(x, y)).filter(|x| !x.is_nan()))
        })?;
    }
    for (name, f) in ROUNDING {
        db.create_scalar_function(name, 1, PURE, move |c| {
            Ok(match c.get_raw(0) {
                ValueRef::Integer(n) => Value::Integer(n),
                other => number(other).map_or(Value::Null, |x| Value::Real(f(x))),
            })
        })?;
    }
    db.create_scalar_function("pi", 0, PURE, |_| Ok(std::f64::consts::PI))?;
    let plain = Plain::default();
    let shared = plain.clone();
    db.create_scalar_function("instr", 2, PURE, move |c| instr(&shared, c))?;
    let shared = plain.clone();
    db.create_scalar_function("replace", 3, PURE, move |c| replace(&shared, c, value_bytes))?;
    for (name, left, right) in [("trim", true, true), ("ltrim", true, false), ("rtrim", false, true)] {
        for arguments in [1, 2] {
            let shared = plain.clone();
            db.create_scalar_function(name, arguments, PURE, move |c| trim(&shared, c, left, right))?;
        }
    }
    for (name, delegate) in [("json_patch", "SELECT json_patch(?1, ?2)"), ("jsonb_patch", "SELECT jsonb_patch(?1, ?2)")] {
        patch(db, plain.clone(), name, delegate)?;
    }
    Ok(())
}

/// A value as a number, where SQLite's mathematical functions take it for one.
fn number(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Integer(n) => Some(n as f64),
        ValueRef::Real(x) => Some(x),
        ValueRef::Text(text) => std::str::from_utf8(text).ok()?.trim_ascii().parse().ok(),
        ValueRef::Null | ValueRef::Blob(_) => None,
    }
}

/// The bytes of a value as text; `None` for null.
fn text<'v>(plain: &Plain, value: ValueRef<'v>) -> Result<Option<Cow<'v, [u8]>>> {
    Ok(match value {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.into()),
        ValueRef::Integer(n) => Some(n.to_string().into_bytes().into()),
        // How SQLite writes a number is nobody else's to know.
        ValueRef::Real(x) => match plain.ask("SELECT CAST(?1 AS TEXT)", [Value::Real(x)])? {
            Value::Text(text) => Some(text.into_bytes().into()),
            _ => None,
        },
    })
}

/// A connection of nobody's with SQLite's own functions, for what only they know; made when first asked.
#[derive(Clone, Default)]
struct Plain(Arc<Mutex<Option<Connection>>>);

impl Plain {
    fn ask<const N: usize>(&self, sql: &str, arguments: [Value; N]) -> Result<Value> {
        let mut plain = self.0.lock();
        let db = match &mut *plain {
            Some(db) => db,
            none => none.insert(Connection::open_in_memory()?),
        };
        db.prepare_cached(sql)?.query_row(rusqlite::params_from_iter(arguments), |row| row.get(0))
    }
}

fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&b| b & 0xc0 != 0x80).count()
}

fn instr(plain: &Plain, c: &Context<'_>) -> Result<Option<i64>> {
    let (hay, needle) = (c.get_raw(0), c.get_raw(1));
    let blobs = matches!((hay, needle), (ValueRef::Blob(_), ValueRef::Blob(_)));
    let Some((hay, needle)) = text(plain, hay)?.zip(text(plain, needle)?) else { return Ok(None) };
    Ok(Some(memmem::find(&hay, &needle).map_or(0, |at| if blobs { at } else { characters(&hay[..at]) } as i64 + 1)))
}

fn replace(plain: &Plain, c: &Context<'_>, most: usize) -> Result<Value> {
    let (Some(whole), Some(from)) = (text(plain, c.get_raw(0))?, text(plain, c.get_raw(1))?) else { return Ok(Value::Null) };
    if from.is_empty() {
        return Ok(lossy(&whole));
    }
    let Some(to) = text(plain, c.get_raw(2))? else { return Ok(Value::Null) };
    let mut made = Vec::with_capacity(whole.len());
    let mut rest = 0;
    for at in memmem::find_iter(&whole, &*from) {
        made.extend_from_slice(&whole[rest..at]);
        made.extend_from_slice(&to);
        rest = at + from.len();
        if made.len() > most {
            return Err(too_big());
        }
    }
    made.extend_from_slice(&whole[rest..]);
    Ok(lossy(&made))
}

fn trim(plain: &Plain, c: &Context<'_>, left: bool, right: bool) -> Result<Value> {
    let Some(whole) = text(plain, c.get_raw(0))? else { return Ok(Value::Null) };
    let whole = String::from_utf8_lossy(&whole);
    let set: HashSet<char> = if c.len() == 2 {
        let Some(set) = text(plain, c.get_raw(1))? else { return Ok(Value::Null) };
        // As with SQLite, whose set is a C string.
        String::from_utf8_lossy(&set).chars().take_while(|&c| c != '\0').collect()
    } else {
        [' '].into()
    };
    let mut kept = &*whole;
    if left {
        kept = kept.trim_start_matches(|c| set.contains(&c));
    }
    if right {
        kept = kept.trim_end_matches(|c| set.contains(&c));
    }
    Ok(Value::Text(kept.to_owned()))
}

/// SQLite's own function, on a connection that has nothing else, for arguments whose product it can bear: it looks every key of one object up in the
/// other, from the start.
fn patch(db: &Connection, plain: Plain, name: &'static str, delegate: &'static str) -> Result<()> {
    const PRODUCT: usize = 1 << 32;
    /// By this subtype SQLite's JSON functions know a text that is JSON already.
    const JSON: std::ffi::c_uint = 74;
    db.create_scalar_function(name, 2, PURE | FunctionFlags::SQLITE_RESULT_SUBTYPE, move |c| {
        let (target, change) = (c.get_raw(0), c.get_raw(1));
        let size = |v: ValueRef<'_>| match v {
            ValueRef::Text(b) | ValueRef::Blob(b) => b.len(),
            _ => 0,
        };
        if size(target).saturating_mul(size(change)) > PRODUCT {
            return Err(too_big());
        }
        let arguments = [Value::try_from(target), Value::try_from(change)].map(|v| v.unwrap_or(Value::Null));
        let made = plain.ask(delegate, arguments)?;
        let json = matches!(made, Value::Text(_)).then_some(JSON);
        Ok((made, json))
    })
}

fn lossy(bytes: &[u8]) -> Value {
    Value::Text(String::from_utf8_lossy(bytes).into_owned())
}

fn too_big() -> rusqlite::Error {
    rusqlite::Error::UserFunctionError("string or blob too big".into())
}
