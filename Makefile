# The tests and the demo make network namespaces and attach XDP programs: run them as root.
# Arguments for the demo: make demo ARGS=--keep

CARGO ?= cargo
SHELL := /bin/bash
PATH := $(PATH):$(HOME)/.cargo/bin
export PATH

# The daemon under test is always the release build: a debug build cannot keep up with timings.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export SHUNT_BIN ?= $(TARGET_DIR)/release/shunt
# The CNI plugin is static, because it is put on hosts of whatever C library. Flags for that change
# every crate, so it has a folder of its own, and a copy beside the daemon.
export SHUNT_CNI_BIN ?= $(TARGET_DIR)/release/shunt-cni
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help demo test bench compare fmt lint doc build plugin deps

help: ## Shows this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## Installs the Debian packages that are missing.
	@scripts/install-deps.sh

build: deps plugin ## Builds the release binaries.
	$(CARGO) build --release -p shunt-switch -p shunt-tests --bins

plugin: deps ## Builds the CNI plugin, static.
	CARGO_PROFILE_RELEASE_STRIP=symbols RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" $(CARGO) build --release -p shunt-cni --target $(HOST) --target-dir $(TARGET_DIR)/static
	install -D -m 755 $(TARGET_DIR)/static/$(HOST)/release/shunt-cni $(TARGET_DIR)/release/shunt-cni

demo: build ## Two nodes, four pods: ping and TCP in every mode and encapsulation, as a table.
	$(TARGET_DIR)/release/demo $(ARGS)

test: deps plugin ## Unit, property and end-to-end tests, and the models of the FIB.
	$(CARGO) build --release -p shunt-switch --bins
	$(CARGO) test --workspace --no-fail-fast
	RUSTFLAGS="$(RUSTFLAGS) --cfg loom" $(CARGO) test -p shunt-fib --release --test loom --target-dir $(TARGET_DIR)/loom

bench: deps ## Benchmarks.
	$(CARGO) bench -p shunt-bench

compare: deps plugin ## Shunt beside its peers: make compare SUITE=fib ARGS="--json fib.json".
	$(CARGO) build --release -p shunt-switch --bins
	$(CARGO) run --release -p shunt-bench --bin compare -- $(or $(SUITE),--help) $(ARGS)

fmt: ## Formats the sources.
	$(CARGO) fmt --all

lint: ## Checks format and lints.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc: ## Builds the documentation.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps
