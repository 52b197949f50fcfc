#!/bin/sh
# Builds the fuzz target of this folder with libFuzzer's instrumentation and runs it: `run.sh [SECONDS]`. What `cargo fuzz`
# does, without having to install it. A crash ends the run and leaves its input in target/fuzz/artifacts.
set -eu
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
# Arguments of its compiler pass: edge counters, the table of edges, and comparisons.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="--cfg fuzzing -Zsanitizer=address $coverage" \
    cargo +nightly build --release --locked --target "$target" --target-dir "$root/target/fuzz"
mkdir -p "$root/target/fuzz/corpus" "$root/target/fuzz/artifacts"
exec "$root/target/fuzz/$target/release/host_call" "$root/target/fuzz/corpus" seeds -dict=host_call.dict -max_len=4096 \
    -max_total_time="${1:-300}" -timeout=20 -rss_limit_mb=2048 -artifact_prefix="$root/target/fuzz/artifacts/"
