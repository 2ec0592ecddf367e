# Everything that is done with a clone. Only Python 3.11 or newer with venv is needed beforehand;
# README.md says which system packages more tests are run with.

BIN := .venv/bin
INSTALLED := .venv/installed
PEER := .venv-peer/installed
CONTEXT := .venv-context/installed
PIP_INSTALL := -m pip install -qq --disable-pip-version-check
# Tests may leave types out. Their folders are checked one by one, as each may have a conftest.py.
TEST_TYPES := --allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls \
    --allow-untyped-decorators --allow-any-generics --no-check-untyped-defs

.PHONY: help demo demo-stop test kills soak lint docs bench clean

help:
	@echo "make demo       an example proposal whose runs arrive while the daemon fills their rows"
	@echo "make demo-stop  end the demo's daemon"
	@echo "make test       all tests"
	@echo "make kills      kills before every write of every process, one after the other; 20 minutes"
	@echo "make soak       random kills while runs arrive, for MINUTES=20"
	@echo "make lint       style, types, layers, dead code and the documentation"
	@echo "make docs       the documentation, in docs/_build/html"
	@echo "make bench      the same work on this project and on its peer, side by side"
	@echo "make clean      remove what the above made; stops the demo"

demo: $(INSTALLED)
	@$(BIN)/python examples/run_demo.py

demo-stop: $(INSTALLED)
	@$(BIN)/python examples/run_demo.py stop

# Tests start a thousand interpreters. Where bytecode may not be kept, as images of containers are
# often set up, each would compile all of ours again.
unexport PYTHONDONTWRITEBYTECODE

# The files in the order of tests/conftest.py, not in that of how many tests they have.
PROCESSES := 2
test: $(INSTALLED) $(PEER) $(CONTEXT)
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# So that the root comes first: tests/daemon must not stand in for daemon.
MAIN = "import sys; sys.path.append('tests'); from $(1) import main; main()"
kills: $(INSTALLED)
	$(BIN)/python -c $(call MAIN,killpoints) $(OPTIONS)

MINUTES := 20
soak: $(INSTALLED)
	$(BIN)/python -c $(call MAIN,soak) $(MINUTES)

lint: $(INSTALLED) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy ctxlib daemon examples benchmarks
	$(BIN)/mypy $(TEST_TYPES) tests/*.py
	for folder in tests/*/; do $(BIN)/mypy $(TEST_TYPES) $$folder || exit 1; done
	$(BIN)/lint-imports
	$(BIN)/fawltydeps
	$(BIN)/vulture

docs: $(INSTALLED)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html

bench: $(INSTALLED) $(PEER)
	$(BIN)/python -m benchmarks

clean:
	@if [ -d demo ]; then $(BIN)/python examples/run_demo.py stop; fi
	rm -rf demo build dist docs/_build *.egg-info .venv .venv-peer .venv-context .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first interpreter that is new enough makes the environment.
$(BIN)/python:
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    $$python -m venv .venv && exit 0; \
	    rm -rf .venv; \
	    echo "$$python cannot make a virtual environment: install its venv module" >&2; \
	    echo "(on Debian: apt-get install python3-venv), then call make again." >&2; \
	    exit 1; \
	done; \
	echo "Runtable needs Python 3.11 or newer, and no python3 here is: install one," >&2; \
	echo "put it on PATH, and call make again." >&2; \
	exit 1

$(INSTALLED): pyproject.toml setup.cfg | $(BIN)/python
	@echo "Installing into .venv; the first time this takes a minute or so ..."
	@$(BIN)/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@

# The published package, against which tests and benchmarks hold ours, apart from it.
$(PEER): | $(BIN)/python
	@echo "Installing the published damnit package into .venv-peer, for comparison ..."
	@$(BIN)/python -m venv .venv-peer
	@.venv-peer/bin/python $(PIP_INSTALL) 'damnit[backend]==0.4.0'
	@touch $@

# An environment as the guide wants it for context files, with nothing else, in the oldest Python
# from 3.10 on that is here.
$(CONTEXT):
	@for python in python3.10 $$HOME/.pyenv/versions/3.10.*/bin/python python3.11 python3.12 \
	        python3.13 python3.14 python3; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue; \
	    $$python -m venv .venv-context 2>/dev/null || { rm -rf .venv-context; continue; }; \
	    echo "Installing extra_data into .venv-context, which has $$($$python --version) ..."; \
	    break; \
	done
	@.venv-context/bin/python $(PIP_INSTALL) extra_data pyyaml requests
	@touch $@
