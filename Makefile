# make tables   from nothing to results/tables.md and the page results/index.html (creates .venv first)
# make report   Snakemake's own report, results/report.html, and the page again with a link to it
# make test     the tests, but for slow ones
# make test-all every test (make test-slow: the slow ones)
# make bench    every measurement of speed, into docs/results/speed.md
# make lint     linters, as CI runs them

PYTHON ?= python3
CORES ?= 8
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export OMP_WAIT_POLICY := PASSIVE

.PHONY: tables report test test-slow test-all bench lint smoke clean

tables: $(READY)
	gazepipe run --cores $(CORES) results/tables.md results/index.html

smoke: $(READY)
	gazepipe run --cores $(CORES) --configfile config/smoke.yaml -- results/smoke/tables.md results/smoke/index.html

report: $(READY)
	snakemake --cores $(CORES) --report results/report.html
	snakemake --cores $(CORES) --force results/index.html

# A file's tests go to one process, so that what they share is made once; the order is that of tests/conftest.py.
PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST) -m "not slow"

test-slow: $(READY)
	$(PYTEST) -m slow

test-all: $(READY)
	$(PYTEST)

bench: $(READY)
	python benchmarks/bench.py

lint: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

$(READY): envs/lock.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gazepipe needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint envs/lock.txt $$(grep '^torch==' envs/lock.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement envs/lock.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) results data .snakemake
