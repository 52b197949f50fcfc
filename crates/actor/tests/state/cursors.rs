//! Cursors, several statements in one text, values, and counts.

use skep_actor::database::{DatabaseLimits, SqlError, Value};

use super::memory::{World, all, end, int, refused};

fn numbers(n: i64) -> String {
    format!("WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {n})")
}

#[test]
fn rows_come_in_pieces() {
    let mut s = World::with(DatabaseLimits { piece_rows: 10, ..DatabaseLimits::default() }).open();
    let first = s.sql(&format!("{} SELECT x FROM c", numbers(25)), &[]).unwrap();
    assert_eq!((first.rows.len(), &*first.columns), (10, &["x".to_owned()][..]));
    let second = s.sql_next(first.cursor).unwrap();
    assert_eq!((second.rows.len(), second.more), (10, true));
    let third = s.sql_next(first.cursor).unwrap();
    assert_eq!((third.rows.len(), third.more), (5, false));
    assert_eq!(third.rows[4], [Value::Integer(25)]);
    assert!(s.sql_next(first.cursor).is_err());
}

#[test]
fn large_rows_come_one_by_one() {
    let mut s = World::new().open();
    let first = s.sql(&format!("{} SELECT zeroblob(1000000) FROM c", numbers(3)), &[]).unwrap();
    assert_eq!(first.rows.len(), 1);
    assert!(first.cursor != 0);
    s.sql_drop(first.cursor);
    s.sql_drop(first.cursor);
}

#[test]
fn a_cursor_reads_on_across_turns_and_sees_what_is_written() {
    let mut s = World::with(DatabaseLimits { piece_rows: 2, ..DatabaseLimits::default() }).open();
    s.sql(&format!("CREATE TABLE t (a); INSERT INTO t {} SELECT x FROM c", numbers(100)), &[]).unwrap();
    end(&mut s);
    let rows = s.sql("SELECT a FROM t", &[]).unwrap();
    end(&mut s);
    s.sql("DELETE FROM t WHERE a > 5", &[]).unwrap();
    end(&mut s);
    let mut left = 0;
    loop {
        let piece = s.sql_next(rows.cursor).unwrap();
        left += piece.rows.len();
        if !piece.more {
            break;
        }
    }
    assert_eq!(left, 3);
    // A table cannot be dropped under a cursor, as with SQLite.
    let rows = s.sql("SELECT a FROM t", &[]).unwrap();
    assert!(refused(&mut s, "DROP TABLE t").contains("SQLITE_LOCKED"));
    s.sql_drop(rows.cursor);
    s.sql("DROP TABLE t", &[]).unwrap();
}

#[test]
fn the_same_statement_can_be_open_twice() {
    let mut s = World::with(DatabaseLimits { piece_rows: 1, ..DatabaseLimits::default() }).open();
    s.sql(&format!("CREATE TABLE t (a); INSERT INTO t {} SELECT x FROM c", numbers(3)), &[]).unwrap();
    let a = s.sql("SELECT a FROM t", &[]).unwrap();
    let b = s.sql("SELECT a FROM t", &[]).unwrap();
    assert_eq!(s.sql_next(a.cursor).unwrap().rows, [[Value::Integer(2)]]);
    assert_eq!(s.sql_next(b.cursor).unwrap().rows, [[Value::Integer(2)]]);
}

#[test]
fn cursors_are_bounded_in_number_and_memory() {
    let mut s = World::new().open();
    let endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c";
    let open: Vec<u32> = (0..64).map(|_| s.sql(endless, &[]).unwrap().cursor).collect();
    assert!(refused(&mut s, endless).contains("too many cursors"));
    // Those that end by themselves need none.
    for cursor in open {
        s.sql_drop(cursor);
    }
    assert_eq!(int(&mut s, "SELECT 1"), 1);
    // Each may hold some 90 MB of values that nobody has seen yet.
    let holding = format!(
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x, coalesce({}) FROM c",
        vec!["hex(x)"; 40].join(", ")
    );
    for _ in 0..5 {
        s.sql(&holding, &[]).unwrap();
    }
    assert!(refused(&mut s, &holding).contains("statements that make many values"));
}

