# Everything a newcomer or CI needs. `make run` and `make test` set up what is missing by themselves.
# ARGS is passed on where it makes sense: make run ARGS='--help', make load ARGS='--help'.

.DEFAULT_GOAL := help
SHELL := /bin/sh
ARGS ?=
DATA ?= wick-data
ROUNDS ?= 3
KILLS ?= 200
FOR ?= 3600
CORPUS ?=

.PHONY: help setup build run release test check fmt-check dependencies clippy docs book fmt bench bench-media beside load test-clients test-calls test-federation load-federation test-crash fuzz-media \
        complement complement-own complement-process clean-data

help: ## show this list
	@echo 'wick: a Matrix homeserver in which events can expire'
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1@\2/p' Makefile | awk -F@ '{ printf "%-22s %s\n", $$1, $$2 }'

setup: ## install the system packages the build needs (does nothing when they are there)
	@.ci/setup

build: setup ## build the server and the other binaries
	@. .ci/env && .ci/cargo build --workspace --bins $$CARGO_LOCKED

# All members' features, one binary: what `make test` compiles afterwards is the same.
run: setup ## build and start the server on its embedded defaults; prints how to try it
	@. .ci/env && .ci/cargo build --workspace --bin wick $$CARGO_LOCKED
	@.ci/serve $(ARGS)

release: ## build the server for installation, into target/release: compiles RocksDB, links everything into one
	@export WICK_ROCKSDB=source && .ci/setup && . .ci/env && .ci/cargo build --workspace --bin wick --release $$CARGO_LOCKED

test: build ## run the whole test suite, the checks of the source tree among it
	@.ci/test

check: fmt-check dependencies clippy docs ## formatting, dependencies, clippy and rustdoc, warnings denied

fmt-check: setup
	@. .ci/env && cargo fmt --all --check

# Known vulnerabilities are left out: their list is not in a package registry, and it changes without us.
# Where GitHub can be reached: cargo deny check advisories
dependencies: setup
	@.ci/tool cargo-machete 0.9.2
	@. .ci/env && .ci/tool cargo-deny 0.20.2 $$CARGO_LOCKED check bans licenses sources

clippy: setup
	@. .ci/env && .ci/cargo clippy --workspace --all-targets $$CARGO_LOCKED -- -D warnings

# The crates are not published, so their documentation includes the private items.
docs: setup
	@. .ci/env && RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' .ci/cargo doc --workspace --no-deps $$CARGO_LOCKED

fmt: setup ## format the source
	@. .ci/env && cargo fmt --all

book: ## build the manual in docs/ with mdbook, into docs/book
	@command -v mdbook >/dev/null 2>&1 || { echo 'mdbook is missing: cargo install mdbook' >&2; exit 1; }
	@mdbook build docs

load: build ## the load and scale benchmark (ARGS='--help' for its options)
	@. .ci/env && "$$TARGET_DIR/debug/wick-load" $(ARGS)

bench: build release ## the benchmarks of docs/benchmarks.md, one after the other (ARGS='scale' for a million timers)
	@.ci/script tests/load/bench $(ARGS)

bench-media: build release ## media of wick beside nginx and ImageMagick (see tests/load/media)
	@.ci/script tests/load/media $(ARGS)

beside: build release ## delayed events and encryption of wick and of Synapse with PostgreSQL, side by side (ARGS=keys-claim)
	@.ci/script tests/load/beside $(ARGS)

test-clients: build ## let real clients use the server: libraries in JavaScript, Python and Rust, and Hydrogen in a browser
	@.ci/script tests/clients/run $(ARGS)

test-calls: build ## make calls with LiveKit, its client, and Element Call in Chromium (needs Go, Node and npm; ARGS=page: only these)
	@.ci/script tests/calls/run $(ARGS)

fuzz-media: setup ## read damaged images and pages for FOR=3600 seconds (CORPUS=folder: those of a folder, too)
	@. .ci/env && WICK_FUZZ_SECONDS=$(FOR) WICK_FUZZ_CORPUS="$(CORPUS)" \
		.ci/cargo test --workspace --lib $$CARGO_LOCKED -- fuzz::

test-federation: build ## let users of wick, Synapse and Dendrite share rooms (needs openssl, Python; ARGS='-k upgrade': only these)
	@.ci/script tests/federation/run $(ARGS)

load-federation: build ## what joins, incoming events, dead destinations and large files cost (ARGS=join-large: only this)
	@.ci/script tests/federation/run load $(ARGS)

test-crash: build ## kill the server at random moments (KILLS=200), fail at every commit (ROUNDS=3)
	@. .ci/env && "$$TARGET_DIR/debug/wick-crash" $(KILLS) $(ARGS)
	@.ci/crash $(ROUNDS)

complement: setup ## run the Complement suite against wick (needs Docker and Go; RUN=regex: only these tests)
	@.ci/script complement/run $(ARGS)

complement-process: build ## run our own Complement tests against the built binary (needs Go)
	@.ci/script complement/run process $(ARGS)

complement-own: setup ## run our own Complement tests (needs Docker and Go)
	@.ci/script complement/run own $(ARGS)

clean-data: ## delete the data of `make run` (folder: DATA=wick-data)
	@rm -rf -- './$(DATA)' && echo 'deleted ./$(DATA)'
