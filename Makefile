# make demo   install, run the pipeline on the embedded phantom, print what came of it
# make test   lint, types, tests; `make verify` adds the long proofs
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
# The stages' `python` is the environment's, whether or not it is activated.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONHOME PYTHONPATH

.PHONY: install demo lint test verify clean

install: $(STAMP)

# A rejection (exit code 3) is a result: the demo says so and ends well.
demo: $(STAMP)
	@$(BIN)/auglift run --workers $(WORKERS) || [ $$? -eq 3 ]
	@$(BIN)/auglift summary

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m "not verify" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

verify: $(STAMP)
	$(BIN)/pytest

clean:
	rm -rf .prefect .locks .checkpoints dvclive .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@sh .ci/venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'from tasks.ingest.privacy.pseudonyms import private_folder; private_folder()'
	@touch $@
