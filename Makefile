# The tests and the demo make network namespaces and attach XDP programs: run them as root.
# Arguments for the demo: make demo ARGS=--keep

CARGO ?= cargo
SHELL := /bin/bash
PATH := $(PATH):$(HOME)/.cargo/bin
export PATH

# The daemon under test is always the release build: a debug build cannot keep up with timings.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export SHUNT_BIN ?= $(TARGET_DIR)/release/shunt

.PHONY: help demo test bench compare fmt lint doc build deps

help: ## Shows this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## Installs the Debian packages that are missing.
	@scripts/install-deps.sh

build: deps ## Builds the release binaries.
	$(CARGO) build --release -p shunt-switch -p shunt-tests --bins

demo: build ## Two nodes, four pods: ping and TCP in every mode and encapsulation, as a table.
	$(TARGET_DIR)/release/demo $(ARGS)

test: deps ## Unit, property and end-to-end tests, and the models of the FIB.
	$(CARGO) build --release -p shunt-switch --bins
	$(CARGO) test --workspace --no-fail-fast
	RUSTFLAGS="$(RUSTFLAGS) --cfg loom" $(CARGO) test -p shunt-fib --release --test loom --target-dir $(TARGET_DIR)/loom

bench: deps ## Benchmarks.
	$(CARGO) bench -p shunt-bench

compare: deps ## Shunt beside its peers: make compare SUITE=fib ARGS="--json fib.json".
	$(CARGO) run --release -p shunt-bench --bin compare -- $(or $(SUITE),--help) $(ARGS)

fmt: ## Formats the sources.
	$(CARGO) fmt --all

lint: ## Checks format and lints.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc: ## Builds the documentation.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps
