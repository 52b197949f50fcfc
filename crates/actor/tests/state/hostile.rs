//! SQL that attacks: each is refused or ends in time and memory, with a clean error, and the database goes on as before.

use std::time::{Duration, Instant};

use skep_actor::{
    Seq, Storage,
    database::{Access, Database, DatabaseLimits, SqlError, Value},
    storage::Range,
};

use super::memory::{Pages, World, all, end, int, refused, wait};

#[test]
fn attach_detach_and_vacuum_reach_no_file() {
    let mut s = World::new().open();
    for sql in
        ["ATTACH 'x' AS y", "ATTACH '/etc/passwd' AS y", "ATTACH ':memory:' AS y", "DETACH main", "VACUUM", "VACUUM INTO '/tmp/stolen'"]
    {
        let e = refused(&mut s, sql);
        assert!(e.contains("not authorized") || e.contains("cannot VACUUM") || e.contains("authorization denied"), "{sql}: {e}");
    }
}

#[test]
fn pragmas_are_allowed_by_name_and_argument() {
    let mut s = World::new().open();
    s.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE)", &[]).unwrap();
    for sql in [
        "PRAGMA table_info(t)",
        "PRAGMA table_list",
        "PRAGMA index_list(t)",
        "PRAGMA foreign_key_list(t)",
        "PRAGMA quick_check",
        "PRAGMA data_version",
        "PRAGMA page_size",
        "PRAGMA optimize",
        "PRAGMA defer_foreign_keys = on",
        "SELECT * FROM pragma_table_info('t')",
    ] {
        s.sql(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    for sql in [
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode",
        "PRAGMA journal_mode = WAL",
        "PRAGMA locking_mode = NORMAL",
        "PRAGMA page_size = 512",
        "PRAGMA max_page_count = 4294967294",
        "PRAGMA mmap_size = 1000000",
        "PRAGMA temp_store_directory = '/tmp'",
        "PRAGMA data_store_directory = '/tmp'",
        "PRAGMA trusted_schema = 1",
        "PRAGMA hard_heap_limit = 1",
        "PRAGMA soft_heap_limit = 1",
        "PRAGMA threads = 8",
        "PRAGMA user_version",
        "PRAGMA database_list",
        "PRAGMA function_list",
        "PRAGMA integrity_check",
        "PRAGMA main.journal_mode",
        "PRAGMA table_info(_cf_KV)",
        "SELECT * FROM pragma_page_count",
        "SELECT * FROM pragma_database_list",
    ] {
        assert_eq!(refused(&mut s, sql), "not authorized: SQLITE_AUTH", "{sql}");
    }
}

#[test]
fn load_extension_and_unknown_functions_are_refused() {
    let mut s = World::new().open();
    assert!(refused(&mut s, "SELECT load_extension('x')").starts_with("not authorized"));
    assert_eq!(refused(&mut s, "SELECT sqlite_version()"), "not authorized to use function: sqlite_version at offset 7: SQLITE_ERROR");
    for sql in ["SELECT sqlite_compileoption_get(1)", "SELECT fts3_tokenizer('simple')", "SELECT sqlite_source_id()", "SELECT fts5(NULL)"] {
        refused(&mut s, sql);
    }
}

#[test]
fn transactions_in_sql_are_refused_in_the_words_of_durable_objects() {
    let mut s = World::new().open();
    for sql in ["BEGIN", "BEGIN IMMEDIATE", "COMMIT", "END", "ROLLBACK", "SAVEPOINT a", "RELEASE _cf_turn", "ROLLBACK TO _cf_turn"] {
        assert!(refused(&mut s, sql).starts_with("To execute a transaction, please use the state.storage.transaction() or"), "{sql}");
    }
}

#[test]
fn hidden_tables_cannot_be_reached() {
    let mut s = World::new().open();
    s.kv_put(vec![("k".into(), "v".into())]).unwrap();
    s.set_alarm("", 5).unwrap();
    s.sql("CREATE TABLE t (a); CREATE TABLE fk (a REFERENCES _cf_KV (key))", &[]).unwrap();
    for sql in [
        "SELECT * FROM _cf_KV",
        "SELECT count(*) FROM _cf_kv",
        "SELECT * FROM main._cf_ALARM",
        "INSERT INTO _cf_KV VALUES ('a', 1)",
        "UPDATE _cf_ALARM SET due = 0",
        "DELETE FROM _cf_KV",
        "DROP TABLE _cf_KV",
        "ALTER TABLE _cf_KV RENAME TO mine",
        "ALTER TABLE t RENAME TO _cf_mine",
        "ALTER TABLE t RENAME TO _CF_STEP",
        "CREATE TABLE _cf_STEP (a)",
        "CREATE VIEW _cf_v AS SELECT 1",
        "CREATE INDEX i ON _cf_KV (value)",
        "CREATE INDEX _cf_i ON t (a)",
        "CREATE TRIGGER tr AFTER INSERT ON _cf_KV BEGIN SELECT 1; END",
        "INSERT INTO fk VALUES ('k')",
        "CREATE TABLE copy AS SELECT * FROM _cf_KV",
        "WITH x AS (SELECT key FROM _cf_KV) SELECT * FROM x",
        "SELECT (SELECT value FROM _cf_KV)",
        "UPDATE t SET a = (SELECT value FROM _cf_KV)",
    ] {
        let e = refused(&mut s, sql);
        assert!(e.contains("not authorized") || e.contains("prohibited"), "{sql}: {e}");
    }
    // Through a view or a trigger, too: both compile, and are refused when used.
    let _ = s.sql("CREATE VIEW v AS SELECT * FROM _cf_KV", &[]);
    assert!(s.sql("SELECT * FROM v", &[]).is_err());
    let _ = s.sql("CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM _cf_KV; END", &[]);
    let _ = s.sql("INSERT INTO t VALUES (1)", &[]);
    assert_eq!(s.kv_get(&["k"], 100).unwrap(), [Some("v".into())]);
    assert_eq!(s.alarm("").unwrap(), Some(5));
    // The journal of steps is made where a table of that name was refused.
    s.step_begin("a").unwrap();
}

#[test]
fn the_schema_table_cannot_be_written() {
    let mut s = World::new().open();
    s.sql("CREATE TABLE t (a)", &[]).unwrap();
    for sql in [
        "UPDATE sqlite_master SET sql = ''",
        "DELETE FROM sqlite_schema",
        "INSERT INTO sqlite_master VALUES (1, 2, 3, 4, 5)",
        "DROP TABLE sqlite_master",
    ] {
        refused(&mut s, sql);
    }
    s.sql("CREATE VIRTUAL TABLE f USING fts5(a)", &[]).unwrap();
    refused(&mut s, "INSERT INTO f_data VALUES (1, x'00')");
}

#[test]
fn virtual_tables_are_allowed_by_name() {
    let mut s = World::new().open();
    s.sql("CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES ('hello world')", &[]).unwrap();
    assert_eq!(all(&mut s, "SELECT highlight(f, 0, '<', '>') FROM f('hello')", &[]), [[Value::Text("<hello> world".into())]]);
    assert_eq!(int(&mut s, "SELECT count(*) FROM f WHERE f MATCH 'world' ORDER BY rank"), 1);
    s.sql("CREATE VIRTUAL TABLE r USING rtree(id, a, b); INSERT INTO r VALUES (1, 2, 3)", &[]).unwrap();
    assert_eq!(int(&mut s, "SELECT id FROM r WHERE a > 1"), 1);
    assert_eq!(int(&mut s, "SELECT count(*) FROM json_each('[1,2]')"), 2);
    for sql in [
        "CREATE VIRTUAL TABLE v USING fts3(a)",
        "CREATE VIRTUAL TABLE v USING fts4(a)",
        "CREATE VIRTUAL TABLE v USING fts3tokenize(simple)",
        "CREATE VIRTUAL TABLE v USING dbstat",
        "CREATE VIRTUAL TABLE temp.v USING fts5(a)",
        "SELECT * FROM dbstat",
        "SELECT count(*) FROM dbstat",
        "SELECT * FROM sqlite_dbpage",
        "SELECT * FROM sqlite_stmt",
        "SELECT * FROM bytecode('SELECT 1')",
        "SELECT * FROM fts3tokenize",
        "SELECT * FROM generate_series(1, 3)",
        "CREATE TEMP TABLE q (a)",
        "CREATE TEMP TRIGGER q AFTER INSERT ON f BEGIN SELECT 1; END",
    ] {
        refused(&mut s, sql);
    }
    end(&mut s);
}

#[test]
fn recursive_bombs_end_in_time() {
    let mut s = World::with(DatabaseLimits { statement_time: Duration::from_millis(200), ..DatabaseLimits::default() }).open();
    for sql in [
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 0",
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION SELECT x + 1 FROM c) SELECT sum(x) FROM c",
    ] {
        let began = Instant::now();
        assert!(matches!(s.sql(sql, &[]), Err(SqlError::TooLong(_))), "{sql}");
        assert!(began.elapsed() < Duration::from_secs(2), "{sql}: {:?}", began.elapsed());
    }
    assert_eq!(int(&mut s, "SELECT 1"), 1);
}

