//! SQL that is after memory. In a process of its own, one at a time: SQLite's memory, and the process's, are what is measured.

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "state/memory.rs"]
mod memory;

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use skep_actor::database::DatabaseLimits;

use memory::{World, int, refused};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How much memory this process has held at its most since [`forget_peak`], in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.and_then(|kib| kib.trim().split(' ').next()?.parse::<usize>().ok()).expect("a number of kB") / 1024
}

/// Where a kernel does not let the peak be forgotten, it is that of all tests: still a bound.
fn forget_peak() -> usize {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak()
}

#[test]
fn many_large_values_in_one_statement_stay_within_memory() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut s = World::new().open();
    let before = forget_peak();
    let many = vec!["hex(zeroblob(1000000))"; 120].join(", ");
    let nested = format!("SELECT length(coalesce({}))", vec![format!("nullif(length(coalesce({many})), 2000000)"); 20].join(", "));
    assert!(refused(&mut s, &nested).contains("too big"));
    let suffixes = (0..120).map(|i| format!("x || {i}")).collect::<Vec<_>>().join(", ");
    let concatenated =
        format!("WITH t (x) AS (SELECT hex(zeroblob(1000000))) SELECT {} FROM t", vec![format!("length(max({suffixes}))"); 20].join(", "));
    assert!(refused(&mut s, &concatenated).contains("too big"));
    assert!(peak() < before + 400, "{} MiB more", peak() - before);
}

#[test]
fn json_that_gathers_stays_within_memory() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut s = World::new().open();
    let before = forget_peak();
    let loops = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 3000)";
    for sql in [
        format!("{loops} SELECT length(json_group_array(hex(randomblob(1000000)))) FROM c"),
        format!("{loops} SELECT length(json_group_object(n, hex(zeroblob(1000000)))) FROM c"),
        format!("WITH t (x) AS (SELECT CAST(zeroblob(2000000) AS TEXT)) SELECT length(json_array({})) FROM t", vec!["x"; 127].join(", ")),
        format!("WITH t (x) AS (SELECT hex(zeroblob(1000000))) SELECT length(concat({})) FROM t", vec!["x"; 127].join(", ")),
    ] {
        let began = Instant::now();
        assert!(s.sql(&sql, &[]).is_err(), "{sql:.100}");
        assert!(began.elapsed() < Duration::from_secs(4), "{sql:.100}: {:?}", began.elapsed());
    }
    assert!(refused(&mut s, "SELECT json_pretty('[1,2]', hex(zeroblob(1000000)))").starts_with("not authorized"));
    assert!(peak() < before + 1_200, "{} MiB more", peak() - before);
}

#[test]
fn sorts_and_intermediate_tables_stay_within_memory() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut s = World::with(DatabaseLimits { temp_bytes: 16 << 20, ..DatabaseLimits::default() }).open();
    let before = forget_peak();
    for sql in [
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000) SELECT n FROM c ORDER BY hex(randomblob(100000))",
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000) SELECT DISTINCT hex(randomblob(100000)) FROM c",
        "WITH RECURSIVE c (n, x) AS (SELECT 1, '' UNION ALL SELECT n + 1, hex(randomblob(100000)) FROM c LIMIT 1000 ), d AS MATERIALIZED (SELECT * FROM c) \
         SELECT count(*) FROM d AS a, d AS b WHERE a.x = b.x",
    ] {
        let mut result = s.sql(sql, &[]);
        while let Ok(rows) = &result
            && rows.cursor != 0
        {
            match s.sql_next(rows.cursor) {
                Ok(piece) if piece.more => {}
                Ok(_) => break,
                Err(e) => result = Err(e),
            }
        }
        let e = result.unwrap_err().to_string();
        assert!(e.contains("SQLITE_FULL"), "{sql}: {e}");
    }
    assert!(peak() < before + 150, "{} MiB more", peak() - before);
    // What they took is given back.
    assert_eq!(
        int(
            &mut s,
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 50) SELECT count(DISTINCT hex(randomblob(50000))) FROM c"
        ),
        50
    );
}
