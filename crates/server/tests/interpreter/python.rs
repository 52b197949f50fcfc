//! Python contexts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::bench::{Bench, Cell, PACKAGES, passed_over, python_packages};

async fn with_kernel(packages: &'static str, wanted: &'static [&'static str]) -> Option<Bench> {
    let folder = python_packages(packages, wanted).await?;
    Bench::with(Some(&folder), BTreeMap::from([("PYTHONPATH".to_owned(), PACKAGES.to_owned())])).await
}

async fn cell(bench: &Bench, code: &str) -> Cell {
    bench.run(json!({ "code": code })).await
}

/// What is missing is named, with what to do about it.
#[tokio::test]
async fn a_missing_kernel_says_what_to_install() {
    let Some(bench) = Bench::set_up().await else { return };
    let (status, text) = bench.ask("POST", "/execute", &json!({ "code": "1" })).await;
    match status {
        StatusCode::FAILED_DEPENDENCY => {
            assert!(text.contains("pip install ipykernel") || text.contains("apt-get install python3"), "{text}")
        }
        StatusCode::OK => passed_over("this host's own Python has an ipykernel"),
        other => panic!("{other}: {text}"),
    }
    bench.end().await;
    let Some(bench) = Bench::with(None, BTreeMap::from([("PATH".to_owned(), "/nowhere".to_owned())])).await else { return };
    let (status, text) = bench.ask("POST", "/execute", &json!({ "code": "1" })).await;
    assert_eq!(status, StatusCode::FAILED_DEPENDENCY, "{text}");
    assert!(text.starts_with("python3 is missing"), "{text}");
    bench.end().await;
}

#[tokio::test]
async fn python_cells_have_results_streams_errors_and_state() {
    let Some(bench) = with_kernel("kernel-packages", &["ipykernel"]).await else { return };
    let first = cell(&bench, "import sys\nx = 1\nprint('out')\nprint('err', file=sys.stderr)\nx + 41").await;
    assert_eq!(
        (first.out().as_str(), first.stream("stderr").as_str(), first.text(), first.ended()),
        ("out\n", "err\n", Some("42"), "end_of_execution")
    );
    assert!(first.said.iter().any(|said| said["type"] == "number_of_executions" && said["execution_count"] == 1), "{first:?}");
    assert_eq!(cell(&bench, "x += 1; x").await.text(), Some("2"));
    assert_eq!(cell(&bench, "'text'").await.text(), Some("text"));
    let failed = cell(&bench, "1 / 0").await;
    let error = failed.error().unwrap();
    assert_eq!((&error["name"], &error["value"]), (&json!("ZeroDivisionError"), &json!("division by zero")));
    let rich =
        cell(&bench, "from IPython.display import HTML, Image, JSON\ndisplay(HTML('<b>x</b>'))\ndisplay(JSON({'a': 1}))\n{'k': [1]}").await;
    let results: Vec<&Value> = rich.said.iter().filter(|said| said["type"] == "result").collect();
    assert_eq!((&results[0]["html"], &results[0]["is_main_result"]), (&json!("<b>x</b>"), &json!(false)));
    assert_eq!((&results[1]["json"], &results[2]["json"]), (&json!({ "a": 1 }), &json!({ "k": [1] })));
    let with = bench.run(json!({ "code": "import os; os.environ.get('MINE')", "env_vars": { "MINE": "here" } })).await;
    assert_eq!(with.text(), Some("here"));
    assert_eq!(cell(&bench, "os.environ.get('MINE', 'none')").await.text(), Some("none"));
    assert_eq!(cell(&bench, "await __import__('asyncio').sleep(0, 'awaited')").await.text(), Some("awaited"));
    assert_eq!(cell(&bench, "!echo from the shell").await.out().trim(), "from the shell");
    bench.end().await;
}

#[tokio::test]
async fn python_cells_are_interrupted_and_kernels_replaced() {
    let Some(bench) = with_kernel("kernel-packages", &["ipykernel"]).await else { return };
    cell(&bench, "kept = 'kept'").await;
    let (status, mut body) = bench.send("POST", "/execute", &json!({ "code": "print('on', flush=True)\nwhile True: pass" })).await;
    assert_eq!(status, StatusCode::OK);
    let mut seen = String::new();
    while !seen.contains("on") {
        let frame = tokio::time::timeout(Duration::from_secs(30), body.frame()).await.unwrap().unwrap().unwrap();
        seen.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
    }
    drop(body);
    let began = Instant::now();
    assert_eq!(cell(&bench, "kept").await.text(), Some("kept"));
    assert!(began.elapsed() < Duration::from_secs(9), "the kernel was ended, not the cell");
    assert_eq!(cell(&bench, "import os; os._exit(1)").await.ended(), "unexpected_end_of_execution");
    assert_eq!(cell(&bench, "'kept' in globals()").await.text(), Some("False"));
    bench.end().await;
}

/// Figures as the SDK's charts, tables as data. Long: matplotlib and pandas are installed.
#[tokio::test]
#[ignore = "installs matplotlib and pandas"]
async fn figures_are_charts_and_tables_are_data() {
    let Some(bench) = with_kernel("chart-packages", &["ipykernel", "matplotlib", "pandas"]).await else { return };
    let shown = |cell: &Cell, key: &str| {
        cell.said.iter().find(|said| !said[key].is_null()).map(|said| said[key].clone()).unwrap_or_else(|| panic!("no {key}: {cell:?}"))
    };
    let line = cell(&bench, "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3], [4, 5, 6], label='speed')\nplt.xlabel('Time (s)')\nplt.title('T')\nplt.show()").await;
    let chart = shown(&line, "chart");
    assert_eq!((&chart["type"], &chart["title"], &chart["x_unit"]), (&json!("line"), &json!("T"), &json!("s")));
    assert_eq!(chart["elements"], json!([{ "label": "speed", "points": [[1, 4], [2, 5], [3, 6]] }]));
    assert!(shown(&line, "png").as_str().unwrap().len() > 1_000);
    let bar = shown(&cell(&bench, "plt.bar(['a', 'b'], [1, 2]); plt.show()").await, "chart");
    assert_eq!((&bar["type"], &bar["elements"][1]["label"], &bar["elements"][1]["value"]), (&json!("bar"), &json!("b"), &json!(2)));
    let pie = shown(&cell(&bench, "plt.pie([1, 3], labels=['a', 'b']); plt.show()").await, "chart");
    assert_eq!((&pie["type"], &pie["elements"][0]["label"], &pie["elements"][0]["angle"]), (&json!("pie"), &json!("a"), &json!(90.0)));
    assert_eq!(shown(&cell(&bench, "plt.scatter([1], [2]); plt.show()").await, "chart")["type"], "scatter");
    let boxes = shown(&cell(&bench, "plt.boxplot([[1, 2, 3, 4, 5]]); plt.show()").await, "chart");
    assert_eq!((&boxes["type"], &boxes["elements"][0]["median"]), (&json!("box_and_whisker"), &json!(3.0)));
    let both = shown(&cell(&bench, "_, (a, b) = plt.subplots(1, 2); a.plot([1], [1]); b.bar(['x'], [1]); plt.show()").await, "chart");
    assert_eq!((&both["type"], both["elements"].as_array().unwrap().len()), (&json!("superchart"), 2));
    let table =
        shown(&cell(&bench, "import pandas as pd\npd.DataFrame({'n': [1, 2], 'd': pd.to_datetime(['2026-01-01', None])})").await, "data");
    assert_eq!(table["n"], json!([1, 2]));
    assert_eq!(table["d"][0], "2026-01-01T00:00:00");
    bench.end().await;
}