#[test]
fn a_turn_has_so_much_time_and_the_next_one_again() {
    let limits =
        DatabaseLimits { statement_time: Duration::from_millis(60), turn_time: Duration::from_millis(150), ..DatabaseLimits::default() };
    let mut s = World::with(limits).open();
    let endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
    for _ in 0..3 {
        s.sql(endless, &[]).unwrap_err();
    }
    assert!(s.sql("SELECT 1", &[]).unwrap_err().to_string().contains("SQL of one turn"));
    end(&mut s);
    s.sql("SELECT 1", &[]).unwrap();
}

#[test]
fn a_write_that_takes_too_long_undoes_the_turn_and_says_so() {
    let world = World::with(DatabaseLimits { statement_time: Duration::from_millis(100), ..DatabaseLimits::default() });
    let mut s = world.open();
    s.sql("CREATE TABLE t (a)", &[]).unwrap();
    end(&mut s);
    s.sql("INSERT INTO t VALUES (1)", &[]).unwrap();
    let e = s.sql("INSERT INTO t WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c", &[]).unwrap_err();
    assert!(matches!(e, SqlError::TooLong(_)), "{e}");
    // The earlier insert is gone with it, so nothing may go on as if it were there.
    assert!(matches!(s.sql("SELECT count(*) FROM t", &[]), Err(SqlError::Broken(_))));
    assert!(s.kv_put(vec![("k".into(), "v".into())]).is_err());
    assert!(s.end_turn().is_err());
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 0);
    assert_eq!(int(&mut world.open(), "SELECT count(*) FROM t"), 0);
}

