# Every target works on a fresh machine: the first one builds a virtual environment of its own in .venv.
# What is needed: make and Python 3.11 or newer (or uv, which brings one). A C compiler makes backups faster but is optional.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Two workers suit the smallest machine; PYTEST_ARGS="-x tests/unit" narrows the run.
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: help install demo test lint check bench lock clean
help:
	@echo "make demo    back up, change, compare, restore and prove a real folder (about a minute, leaves nothing behind)"
	@echo "make test    run every test"
	@echo "make check   what CI runs: format, lint, types, floors, tests"
	@echo "make bench   measure against restic (and borg where installed)"
	@echo "make lock    pin the dependencies anew (needs uv)"
	@echo "make clean   remove the virtual environment and everything that tools left"

install: $(READY)

$(READY): scripts/install.sh pyproject.toml setup.py requirements/dev.txt $(wildcard native/*.[ch])
	@scripts/install.sh "$(VENV)"
	@touch $@

demo: $(READY)
	@$(BIN)/python scripts/demo.py

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports

check: lint test

bench: $(READY)
	$(BIN)/python bench/run.py $(BENCH_ARGS)

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" --extra all -o requirements/lock.txt pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" --extra dev -o requirements/dev.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache src/holdfast/*.so
