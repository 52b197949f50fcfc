# What a person would type. Everything longer lives in xtask, bench/run.mjs and conformance/run.mjs.

PORT ?= 7117
SUITE ?= isolates
CARGO_DENY = 0.20.2
ZIG_PIP = crates/isolate/guest/requirements.txt

.PHONY: up build setup image test lint licences conformance bench soak fuzz clean

up: build ## build and start a node on http://127.0.0.1:$(PORT)
	target/release/skep up --listen 127.0.0.1:$(PORT)

# Always the whole workspace: cargo then compiles every dependency with one set of features, once.
build: image ## the skep binary, in target/release
	cargo build --release --locked --workspace

setup: target/zig/.installed crates/isolate/guest/node_modules/.package-lock.json ## what the build needs beyond Rust, Node and Python

target/zig/.installed: $(ZIG_PIP)
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --upgrade --target target/zig -r $(ZIG_PIP)
	touch $@

crates/isolate/guest/node_modules/.package-lock.json: crates/isolate/guest/package-lock.json
	cd crates/isolate/guest && npm ci --no-audit --no-fund

# Of the workspace, with its features, but nothing that embeds the image: that would be compiled twice.
image: setup ## the frozen guest, in target/image
	cargo build --release --locked --workspace --bin xtask
	target/release/xtask image

# `npm install`, not `npm ci`, where workerd is needed: its optional packages for other platforms are not in every lock file that npm writes.
test: build lint ## everything that CI runs
	cargo test --release --locked --workspace
	python3 conformance/e2b/check.py target/release/skep
	cd conformance && npm install --no-audit --no-fund && node run.mjs

lint: image licences ## formatting, clippy, types, licences
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cd crates/isolate/guest && npx tsc --noEmit

licences: target/tools/bin/cargo-deny ## licences and sources of every dependency
	target/tools/bin/cargo-deny --locked check licenses bans sources

# Compiled once, with little optimisation: it runs for two seconds.
target/tools/bin/cargo-deny:
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		cargo install cargo-deny --locked --version $(CARGO_DENY) --root target/tools --target-dir target/tools/build
	rm -rf target/tools/build

bench: build ## make bench SUITE=isolates
	cd bench && npm install --no-audit --no-fund && node run.mjs $(SUITE)

soak: image ## long runs: churn, fuzzing by properties, kill -9 by the thousand
	PROPTEST_CASES=100000 cargo test --release --locked --workspace --test isolates -- --include-ignored
	cargo test --release --locked --workspace --lib --test log_kill --test pages --test simulation --test actors --test sandboxes --test sandbox_wire -- --ignored

fuzz: ## the host-call boundary under libFuzzer, five minutes; needs a nightly compiler (rustup toolchain install nightly)
	crates/isolate/fuzz/run.sh 300

clean:
	rm -rf target
