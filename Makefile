# The developer's day. `make` alone says what there is.

# Any Python from 3.11 on; the newest that is called by its number, else python3.
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11,$(if $(shell $p -c "import venv" 2>/dev/null && echo yes),$p)) python3)
BIN := .venv/bin
KERNEL := $(wildcard protocol/*.pyx protocol/*.pxi protocol/*.pxd)
# Test files side by side, a worker a core; PARALLEL= runs them one after another.
PARALLEL ?= -n auto --dist loadfile
SOURCES := protocol service tailer buck porter

.DEFAULT_GOAL := help
.PHONY: help setup check types test properties fuzz mutants scenarios soak simulate bench rivals papers demo clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

setup: .venv/.kernel ## make .venv with buck, tailer and porter in it; quick when there is nothing to do

.venv/.installed: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; PYTHON=... names one" >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { echo "no venv: install python3-venv" >&2; exit 2; }
	@echo "installing into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check "setuptools>=80" "Cython>=3.1"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[archive,bench,dev]"
	@touch $@

# The kernel is optional: without a compiler its twin in Python does the same, only slower.
.venv/.kernel: .venv/.installed $(KERNEL)
	@$(BIN)/python setup.py --quiet build_ext --inplace > .venv/kernel.log 2>&1 || { cat .venv/kernel.log >&2; exit 1; }
	@$(BIN)/python -c 'from protocol.kernel import COMPILED; print("kernel:", "compiled" if COMPILED else "pure Python, slower (no compiler? .venv/kernel.log says why)")'
	@touch $@

check: setup ## what CI checks before the tests: format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(SOURCES)

test: setup ## the whole suite; T='words' picks tests by name
	$(BIN)/python -m pytest $(PARALLEL) $(if $(T),-k "$(T)")

properties: setup ## the same properties with many more examples
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -m "not slow" $(if $(T),-k "$(T)")

fuzz: setup ## damaged bytes for whoever reads them; SECONDS=60 for each target, SEED=1
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

scenarios: setup ## real processes, killed, stopped, cut off, on full and broken disks; T='words' picks some
	$(BIN)/python -m pytest tests/scenarios $(if $(T),-k "$(T)")

soak: setup ## 60 % of full load and a fault every 20 s; MINUTES=30, SEED=1, RATE=50000 lines a second instead
	$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1) $(if $(RATE),--rate $(RATE))

mutants: setup ## bugs put into copies of the tree: which test notices each; T='word' picks some
	$(BIN)/python -m tests.mutants '$(T)'

# SEED=7 runs that one and shows what its processes log; COVERAGE=1 says which lines of recovery were run.
simulate: setup ## whole clusters in virtual time, everything failing; SEEDS=10000, or SEED=7 to see one again
	$(BIN)/python -m tests.simulation --seeds $(if $(SEED),$(SEED) --verbose,0:$(or $(SEEDS),150)) $(if $(COVERAGE),--coverage)

bench: setup ## measure everything, beside what others take for the same
	$(BIN)/python -m bench

rivals: setup ## bring what other systems need that Python's packages don't hold; says which can run here
	$(BIN)/python -m bench rivals --fetch

papers: setup ## the claims beside other systems, and pages that say so; QUICK=1 small sizes, LOGS='glob', RESULTS=folder to go on in
	$(BIN)/python -m bench papers $(if $(QUICK),--quick) $(if $(LOGS),--logs '$(LOGS)') $(if $(RESULTS),--results '$(RESULTS)')

demo: setup ## three bucks, a tailer on this host's logs, an archive; LOGS='glob...'; CHECK=1 compares all, once; with KILL=1 under kill -9; SECURE=1 with keys
	@$(BIN)/python -m bench.demo $(if $(CHECK),--check) $(if $(KILL),--kill) $(if $(SECURE),--secure) $(if $(LOGS),--logs '$(LOGS)')

clean: ## remove what was built, but no data
	rm -rf .venv build dist *.egg-info protocol/*.so protocol/_kernel.c .mypy_cache .pytest_cache .ruff_cache .hypothesis
