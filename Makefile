# make toy:  set up, then from synthetic bundles to a report.     make test: set up, then every check.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.synced

.PHONY: help setup toy test lint unit workflow e2e faults fuzz nightly truth slurm lock peers-lock clean

help:
	@echo "make toy    write toy slides and run bundle -> report (toy/results/report/index.html)"
	@echo "make test   static checks, unit, workflow, end-to-end, truth and cluster tests"
	@echo "make lint | unit | workflow | e2e | faults | fuzz | truth | slurm    one part of the tests"
	@echo "make nightly    faults, clusters, spoilt files and hostile input, many more cases: hours"
	@echo "make lock   renew envs/requirements.lock"
	@echo "make peers-lock    renew envs/peers/*.lock: the environments of published methods"

setup: $(STAMP)

# pip's own resolver is used once, to get uv; everything else comes from the lock with its hashes.
$(STAMP): envs/requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python envs/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src  # once, also where PYTHONDONTWRITEBYTECODE is set: each job would do it again
	touch $(STAMP)

toy: setup
	test -f toy/config.yaml || $(BIN)/mistline toy --out toy
	$(BIN)/snakemake --workflow-profile profiles/toy all
	@echo "open toy/results/report/index.html"

# Two or four parts at a time, each printed whole when it ends; the longest begin first. Jobs on a cluster wait a lot.
test: setup
	$(MAKE) --jobs=2 --output-sync=target lint unit
	$(MAKE) --jobs=4 --output-sync=target e2e truth slurm faults fuzz workflow

lint: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/codespell src tests workflow profiles README.md CONTRIBUTING.md CHANGELOG.md

unit: setup
	$(BIN)/pytest tests/unit -n auto

workflow: setup
	$(BIN)/pytest tests/workflow -n auto

e2e: setup
	$(BIN)/pytest tests/e2e --ignore=tests/e2e/faults

faults: setup
	$(BIN)/pytest tests/e2e/faults

# Spoilt files and settings, and input that means harm.
fuzz: setup
	$(BIN)/pytest tests/fuzz tests/security

nightly: setup
	$(BIN)/pytest tests/fuzz tests/security tests/e2e/faults tests/slurm tests/unit/fetch tests/unit/train/test_torchrun.py --nightly --timeout 7200

# What models learn of toy tissue whose truth is known.
truth: setup
	$(BIN)/pytest tests/truth -n 2 --dist loadfile  # a file fits its own models

# Skips where no SLURM cluster answers.
slurm: setup
	$(BIN)/pytest tests/slurm

lock:
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --output-file envs/requirements.lock

# A method's own requirements are envs/peers/<method>.in; its environment is made by the rule peer_environment.
peers-lock: setup
	for file in envs/peers/*.in; do \
		$(BIN)/uv pip compile $$file --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet --output-file $${file%.in}.lock || exit 1; \
	done

clean:
	rm -rf toy .venv