#[test]
fn values_have_a_size() {
    let mut s = World::new().open();
    for sql in [
        "SELECT length(randomblob(3000000))",
        "SELECT length(hex(zeroblob(2000000)))",
        "SELECT length(printf('%.*c', 3000000, 'x'))",
        "SELECT length(printf('%3000000d', 1))",
        "SELECT length(replace(hex(zeroblob(500000)), '0', 'abcdef'))",
        "WITH RECURSIVE c (x) AS (SELECT 'a' UNION ALL SELECT x || x FROM c LIMIT 40) SELECT max(length(x)) FROM c",
        "WITH RECURSIVE c (n, x) AS (SELECT 1, hex(zeroblob(50000)) UNION ALL SELECT n + 1, x FROM c LIMIT 100) SELECT length(group_concat(x)) FROM c",
    ] {
        let e = refused(&mut s, sql);
        assert!(e.contains("too big"), "{sql}: {e}");
    }
    let one = s.sql("SELECT zeroblob(2000000)", &[]).unwrap();
    assert!(matches!(&one.rows[0][0], Value::Blob(b) if b.len() == 2_000_000));
}

#[test]
fn plans_that_take_long_end_in_time() {
    let mut s = World::with(DatabaseLimits { statement_time: Duration::from_millis(300), ..DatabaseLimits::default() }).open();
    s.sql(&format!("CREATE TABLE t ({})", (0..60).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ")), &[]).unwrap();
    for i in 0..60 {
        s.sql(&format!("CREATE INDEX i{i} ON t (c{i}, c{})", (i + 1) % 60), &[]).unwrap();
    }
    let tables = (0..60).map(|i| format!("t AS t{i}")).collect::<Vec<_>>().join(", ");
    let joins =
        (1..60).map(|i| format!("t{i}.c{i} = t{}.c{i} AND (t{i}.c1 = t0.c2 OR t{i}.c3 = t0.c4)", i - 1)).collect::<Vec<_>>().join(" AND ");
    let select = format!("(SELECT count(*) FROM {tables} WHERE {joins})");
    let sql = format!("SELECT {}", vec![select; 20].join(", "));
    let began = Instant::now();
    let _ = s.sql(&sql, &[]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn quadratic_functions_are_quick() {
    let mut s = World::new().open();
    let began = Instant::now();
    for sql in [
        "WITH t (h, n) AS (SELECT hex(zeroblob(1000000)), hex(zeroblob(400000)) || '1') SELECT instr(h, n) FROM t",
        "WITH t (h, n) AS (SELECT hex(zeroblob(1000000)), hex(zeroblob(400000)) || '1') SELECT length(replace(h, n, 'x')) FROM t",
        "WITH t (h, n) AS (SELECT hex(zeroblob(1000000)), replace(hex(zeroblob(400000)), '0', '1') || '0') SELECT length(trim(h, n)) FROM t",
        "WITH t (h) AS (SELECT '{' || substr(replace(hex(zeroblob(60000)), '00', '\"a\":1,'), 1, 360000) || '\"b\":1}') SELECT length(json_patch(h, h)) FROM t",
    ] {
        let _ = s.sql(sql, &[]);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn functions_of_ours_are_sqlites() {
    let plain = rusqlite::Connection::open_in_memory().unwrap();
    let mut s = World::new().open();
    let values = [
        "NULL",
        "''",
        "'abcabc'",
        "'bc'",
        "'é→é'",
        "'→'",
        "x'626300'",
        "x'63'",
        "12512",
        "25",
        "1.5",
        "-0.0",
        "'  x '",
        "'x'",
        "1e15",
        "123456789012.25",
    ];
    for f in ["instr", "trim", "ltrim", "rtrim"] {
        for a in values {
            for b in values {
                let sql = format!("SELECT quote({f}({a}, {b}))");
                let expected: String = plain.query_row(&sql, [], |r| r.get(0)).unwrap();
                assert_eq!(all(&mut s, &sql, &[]), [[Value::Text(expected)]], "{sql}");
            }
            let sql = if f == "instr" { continue } else { format!("SELECT quote({f}({a}))") };
            let expected: String = plain.query_row(&sql, [], |r| r.get(0)).unwrap();
            assert_eq!(all(&mut s, &sql, &[]), [[Value::Text(expected)]], "{sql}");
        }
    }
    for a in values {
        for b in values {
            for c in ["NULL", "'-'", "7"] {
                let sql = format!("SELECT quote(replace({a}, {b}, {c}))");
                let expected: String = plain.query_row(&sql, [], |r| r.get(0)).unwrap();
                assert_eq!(all(&mut s, &sql, &[]), [[Value::Text(expected)]], "{sql}");
            }
        }
    }
    for (sql, expected) in [
        ("SELECT json_object('a', json_patch('{\"x\":1}', '{\"y\":2}'))", "{\"a\":{\"x\":1,\"y\":2}}"),
        ("SELECT typeof(floor(3)) || floor(-1.5) || ceil('2.1')", "integer-2.03.0"),
        ("SELECT quote(ln(-1)) || quote(acos(2)) || round(pow(2, 10)) || log(2, 8) || mod(7, 4)", "NULLNULL1024.03.03.0"),
    ] {
        assert_eq!(all(&mut s, sql, &[]), [[Value::Text(expected.into())]], "{sql}");
    }
}

#[test]
fn statements_have_a_size_and_a_depth() {
    let mut s = World::new().open();
    let long = format!("SELECT '{}'", "a".repeat(100_001));
    assert_eq!(refused(&mut s, &long), "statement too long: SQLITE_TOOBIG");
    let columns = |n: usize| (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    assert!(refused(&mut s, &format!("CREATE TABLE wide ({})", columns(101))).contains("too many columns"));
    s.sql(&format!("CREATE TABLE wide ({})", columns(100)), &[]).unwrap();
    assert!(refused(&mut s, &format!("SELECT {}", vec!["1"; 101].join(", "))).contains("too many columns"));
    let bindings = vec![Value::Integer(1); 101];
    assert!(
        s.sql(&format!("SELECT coalesce({})", vec!["?"; 101].join(", ")), &bindings)
            .unwrap_err()
            .to_string()
            .contains("too many SQL variables")
    );
    s.sql(&format!("SELECT coalesce({})", vec!["?"; 100].join(", ")), &bindings[..100]).unwrap();
    assert!(refused(&mut s, &format!("SELECT {}1", "1 + ".repeat(120))).contains("maximum depth 100"));
    let e = refused(&mut s, &format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)));
    assert!(e.contains("Recursion limit"), "{e}");
    assert!(
        refused(&mut s, "SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6").contains("compound SELECT")
    );
    assert!(refused(&mut s, &format!("SELECT 'b' LIKE '{}'", "%a".repeat(30))).contains("pattern too complex"));
    assert!(refused(&mut s, &format!("SELECT 1 WHERE 1 IN ({})", vec!["(SELECT 1)"; 300].join(", "))).contains("too many selects"));
}

/// Whatever nests in the schema or in a statement is compiled by recursion, on the stack of the thread that serves the actor.
fn on_a_small_stack(attack: impl FnOnce(&mut skep_actor::Storage) + Send + 'static) {
    let run = move || {
        let mut s = World::with(DatabaseLimits { statement_time: Duration::from_secs(1), ..DatabaseLimits::default() }).open();
        attack(&mut s);
        assert_eq!(int(&mut s, "SELECT 1"), 1);
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).expect("a thread").join().expect("no panic");
}

#[test]
fn deep_views_end_in_an_error() {
    on_a_small_stack(|s| {
        s.sql("CREATE VIEW v0 AS SELECT 1 AS a", &[]).expect("made");
        for i in 1..1500 {
            if s.sql(&format!("CREATE VIEW v{i} AS SELECT a FROM v{}", i - 1), &[]).is_err()
                || s.sql(&format!("SELECT * FROM v{i}"), &[]).is_err()
            {
                break;
            }
        }
        let _ = s.sql("SELECT * FROM v1499", &[]);
    });
}

#[test]
fn long_chains_of_common_tables_end_in_an_error() {
    on_a_small_stack(|s| {
        for n in [50, 200, 800, 2_500] {
            let chain = (1..n).map(|i| format!("a{i} AS (SELECT x FROM a{})", i - 1)).collect::<Vec<_>>().join(", ");
            let _ = s.sql(&format!("WITH a0 (x) AS (SELECT 1), {chain} SELECT * FROM a{}", n - 1), &[]);
            let nested = format!("{}SELECT 1{}", "SELECT * FROM (".repeat(n), ")".repeat(n));
            let _ = s.sql(&nested, &[]);
            let deep = format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n));
            let _ = s.sql(&deep, &[]);
        }
    });
}

#[test]
fn long_cascades_end_in_an_error() {
    on_a_small_stack(|s| {
        s.sql("CREATE TABLE t0 (a INTEGER PRIMARY KEY, b REFERENCES t0 (a) ON DELETE CASCADE)", &[]).expect("made");
        for i in 1..1000 {
            let made = s.sql(&format!("CREATE TABLE t{i} (a INTEGER PRIMARY KEY, b REFERENCES t{} (a) ON DELETE CASCADE)", i - 1), &[]);
            if made.is_err() {
                break;
            }
        }
        let _ = s.sql("INSERT INTO t0 VALUES (1, NULL); DELETE FROM t0", &[]);
        for i in 0..200 {
            let _ = s.sql(&format!("CREATE TRIGGER r{i} AFTER DELETE ON t{i} BEGIN DELETE FROM t{}; END", i + 1), &[]);
        }
        let _ = s.sql("DELETE FROM t0 WHERE a = 1", &[]);
        let _ = s.sql("DROP TABLE t0", &[]);
    });
}

#[test]
fn deep_json_and_deep_searches_end_in_an_error() {
    on_a_small_stack(|s| {
        for n in [900, 100_000] {
            let _ = s.sql(
                &format!("SELECT json(?), json_extract(?1, '${}')", "[0]".repeat(n.min(20_000))),
                &[Value::Text("[".repeat(n) + &"]".repeat(n))],
            );
        }
        s.sql("CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES ('x')", &[]).expect("made");
        for n in [200, 20_000] {
            let _ = s.sql("SELECT * FROM f WHERE f MATCH ?", &[Value::Text("(".repeat(n) + "x" + &")".repeat(n))]);
            let _ = s.sql("SELECT * FROM f WHERE f MATCH ?", &[Value::Text(vec!["x"; n].join(" OR "))]);
            let _ = s.sql("SELECT * FROM f WHERE f MATCH ?", &[Value::Text("x NOT (".repeat(n) + "x" + &")".repeat(n))]);
        }
    });
}

#[test]
fn long_searches_are_refused_and_large_documents_are_not() {
    let mut s = World::new().open();
    s.sql("CREATE VIRTUAL TABLE f USING fts5(a); CREATE TABLE q (q); INSERT INTO f VALUES ('x')", &[]).unwrap();
    let long = Value::Text(vec!["x"; 400_000].join(" OR "));
    s.sql("INSERT INTO q VALUES (?)", std::slice::from_ref(&long)).unwrap();
    let began = Instant::now();
    for sql in [
        "SELECT rowid FROM f WHERE f MATCH ?",
        "SELECT rowid FROM f WHERE f = ?",
        "SELECT rowid FROM f WHERE a MATCH ?",
        "SELECT rowid FROM f(?)",
        "SELECT rowid FROM \"f\" /* */ (?)",
        "DELETE FROM f WHERE f MATCH ?",
        "DELETE FROM f WHERE rowid IN (SELECT rowid FROM f(?))",
        "UPDATE f SET a = 1 WHERE f = ?",
        "INSERT INTO q SELECT rowid FROM f(?)",
    ] {
        assert!(s.sql(sql, std::slice::from_ref(&long)).unwrap_err().to_string().contains("too big"), "{sql}");
    }
    for sql in ["SELECT f.rowid FROM q, f WHERE f MATCH q.q", "SELECT f.rowid FROM q, f(q.q)", "SELECT rowid FROM f((SELECT q FROM q))"] {
        assert!(refused(&mut s, sql).contains("too big"), "{sql}");
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let document = Value::Text(vec!["word"; 300_000].join(" "));
    s.sql("INSERT INTO f (rowid, a) VALUES (7, ?)", &[document]).unwrap();
    assert_eq!(int(&mut s, "SELECT rowid FROM f WHERE f MATCH 'word'"), 7);
    s.sql("DELETE FROM f WHERE rowid = 7", &[]).unwrap();
}

#[test]
fn triggers_end() {
    let mut s = World::new().open();
    s.sql("PRAGMA recursive_triggers = on", &[]).unwrap();
    s.sql("CREATE TABLE t (a); CREATE TRIGGER more AFTER INSERT ON t BEGIN INSERT INTO t VALUES (new.a + 1), (new.a + 2); END", &[])
        .unwrap();
    let e = refused(&mut s, "INSERT INTO t VALUES (1)");
    assert!(e.contains("nested too deep"), "{e}");
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 0);
}

#[test]
fn the_database_has_a_size() {
    let world = World::with(DatabaseLimits { database_bytes: 1 << 20, ..DatabaseLimits::default() });
    let mut s = world.open();
    s.sql("CREATE TABLE t (a)", &[]).unwrap();
    end(&mut s);
    let mut outcome = Ok(());
    for _ in 0..20 {
        outcome = s.sql("INSERT INTO t VALUES (zeroblob(100000))", &[]).map(|_| ());
        if outcome.is_err() {
            break;
        }
    }
    assert_eq!(outcome.unwrap_err().to_string(), "database or disk is full: SQLITE_FULL");
    // Only the statement that found no room is undone, and the turn goes on.
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 10);
    s.sql("DELETE FROM t WHERE rowid = 3; INSERT INTO t VALUES (zeroblob(90000))", &[]).unwrap();
    end(&mut s).unwrap();
    assert_eq!(int(&mut world.open(), "SELECT count(*) FROM t"), 10);
    s.sql("DELETE FROM t WHERE rowid = 4", &[]).unwrap();
    s.sql("DELETE FROM t WHERE rowid = 5", &[]).unwrap();
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 8);
    s.cut_off();
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 10, "a turn that is cut off is undone as a whole, and SQLite has none of it left");
    assert!(end(&mut s).is_none());
    assert_eq!(int(&mut world.open(), "SELECT count(*) FROM t"), 10);
}

