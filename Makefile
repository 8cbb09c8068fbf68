# `make run` is the main job, `make test` tests it; the rest is for people who change Drydock. Each calls one thing.
# More words for it go into ARGS: make run ARGS="--no-push", make test ARGS="-m 'not engine'".
PYTHON ?= python3
# Tests that run side by side. One more than the cores of a small machine, since most of them wait for the engine.
WORKERS ?= 3
SHELL := bash
BIN := .venv/bin
ENGINE := eval "$$($(BIN)/drydock bootstrap env)"
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header $(UPGRADE)
IMAGE := --python-version 3.13 --python-platform x86_64-unknown-linux-gnu
.PHONY: run test check test-mutation test-registry lint train bench bench-server lock schema clean

run: .venv/run
	@$(BIN)/drydock bootstrap
	@$(ENGINE) && $(BIN)/python ci/main.py $(ARGS)

test: .venv/dev
	@$(BIN)/drydock bootstrap --with-cosign
	@$(ENGINE) && $(BIN)/python -m pytest --numprocesses $(WORKERS) $(ARGS)

test-mutation: .venv/dev
	@$(BIN)/drydock bootstrap
	@$(ENGINE) && $(BIN)/python -m tests.mutation

test-registry: .venv/dev
	@$(BIN)/python -m tests.integration.registry

# For people who are typing: types, lint, and the tests that take no seconds each.
check: lint
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) -m "not slow and not registry" tests/unit $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

train: .venv/run
	@$(BIN)/drydock bootstrap
	@$(ENGINE) && $(BIN)/drydock train

bench: .venv/run
	@$(BIN)/drydock bootstrap
	@$(ENGINE) && $(BIN)/python bench/pipeline.py $(ARGS)

bench-server: .venv/dev
	@$(BIN)/python -m bench.serve $(ARGS)

# Keeps the versions that are locked, where they still fit; make lock UPGRADE=--upgrade takes the newest.
lock: .venv/dev
	$(COMPILE) --universal --python-version 3.11 --extra install pyproject.toml --output-file requirements/ci.txt
	$(COMPILE) --universal --python-version 3.11 --extra install --extra dev pyproject.toml --output-file requirements/dev.txt
	$(COMPILE) $(IMAGE) requirements/image-pandas.in --output-file requirements/image-pandas.txt
	for name in $(filter-out pandas,$(patsubst requirements/image-%.in,%,$(wildcard requirements/image-*.in))); do \
	    $(COMPILE) $(IMAGE) requirements/image-$$name.in --constraint requirements/image-pandas.txt \
	        --output-file requirements/image-$$name.txt || exit; done
	$(COMPILE) $(IMAGE) requirements/exporter.in --constraint requirements/image-pandas.txt \
	    --output-file requirements/exporter.txt
	for peer in bentoml fastapi litserve mlflow; do \
	    $(COMPILE) $(IMAGE) bench/peers/$$peer.in --output-file bench/peers/$$peer.txt || exit; done
	$(COMPILE) --python-version 3.12 --python-platform x86_64-unknown-linux-gnu bench/peers/mlserver.in \
	    --output-file bench/peers/mlserver.txt

schema: .venv/dev
	$(BIN)/python -m drydock.report.schemas
	$(BIN)/python -m export.schema >export/model.schema.json

clean:
	@test ! -x $(BIN)/python || $(BIN)/drydock bootstrap clean
	rm -rf .venv dist artifacts

# --require-hashes: nothing gets in that is not in the lock.
.venv/run: requirements/ci.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Drydock needs Python 3.11 or newer; say make PYTHON=python3.12 …")'
	@echo "python     .venv gets the locked packages of $< …"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: requirements/dev.txt .venv/run
	@echo "python     .venv gets the locked packages of $< as well, in a minute or two …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
