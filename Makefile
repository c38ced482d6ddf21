# PYTHON is the interpreter that the virtual environment is made with, VENV where it lies:
#   make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help install demo serve test test-sqlite test-postgres crash crash-long cluster cluster-long hostile check fix bench bench-parts \
	bench-million clean

help:
	@echo "make install   install into $(VENV), pinned by hash"
	@echo "make demo      fetch some two hundred scripted URLs; works offline"
	@echo "make serve     answer http://127.0.0.1:8000/api/v1/"
	@echo "make test      run the tests, on SQLite and on PostgreSQL where one answers"
	@echo "make crash     kill real runs, 20 times, and check that nothing is lost (make crash-long: 240 times)"
	@echo "make cluster   drain runs with two real clusters, kill some, restart Redis (make cluster-long: 20 times each)"
	@echo "make hostile   fetch every hostile reply by itself and fifty at once, and 20,000 random answers (10 minutes)"
	@echo "make check     lint, types and import contracts"
	@echo "make fix       format, and mend what can be mended"
	@echo "make bench     compare with curl, aiohttp, Scrapy and others, within 20 minutes; writes docs/benchmarks.md and .png"
	@echo "               (make bench BENCH='--scale 0.1 --only A,S': a quick look at two workloads, only printed)"
	@echo "make bench-parts    measure parts of Trawl by themselves (make bench-parts PARTS='fanout memory': these)"
	@echo "make bench-million  fetch a million URLs, with one process and with two"

install: $(VENV)/.run

# A stamp for each lock file, so that a change of it installs again.
$(VENV)/.run: requirements/run.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Trawl needs Python 3.11 or later; name one: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	@echo "Installing what the tests need into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	@touch $@

demo: install
	@$(BIN)/python manage.py demo

serve: install
	@$(BIN)/python manage.py serve

# Everything runs on SQLite; then what touches a database runs again on PostgreSQL, but for what only starts the same
# commands once more.
# Three at once, for many of them wait; SELECT narrows them down: make test-sqlite SELECT='-m "not slow"'
PARALLEL = -n 3 --dist loadfile
TEST_POSTGRES_URL ?= postgres://postgres@127.0.0.1:5432/postgres

test: test-sqlite test-postgres

test-sqlite: $(VENV)/.test
	$(BIN)/python -m pytest $(PARALLEL) $(SELECT)

test-postgres: $(VENV)/.test
	@if $(BIN)/python -m tests.support.postgres $(TEST_POSTGRES_URL); then \
		DATABASE_URL=$(TEST_POSTGRES_URL) $(BIN)/python -m pytest $(PARALLEL) -m "database and not slow"; \
	elif [ -n "$$TRAWL_REQUIRE_SERVICES" ]; then exit 1; fi

crash: $(VENV)/.test
	@TEST_POSTGRES_URL=$(TEST_POSTGRES_URL) $(BIN)/python -m tests.crash $(CRASH)

crash-long: $(VENV)/.test
	@TEST_POSTGRES_URL=$(TEST_POSTGRES_URL) $(BIN)/python -m tests.crash --kills 240 --signals 50 $(CRASH)

cluster: $(VENV)/.test
	@TEST_POSTGRES_URL=$(TEST_POSTGRES_URL) $(BIN)/python -m tests.cluster $(CLUSTER)

cluster-long: $(VENV)/.test
	@TEST_POSTGRES_URL=$(TEST_POSTGRES_URL) $(BIN)/python -m tests.cluster --long $(CLUSTER)

# More than make test does: fifty at once, and 10,000 random answers for each transport on each database.
hostile: $(VENV)/.test
	TRAWL_FUZZ_ANSWERS=10000 $(BIN)/python -m pytest --timeout 1800 $(HOSTILE) tests/hostile tests/hostile/fifty_at_once.py
	DATABASE_URL=$(TEST_POSTGRES_URL) TRAWL_FUZZ_ANSWERS=10000 $(BIN)/python -m pytest --timeout 1800 $(HOSTILE) \
		tests/hostile/test_fuzz.py

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

fix: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The peers are for make bench alone.
$(VENV)/.bench: requirements/bench.txt $(VENV)/.test
	@echo "Installing what Trawl is compared with into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

PARTS ?= parts

bench: $(VENV)/.bench
	@TEST_POSTGRES_URL=$(TEST_POSTGRES_URL) $(BIN)/python -m tests.benchmarks peers $(BENCH)

bench-parts: $(VENV)/.test
	@TEST_POSTGRES_URL=$(TEST_POSTGRES_URL) $(BIN)/python -m tests.benchmarks $(PARTS)

bench-million: $(VENV)/.test
	@TEST_POSTGRES_URL=$(TEST_POSTGRES_URL) $(BIN)/python -m tests.benchmarks million $(BENCH)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