#[test]
fn keys_that_find_a_full_database_are_put_all_or_none() {
    let world = World::with(DatabaseLimits { database_bytes: 1 << 20, ..DatabaseLimits::default() });
    let mut s = world.open();
    s.kv_put(vec![("before".into(), vec![7; 300_000].into())]).unwrap();
    let many = (0..10).map(|i| (i.to_string(), vec![7; 100_000].into())).collect();
    assert_eq!(s.kv_put(many).unwrap_err().to_string(), "database or disk is full: SQLITE_FULL");
    s.kv_put(vec![("after".into(), vec![7; 100_000].into()), ("more".into(), vec![7; 100_000].into())]).unwrap();
    end(&mut s).unwrap();
    let keys: Vec<String> = world.open().kv_list(&Range::default(), 1 << 20).unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["after", "before", "more"]);
}

#[test]
fn a_full_database_within_a_transaction_is_an_error_that_can_be_caught() {
    let world = World::with(DatabaseLimits { database_bytes: 1 << 20, ..DatabaseLimits::default() });
    let fill = |s: &mut Storage| (0..20).find_map(|_| s.sql("INSERT INTO t VALUES (zeroblob(100000))", &[]).err()).unwrap().to_string();
    let mut s = world.open();
    s.sql("CREATE TABLE t (a); INSERT INTO t VALUES ('before')", &[]).unwrap();
    s.begin().unwrap();
    s.sql("INSERT INTO t VALUES ('outer')", &[]).unwrap();
    s.begin().unwrap();
    assert_eq!(fill(&mut s), "database or disk is full: SQLITE_FULL");
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 2 + 10, "only that statement is undone");
    let keys = (0..10).map(|i| (i.to_string(), vec![7; 100_000].into())).collect();
    assert_eq!(s.kv_put(keys).unwrap_err().to_string(), "database or disk is full: SQLITE_FULL");
    let big = "INSERT INTO t SELECT randomblob(100000) FROM t, t LIMIT 100";
    assert_eq!(refused(&mut s, big), "database or disk is full: SQLITE_FULL");
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 2 + 10);
    s.rollback().unwrap();
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 2, "what was thrown undoes the inner transaction");
    s.sql("INSERT INTO t VALUES ('after')", &[]).unwrap();
    s.commit().unwrap();
    end(&mut s).unwrap();
    let mut s = world.open();
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 3);
    assert!(s.kv_get(&["0"], 1).unwrap()[0].is_none());
    // The limit is what it was.
    assert_eq!(fill(&mut s), "database or disk is full: SQLITE_FULL");
    end(&mut s);
    assert!(world.open().database_bytes().unwrap() <= 1 << 20);
}

#[test]
fn a_statement_far_beyond_a_full_database_takes_the_turn_along() {
    let world = World::with(DatabaseLimits { database_bytes: 1 << 20, ..DatabaseLimits::default() });
    let mut s = world.open();
    s.sql("CREATE TABLE t (a)", &[]).unwrap();
    end(&mut s);
    s.begin().unwrap();
    s.sql("INSERT INTO t VALUES (1)", &[]).unwrap();
    let far = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100) INSERT INTO t SELECT zeroblob(1000000) FROM n";
    assert!(refused(&mut s, far).contains("SQLITE_FULL"));
    // SQLite may have undone more than the savepoint knows of: then the turn does not go on as if its earlier writes were there.
    match s.sql("SELECT 1", &[]) {
        Ok(_) => assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 1),
        Err(SqlError::Broken(_)) => assert!(s.end_turn().is_err()),
        Err(e) => panic!("{e}"),
    }
    s.cut_off();
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 0);
    s.sql("INSERT INTO t VALUES (zeroblob(100000))", &[]).unwrap();
    end(&mut s).unwrap();
    assert_eq!(int(&mut world.open(), "SELECT count(*) FROM t"), 1);
}

#[test]
fn damaged_files_give_clean_errors() {
    let world = World::new();
    let mut s = world.open();
    s.sql("CREATE TABLE t (a, b); CREATE INDEX i ON t (b); CREATE VIEW v AS SELECT a FROM t", &[]).unwrap();
    for i in 0..300 {
        s.sql("INSERT INTO t VALUES (?, ?)", &[Value::Integer(i), Value::Text(format!("{i:060}"))]).unwrap();
    }
    wait(s.end_turn().unwrap().unwrap()).unwrap();
    let last = s.last();
    let good = Pages::replay(&world.log.records.lock(), last).bytes();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    for round in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..1 + round % 12 {
            let at = if round % 3 == 0 { next() % 200 } else { next() % bytes.len() };
            bytes[at] = next() as u8;
        }
        let log = World::with(DatabaseLimits { statement_time: Duration::from_millis(500), ..world.limits.clone() });
        let Ok((mut s, _)) = log.open_on(Pages::of(&bytes), Seq(0)) else { continue };
        for sql in [
            "SELECT count(*), sum(a) FROM t",
            "SELECT * FROM v ORDER BY a",
            "SELECT a FROM t WHERE b > '5'",
            "INSERT INTO t VALUES (1, 'x')",
            "PRAGMA quick_check",
            "DELETE FROM t WHERE a % 2",
            "CREATE TABLE u (a)",
            "DROP TABLE t",
        ] {
            let _ = s.sql(sql, &[]);
        }
        let _ = s.kv_put(vec![("k".into(), "v".into())]);
        let _ = s.end_turn();
    }
    for junk in [&b"not a database"[..], &[0; 100], &good[..5000], &[0xff; 8192]] {
        if let Ok((mut s, _)) = World::new().open_on(Pages::of(junk), Seq(0)) {
            let _ = s.sql("SELECT * FROM sqlite_master", &[]);
        }
    }
}

