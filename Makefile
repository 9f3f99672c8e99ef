# Every target sets up what it needs in .venv first: python3.11+, git and make are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The stamp names what was installed: a changed pyproject.toml installs again.
STAMP  := $(VENV)/.installed
# What only the benchmarks need is installed with the first of them.
BENCH  := $(VENV)/.installed-bench

# Most tests wait for processes most of the time: a few of them run side by side, file by file.
WORKERS ?= 4

.PHONY: install dev test faults faults-short autobahn check check-versions format bench bench-quick scaling clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "queue-run needs Python 3.11 or newer; name one with: make PYTHON=python3.12 <target>")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[check]'
	@touch $@

dev: $(STAMP)
	@$(BIN)/queue-run dev

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

# The fault laboratory: the better part of an hour, or three minutes.
faults: $(STAMP)
	$(BIN)/python -m tests.faults --write $(ARGS)

faults-short: $(STAMP)
	$(BIN)/python -m tests.faults --short --plant dropped doubled reordered misdelivered $(ARGS)

# The WebSocket conformance suite: two minutes; it needs Python 2.7, too.
autobahn: $(STAMP)
	$(BIN)/python -m tests.autobahn --write $(ARGS)

# The tests of what touches our dependencies, on Python 3.11, 3.12 and 3.13, as far as they are
# installed, and with the lowest versions of packages: two minutes each (tests/versions.py).
check-versions: $(STAMP)
	$(BIN)/python -m tests.versions --numprocesses $(WORKERS) --dist loadfile $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(addprefix tests/unit/test_,layering.py structure.py names.py docstrings.py \
		private_names.py documents.py scripts_in_redis.py) --quiet
	@if command -v luacheck >/dev/null; then luacheck --quiet queue_run/storage/lua; \
	else echo "luacheck (Debian: lua-check) is not installed: the Lua was not looked at"; fi

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[check,bench]'
	@touch $@

# Beside two other programs: ten minutes, or two.
bench: $(BENCH)
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(BENCH)
	$(BIN)/python -m benchmarks --quick $(ARGS)

# How cost grows with connections, users, processes and sizes: ten minutes.
scaling: $(BENCH)
	$(BIN)/python -m benchmarks.scaling $(ARGS)

clean:
	rm -rf $(VENV) .versions .autobahn .pytest_cache .mypy_cache .ruff_cache