#[test]
fn a_statement_that_writes_runs_to_its_end_and_its_rows_are_kept() {
    let mut s = World::with(DatabaseLimits { piece_rows: 3, kept_bytes: 10_000, ..DatabaseLimits::default() }).open();
    s.sql("CREATE TABLE t (a)", &[]).unwrap();
    let first = s.sql(&format!("INSERT INTO t {} SELECT x FROM c RETURNING a", numbers(7)), &[]).unwrap();
    assert_eq!((first.rows.len(), first.written), (3, 7));
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 7);
    end(&mut s);
    assert_eq!(s.sql_next(first.cursor).unwrap().rows.len(), 3);
    assert!(!s.sql_next(first.cursor).unwrap().more);
    // More than is kept: as if it had not run.
    let e = s.sql(&format!("INSERT INTO t {} SELECT x FROM c RETURNING hex(zeroblob(100))", numbers(1000)), &[]).unwrap_err();
    assert_eq!(e, SqlError::TooLarge(10_000));
    assert_eq!(int(&mut s, "SELECT count(*) FROM t"), 7);
    end(&mut s);
}

#[test]
fn several_statements_run_in_order_and_the_last_has_the_bindings() {
    let mut s = World::new().open();
    s.sql("CREATE TABLE t (a); INSERT INTO t VALUES (1); INSERT INTO t VALUES (?)", &[Value::Integer(2)]).unwrap();
    assert_eq!(int(&mut s, "SELECT 7; SELECT sum(a) FROM t;  "), 3);
    assert_eq!(refused(&mut s, ""), "SQL code did not contain a statement.");
    assert_eq!(refused(&mut s, " -- nothing\n;"), "SQL code did not contain a statement.");
    assert!(s.sql("INSERT INTO t VALUES (?); SELECT 1", &[Value::Null]).unwrap_err().to_string().starts_with("When executing multiple"));
    assert_eq!(s.sql("SELECT ?, ?", &[Value::Null]).unwrap_err().to_string(), "Wrong number of parameter bindings for SQL query.");
    // What came before the one that fails stays in the transaction.
    refused(&mut s, "INSERT INTO t VALUES (3); SELECT nothing FROM nowhere; INSERT INTO t VALUES (4)");
    assert_eq!(int(&mut s, "SELECT sum(a) FROM t"), 6);
    s.sql(
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN UPDATE t SET a = a + 1; DELETE FROM t WHERE a > 100; END; INSERT INTO t VALUES (10)",
        &[],
    )
    .unwrap();
    assert_eq!(int(&mut s, "SELECT sum(a) FROM t"), 20);
}

#[test]
fn errors_read_as_those_of_durable_objects() {
    let mut s = World::new().open();
    s.sql("CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1)", &[]).unwrap();
    for (sql, expected) in [
        ("INSERT INTO t VALUES (1)", "UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)"),
        ("SELECT * FROM nope", "no such table: nope: SQLITE_ERROR"),
        ("SELEC 1", "near \"SELEC\": syntax error at offset 0: SQLITE_ERROR"),
    ] {
        assert_eq!(refused(&mut s, sql), expected);
    }
}

#[test]
fn values_keep_their_types() {
    let mut s = World::new().open();
    let values = [
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Real(-0.5),
        Value::Text("a\0é😀".into()),
        Value::Blob(bytes::Bytes::from_static(&[0, 255])),
        Value::Blob(bytes::Bytes::new()),
    ];
    assert_eq!(all(&mut s, "SELECT ?, ?, ?, ?, ?, ?", &values), [values]);
    // Text that is not UTF-8 is mended rather than refused.
    assert_eq!(all(&mut s, "SELECT CAST(x'61ff' AS TEXT)", &[]), [[Value::Text("a\u{fffd}".into())]]);
}

#[test]
fn written_rows_count_indexes_as_durable_objects_do() {
    let mut s = World::new().open();
    s.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b); CREATE INDEX tb ON t (b)", &[]).unwrap();
    s.sql("CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID", &[]).unwrap();
    for (sql, read, written) in [
        ("INSERT INTO t (a, b) VALUES ('x', 1), ('y', 2), ('z', 3)", 0, 9),
        ("SELECT * FROM t", 3, 0),
        ("SELECT * FROM t WHERE id = 2", 1, 0),
        ("SELECT * FROM t WHERE a = 'y'", 1, 0),
        ("UPDATE t SET b = b + 1 WHERE id = 1", 0, 2),
        ("UPDATE t SET a = a || 'q' WHERE id = 1", 0, 2),
        ("DELETE FROM t WHERE id = 3", 0, 1),
        ("INSERT INTO t (a, b) VALUES ('r', 1) RETURNING *", 1, 3),
        ("INSERT INTO w VALUES ('a', 1), ('b', 2)", 0, 2),
        ("UPDATE w SET v = 3 WHERE k = 'a'", 0, 1),
    ] {
        let rows = s.sql(sql, &[]).unwrap();
        assert_eq!((rows.read, rows.written), (read, written), "{sql}");
    }
}