#[test]
fn a_page_that_cannot_be_read_is_named_in_the_error() {
    let world = World::new();
    let mut s = world.open();
    s.sql("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(20000))", &[]).unwrap();
    end(&mut s);
    let mut pages = Pages::replay(&world.log.records.lock(), s.last());
    pages.damaged = Some(4);
    let (mut s, _) = world.open_on(pages, s.last()).unwrap();
    let e = s.sql("SELECT a FROM t", &[]).unwrap_err().to_string();
    assert!(e.contains("SQLITE_IOERR") && e.contains("some.base: damaged at byte"), "{e}");
}

#[test]
fn a_view_of_the_past_changes_nothing() {
    let world = World::new();
    let mut s = world.open();
    s.sql("CREATE TABLE t (a); INSERT INTO t VALUES (1)", &[]).unwrap();
    end(&mut s);
    let pages = Pages::replay(&world.log.records.lock(), s.last());
    let mut past = Database::open(&world.vfs, pages, Access::ReadOnly, &world.limits).unwrap();
    assert_eq!(past.sql("SELECT a FROM t", &[]).unwrap().rows, [[Value::Integer(1)]]);
    for sql in ["INSERT INTO t VALUES (2)", "DELETE FROM t", "DROP TABLE t", "CREATE TABLE u (a)", "PRAGMA optimize", "ANALYZE", "REINDEX"]
    {
        if let Ok(rows) = past.sql(sql, &[]) {
            assert_eq!(rows.written, 0, "{sql}");
        }
    }
    assert_eq!(past.sql("SELECT a FROM t", &[]).unwrap().rows, [[Value::Integer(1)]]);
    let mut empty = Database::open(&world.vfs, Pages::default(), Access::ReadOnly, &world.limits).unwrap();
    assert!(empty.sql("SELECT * FROM sqlite_master", &[]).unwrap().rows.is_empty());
}

