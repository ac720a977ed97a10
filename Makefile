# What people and CI run. Needs Python 3.11+, git, make and a route to a package index; everything goes into .venv.
.PHONY: setup check audit test demo docs clean
.SILENT:
.DELETE_ON_ERROR:

BIN  := .venv/bin
# One process a core, with one thread each: tiny models gain nothing from more.
in_parallel = OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto
fast_tests = $(in_parallel) -m "not slow and not models"
audit = $(BIN)/python .ci/audit .venv/audit constraints.txt
DEMO ?= tilth-demo

setup: .venv/.dev-stamp  ## install tilth with all extras but docs, editable

check: setup  ## lint, types, fast tests, known vulnerabilities
	$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	$(BIN)/basedpyright
	$(fast_tests)
	$(audit)

audit: setup  ## known vulnerabilities of what constraints.txt locks, looked up once a day where that can be done
	$(audit)

test: setup  ## the whole suite, the embedded models included
	$(fast_tests)
	$(in_parallel) -m "slow and not models"
	$(BIN)/pytest -q -m models

demo: .venv/.demo-stamp  ## the whole loop twice on the starter taxonomy, in $(DEMO)
	$(BIN)/tilth demo $(DEMO)

docs: setup  ## write docs/reference from the code
	$(BIN)/python -m tilth.cli.reference

clean:  ## remove what tools leave behind; .venv and workspaces stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# A stamp says which extras .venv holds; the development ones include what the demo needs.
.venv/.dev-stamp: extras := train,teacher,ray,deepspeed,qlora,benchmarks,dev
.venv/.dev-stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(install)
	touch .venv/.demo-stamp $@

.venv/.demo-stamp: extras := train,teacher
.venv/.demo-stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(install)
	touch $@

define install
	echo "installing tilth[$(extras)] into .venv (minutes the first time; log: .venv/pip.log)"
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	  -c constraints.txt -e '.[$(extras)]' >.venv/pip.log 2>&1 </dev/null || { tail -n 15 .venv/pip.log >&2; exit 1; }
endef

# The oldest supported Python first: constraints.txt was resolved with it.
$(BIN)/pip:
	for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	  $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	    exec $$python -m venv .venv; \
	done; echo "make: no Python 3.11 or newer with venv found; install one, such as python3.11 and python3.11-venv" >&2; exit 1
