//! What SQL of a guest may do: decided for every table, function and pragma that a statement names, while SQLite compiles it.
//!
//! Pure, but for what it notes about the statement. Asked by SQLite's authorizer callback, also when a statement is compiled anew because the
//! schema changed. Names are allowed, never forbidden: what SQLite learns tomorrow is refused until it is listed here. The lists are those that
//! Durable Objects document and their open-source runtime enforces.

use rusqlite::hooks::{AuthAction, AuthContext, TransactionOperation};

/// Tables whose names begin so hold what is not the guest's: the key-value store, alarms, steps.
const HIDDEN: &str = "_cf_";

/// What a guest is told that tries `BEGIN`, `COMMIT` or `SAVEPOINT`; word for word what Durable Objects say.
pub(super) const TRANSACTION: &str = "To execute a transaction, please use the state.storage.transaction() or \
     state.storage.transactionSync() APIs instead of the SQL BEGIN TRANSACTION or SAVEPOINT statements. The JavaScript API is safer because it \
     will automatically roll back on exceptions, and because it interacts correctly with Durable Objects' automatic atomic write coalescing.";

/// Virtual tables a guest may create.
const MODULES: [&str; 4] = ["fts5", "fts5vocab", "rtree", "rtree_i32"];

/// Tables without a file that show SQLite's inside, or other guests' if there were any.
const INSIDES: [&str; 10] = [
    "dbstat",
    "sqlite_dbpage",
    "sqlite_stmt",
    "sqlite_memstat",
    "bytecode",
    "tables_used",
    "fts3tokenize",
    "completion",
    "fsdir",
    "zipfile",
];

/// Selects that one statement may contain, views counted where they are used: each may have an intermediate table with a cache of its own.
const SELECTS: u32 = 256;

/// Functions that put all their arguments into one value, and look at its size only afterwards.
const GATHERING: [&str; 14] = [
    "concat",
    "concat_ws",
    "json_array",
    "json_insert",
    "json_object",
    "json_replace",
    "json_set",
    "json_array_insert",
    "jsonb_array",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_replace",
    "jsonb_set",
    "jsonb_array_insert",
];

const FUNCTIONS: [&str; 152] = [
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "bm25",
    "ceil",
    "ceiling",
    "changes",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "highlight",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_insert",
    "json_array_length",
    "json_each",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_patch",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_tree",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_array_insert",
    "jsonb_each",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_patch",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "jsonb_tree",
    "julianday",
    "lag",
    "last_insert_rowid",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "match",
    "max",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "randomblob",
    "rank",
    "regexp",
    "replace",
    "round",
    "row_number",
    "rtreecheck",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "snippet",
    "soundex",
    "sqlite_drop_column",
    "sqlite_rename_column",
    "sqlite_rename_quotefix",
    "sqlite_rename_table",
    "sqlite_rename_test",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "subtype",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "total_changes",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unistr_quote",
    "unixepoch",
    "unlikely",
    "upper",
    "sqlite_add_constraint",
    "sqlite_drop_constraint",
    "sqlite_find_constraint",
    "sqlite_fail",
    "zeroblob",
];

/// Functions of the first full-text tables, which Durable Objects do not have and are not asked about.
const UNKNOWN: [&str; 4] = ["fts3_tokenizer", "matchinfo", "offsets", "optimize"];

/// What a guest is told of what it may not do; of a function with its name and place, but for `load_extension`, which fails when it is called
/// where it is known.
pub(super) const NOT_AUTHORIZED: &str = "not authorized";

/// What a pragma may be given.
#[derive(Clone, Copy)]
enum Argument {
    /// Nothing: it is only read.
    None,
    /// Nothing, or on and off in all of SQLite's spellings.
    Switch,
    /// The name of an object that is not hidden.
    Name,
    /// Nothing or such a name.
    NameOrNone,
    /// Nothing, a number or such a name.
    NameNumberOrNone,
    /// Nothing or a number.
    NumberOrNone,
}

const PRAGMAS: [(&str, Argument); 19] = [
    ("case_sensitive_like", Argument::Switch),
    ("data_version", Argument::None),
    ("defer_foreign_keys", Argument::Switch),
    ("foreign_key_check", Argument::NameOrNone),
    ("foreign_key_list", Argument::Name),
    ("foreign_keys", Argument::Switch),
    ("ignore_check_constraints", Argument::Switch),
    ("index_info", Argument::Name),
    ("index_list", Argument::Name),
    ("index_xinfo", Argument::Name),
    ("legacy_alter_table", Argument::Switch),
    ("optimize", Argument::NumberOrNone),
    ("page_size", Argument::None),
    ("quick_check", Argument::NameNumberOrNone),
    ("recursive_triggers", Argument::Switch),
    ("reverse_unordered_selects", Argument::Switch),
    ("table_info", Argument::Name),
    // It names hidden tables; that they exist is no secret.
    ("table_list", Argument::NameOrNone),
    ("table_xinfo", Argument::Name),
];

/// What was seen of a statement while it was compiled.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why it was refused, if in words other than SQLite's.
    pub(super) refusal: Option<String>,
    /// Tables it changes by itself (not by triggers), and for an update which columns.
    pub(super) changes: Vec<(String, Change)>,
    /// Objects of the schema it creates, drops or alters.
    pub(super) schema: u32,
    /// It alters a table: the new name is not shown to the authorizer.
    pub(super) alters: bool,
    /// It sets off triggers that write.
    pub(super) triggers: bool,
    /// It sets something on the connection.
    pub(super) sets: bool,
    /// Calls of functions.
    pub(super) functions: u32,
    /// It calls a function that gathers its arguments.
    pub(super) gathers: bool,
    /// Tables it reads, in lower case; none are noted any more once there are many.
    pub(super) tables: Vec<String>,
    /// It may give a full-text query to a table it reads.
    pub(super) searches: bool,
    /// Columns it reads.
    pub(super) reads: u32,
    /// Selects in it.
    pub(super) selects: u32,
}

/// How a statement changes a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It adds rows.
    Insert,
    /// It removes rows.
    Delete,
    /// It changes these columns.
    Update(Vec<String>),
}

/// Tables that are noted of one statement.
const TABLES: usize = 64;

impl Seen {
    fn read(&mut self, table: &str, column: &str) {
        // `f = 'query'` is `f MATCH 'query'`: a full-text table has a column of its own name.
        self.searches |= table.eq_ignore_ascii_case(column);
        if self.tables.len() < TABLES && !self.tables.iter().any(|t| t.eq_ignore_ascii_case(table)) {
            self.tables.push(table.to_ascii_lowercase());
        }
    }

    /// Whether it may give a full-text query to a table of this name.
    pub(super) fn may_search(&self, table: &str) -> bool {
        self.searches && (self.tables.len() >= TABLES || self.tables.iter().any(|t| t.eq_ignore_ascii_case(table)))
    }

    fn change(&mut self, table: &str, change: Change) {
        if let Change::Update(column) = &change
            && let Some((_, Change::Update(columns))) = self.changes.iter_mut().find(|(t, c)| t == table && matches!(c, Change::Update(_)))
        {
            columns.extend_from_slice(column);
        } else if self.changes.len() < 16 {
            self.changes.push((table.to_owned(), change));
        }
    }
}

/// Whether the guest may have a name.
pub(super) fn visible(name: &str) -> bool {
    !name.get(..HIDDEN.len()).is_some_and(|start| start.eq_ignore_ascii_case(HIDDEN))
}

/// Whether a guest's statement may do this. `writes`: whether the database may be changed at all.
pub(super) fn allows(asked: &AuthContext<'_>, writes: bool, seen: &mut Seen) -> bool {
    match asked.database_name {
        // It names its database itself; where others have theirs, `DROP COLUMN` has the column.
        _ if matches!(asked.action, AuthAction::AlterTable { .. }) => main(asked, writes, seen),
        None | Some("main") => main(asked, writes, seen),
        // The schema of temporary objects can be read (`ALTER TABLE` and `PRAGMA table_list` do); there are none.
        Some("temp") => match asked.action {
            AuthAction::Read { table_name, .. } | AuthAction::Update { table_name, .. } => visible(table_name),
            _ => false,
        },
        Some(_) => false,
    }
}

fn main(asked: &AuthContext<'_>, writes: bool, seen: &mut Seen) -> bool {
    use AuthAction as A;
    let top = asked.accessor.is_none();
    let schema = |seen: &mut Seen, allowed: bool| {
        seen.schema += 1;
        writes && allowed
    };
    match asked.action {
        A::Select | A::Recursive => {
            seen.selects += 1;
            seen.searches = true;
            if seen.selects > SELECTS {
                seen.refusal = Some(format!("too many selects in one statement (maximum {SELECTS})"));
            }
            seen.selects <= SELECTS
        }
        A::Read { table_name, column_name } => {
            seen.reads += 1;
            seen.read(table_name, column_name);
            visible(table_name) && !INSIDES.iter().any(|inside| table_name.eq_ignore_ascii_case(inside))
        }
        A::Insert { table_name } => note(seen, top, table_name, Change::Insert) && writes,
        A::Delete { table_name } => note(seen, top, table_name, Change::Delete) && writes,
        A::Update { table_name, column_name } => note(seen, top, table_name, Change::Update(vec![column_name.to_owned()])) && writes,
        A::CreateTable { table_name } | A::DropTable { table_name } => schema(seen, visible(table_name)),
        A::CreateView { view_name } | A::DropView { view_name } => schema(seen, visible(view_name)),
        A::CreateIndex { index_name: name, table_name }
        | A::DropIndex { index_name: name, table_name }
        | A::CreateTrigger { trigger_name: name, table_name }
        | A::DropTrigger { trigger_name: name, table_name } => schema(seen, visible(name) && visible(table_name)),
        A::CreateVtable { table_name, module_name } | A::DropVtable { table_name, module_name } => {
            schema(seen, visible(table_name) && MODULES.iter().any(|m| module_name.eq_ignore_ascii_case(m)))
        }
        A::AlterTable { database_name, table_name } => {
            seen.alters = true;
            schema(seen, database_name == "main" && visible(table_name))
        }
        A::Reindex { .. } => schema(seen, true),
        // It tells how many rows hidden tables have, which is no secret either; `PRAGMA optimize` runs it.
        A::Analyze { .. } => writes,
        A::Function { function_name } => function(function_name, seen),
        A::Pragma { pragma_name, pragma_value } => pragma(pragma_name, pragma_value, seen),
        A::Transaction { operation } => {
            // FTS5 and R-tree never do; whoever does is the guest.
            let _: TransactionOperation = operation;
            seen.refusal = Some(TRANSACTION.to_owned());
            false
        }
        A::Savepoint { .. } => {
            seen.refusal = Some(TRANSACTION.to_owned());
            false
        }
        _ => false,
    }
}

fn note(seen: &mut Seen, top: bool, table: &str, change: Change) -> bool {
    seen.triggers |= !top;
    if top && !table.starts_with("sqlite_") {
        seen.change(table, change);
    }
    visible(table)
}

fn function(name: &str, seen: &mut Seen) -> bool {
    seen.functions += 1;
    seen.searches |= name.eq_ignore_ascii_case("match");
    seen.gathers |= GATHERING.iter().any(|f| name.eq_ignore_ascii_case(f));
    let known = FUNCTIONS.iter().any(|f| name.eq_ignore_ascii_case(f));
    if !known {
        seen.refusal = Some(if name.eq_ignore_ascii_case("load_extension") {
            NOT_AUTHORIZED.to_owned()
        } else if UNKNOWN.iter().any(|f| name.eq_ignore_ascii_case(f)) {
            format!("no such function: {name}")
        } else {
            format!("{NOT_AUTHORIZED} to use function: {name}")
        });
    }
    known
}

fn pragma(name: &str, value: Option<&str>, seen: &mut Seen) -> bool {
    let Some((_, argument)) = PRAGMAS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else { return false };
    let number = |v: &str| v.parse::<i32>().is_ok();
    match (argument, value) {
        (Argument::None, value) => value.is_none(),
        (Argument::Switch, Some(value)) => {
            seen.sets = true;
            let bare = value.trim_matches(['\'', '"']);
            ["true", "false", "yes", "no", "on", "off", "1", "0"].iter().any(|v| bare.eq_ignore_ascii_case(v))
        }
        (Argument::Name, value) => value.is_some_and(visible),
        (Argument::NumberOrNone, Some(value)) => number(value),
        (Argument::NameOrNone | Argument::NameNumberOrNone, Some(value)) => visible(value),
        (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(action: AuthAction<'_>, writes: bool) -> bool {
        allows(&AuthContext { action, database_name: Some("main"), accessor: None }, writes, &mut Seen::default())
    }

    #[test]
    fn hidden_names_are_hidden_in_any_case() {
        assert!(!visible("_cf_KV") && !visible("_CF_alarm") && visible("_c") && visible("cf_") && visible("_cfé"));
    }

    #[test]
    fn a_reader_changes_nothing() {
        assert!(ask(AuthAction::Insert { table_name: "t" }, true) && !ask(AuthAction::Insert { table_name: "t" }, false));
        assert!(!ask(AuthAction::CreateTable { table_name: "t" }, false) && !ask(AuthAction::Analyze { table_name: "t" }, false));
        assert!(ask(AuthAction::Read { table_name: "t", column_name: "a" }, false));
    }

    #[test]
    fn other_databases_and_unknown_actions_are_refused() {
        let read = AuthAction::Read { table_name: "t", column_name: "a" };
        let mut seen = Seen::default();
        assert!(!allows(&AuthContext { action: read, database_name: Some("other"), accessor: None }, true, &mut seen));
        assert!(allows(&AuthContext { action: read, database_name: Some("temp"), accessor: None }, true, &mut seen));
        let alter = |database_name| AuthAction::AlterTable { database_name, table_name: "t" };
        let column = Some("a column that is dropped");
        assert!(allows(&AuthContext { action: alter("main"), database_name: column, accessor: None }, true, &mut seen));
        assert!(!allows(&AuthContext { action: alter("temp"), database_name: column, accessor: None }, true, &mut seen));
        assert!(!ask(AuthAction::Unknown { code: 99, arg1: None, arg2: None }, true));
        assert!(!ask(AuthAction::Attach { filename: "" }, true));
    }

    #[test]
    fn a_switch_takes_only_on_and_off() {
        let with = |value| ask(AuthAction::Pragma { pragma_name: "foreign_keys", pragma_value: value }, true);
        assert!(with(None) && with(Some("OFF")) && with(Some("'yes'")) && !with(Some("2")) && !with(Some("x")));
        assert!(!ask(AuthAction::Pragma { pragma_name: "page_size", pragma_value: Some("512") }, true));
    }
}
