# `make help` lists the targets by the comments behind their names.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

# Nothing is sent anywhere, and idle OpenMP threads do not spin beside each other.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := 1
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The stages' `python` is that of the environment, whether or not it is activated.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONHOME PYTHONPATH

.PHONY: help install demo lint test pipeline verify docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## install auglift and its tools into .venv

# A rejection (exit code 3) is a result: the demo prints it and exits with 0.
demo: $(STAMP) ## install, run the pipeline on the embedded phantom, print the verdict and the lift
	@$(BIN)/auglift run --workers $(WORKERS) || [ $$? -eq 3 ]
	@$(BIN)/auglift summary

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## check style and types, then run the tests
	$(BIN)/pytest -m "not verify" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

pipeline: $(STAMP) ## run the whole pipeline, tiny, by the flow and by dvc repro, as a test
	$(BIN)/pytest tests/test_end_to_end.py

verify: $(STAMP) ## run the tests and the long proofs
	$(BIN)/pytest

docs: $(STAMP) ## write the reference pages from the code, and the documentation site to site/
	@$(BIN)/python -m docs.reference.write_pages
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html; the search needs a server: $(BIN)/python -m http.server --directory site --bind 127.0.0.1"

clean: ## remove caches, locks, checkpoints and curves; data stays
	rm -rf site build .prefect .locks .checkpoints dvclive .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@sh .ci/venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'from tasks.ingest.privacy.private_files import make_private_folder as make; make()'
	@touch $@
