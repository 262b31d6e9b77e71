# Every target is a script or one cargo command; models, scans and results stay in git-ignored folders.

# Where models and scans are kept; `make demo KERAUNOS_HOME=$HOME/models` for another place.
export KERAUNOS_HOME ?= $(CURDIR)/models

.PHONY: help build demo test models scan bench peers accept instructions soak fuzz audit recipe-test clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, target/release/keraunos
	cargo build --release --locked

demo: ## from a fresh Debian or Ubuntu to a segmented brain in out/demo
	@scripts/demo

test: ## format, lints, documentation and all tests; what CI runs
	@scripts/test

fuzz: ## one fuzz target, or all in turn: TARGET=gguf SECONDS=3600; needs nightly and cargo-fuzz
	@TARGET="$(TARGET)" SECONDS_EACH="$(or $(SECONDS),60)" scripts/fuzz

audit: ## licences, sources and known advisories of every dependency; needs cargo-deny and a connection
	@scripts/audit

models: build ## the two language models, which write and read instructions
	@scripts/models

scan: ## the scan of the demo; prints its path
	@scripts/scan

bench: models ## speed of every kernel and model beside its ceiling
	@scripts/adapter
	cargo bench --locked

peers: models ## rival engines beside keraunos on this machine, as Markdown; builds them first, which takes long
	@scripts/adapter
	@scripts/peers

accept: models ## quality on the real volumes of KERAUNOS_SHARED (../shared), as Markdown
	@scripts/adapter
	@scripts/accept

instructions: models ## what the language model writes of every structure, for the training to read
	@scripts/adapter
	@cargo run --quiet --release --locked --example write_instructions

soak: build ## 200 small cases in one run, killed and gone on with: memory flat, nothing lost, nothing twice (Linux)
	@scripts/adapter
	@cargo run --quiet --release --locked --example soak -- "$${CARGO_TARGET_DIR:-target}/release/keraunos"

recipe-test: ## the training recipe's own tests (Python, installs torch into .venv)
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement weights/recipe/requirements.txt
	cd weights && ../.venv/bin/python -m pytest -q recipe

clean: ## what was built and segmented; models and scans stay
	cargo clean
	rm -rf out