#[test]
fn two_file_systems_do_not_see_each_other() {
    let (a, b) = (World::new(), World::new());
    let (mut s, mut t) = (a.open(), b.open());
    s.sql("CREATE TABLE t (a)", &[]).unwrap();
    assert!(t.sql("SELECT * FROM t", &[]).is_err());
    drop(a);
    s.sql("INSERT INTO t VALUES (1)", &[]).unwrap();
    drop((s, b));
    t.sql("CREATE TABLE t (a)", &[]).unwrap();
}

#[test]
fn nothing_behind_a_null_character_runs() {
    let mut s = World::new().open();
    for sql in ["CREATE TABLE t (a)\0", "CREATE TABLE t (a); \0; CREATE TABLE u (a)", "\0", "SELECT '\0'"] {
        assert_eq!(refused(&mut s, sql), "SQL code did not contain a statement.", "{sql:?}");
    }
    assert_eq!(int(&mut s, "SELECT count(*) FROM sqlite_master"), 0);
}

#[test]
fn rows_read_are_those_of_tables() {
    let mut s = World::new().open();
    s.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t (a) VALUES (1), (2), (3), (4)", &[]).unwrap();
    for (sql, read) in [("SELECT 1", 0), ("SELECT * FROM t", 4), ("SELECT * FROM t WHERE a = 2", 4), ("SELECT * FROM t WHERE id = 2", 1)] {
        assert_eq!(s.sql(sql, &[]).unwrap().read, read, "{sql}");
    }
}

#[test]
fn functions_are_refused_in_the_words_of_durable_objects() {
    let mut s = World::new().open();
    for (sql, why) in [
        ("SELECT load_extension('x')", "not authorized: SQLITE_ERROR"),
        ("SELECT fts3_tokenizer('simple')", "no such function: fts3_tokenizer at offset 7: SQLITE_ERROR"),
        ("SELECT sqlite_version()", "not authorized to use function: sqlite_version at offset 7: SQLITE_ERROR"),
    ] {
        assert_eq!(refused(&mut s, sql), why);
    }
}
