# Everything here needs Python 3.11 or later and make, as root or as an ordinary user.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup setup-bench demo test check format soak bench screenshots clean

VENV := .venv
# A Python to build the environment with; searched for when empty.
PYTHON ?=
# What else to hand to pytest, such as ARGS="-k retry".
ARGS ?=
# What to measure, such as BENCH="throughput latency --quick"; the default takes ten minutes.
BENCH ?= all --quick

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

help: ## List what make can do here
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Build .venv with the package and all its tools
	@:

demo: setup ## Run 1,000 payments through the payment saga, then audit them (SAGA=order for another; KEEP=1 leaves it running, with a dashboard)
	@$(VENV)/bin/python -m steps.demo $(if $(SAGA),--saga $(SAGA)) $(if $(KEEP),--keep --stay)

test: setup ## Run all tests but the long ones (ARGS="..." goes to pytest)
	@$(VENV)/bin/python -m pytest -n 3 --dist loadgroup -m "not soak" $(ARGS)

check: setup ## Lint, formatting, types, and the import direction of the layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest -q tests/test_layers.py

format: setup ## Format the code and sort its imports
	@$(VENV)/bin/ruff check --select I --fix .
	@$(VENV)/bin/ruff format .

soak: setup ## Run the long tests (ARGS="..." goes to pytest)
	@$(VENV)/bin/python -m pytest -m soak --timeout 3600 $(ARGS)

bench: setup-bench ## Measure the engine beside its yardsticks (BENCH="throughput --quick"; see bin/bench --help)
	@$(VENV)/bin/python -m tests.bench $(BENCH)

screenshots: setup ## Take the pictures in docs/screenshots anew (needs chromium)
	@$(VENV)/bin/python -m tests.browser.screenshots

setup-bench: $(VENV)/.installed-bench
	@:

$(VENV)/.installed-bench: $(VENV)/.installed
	@$(VENV)/bin/python -m pip install -q -e '.[bench]'
	@touch $@

clean: ## Remove .venv and the caches; the data under .outbox stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A Python counts if it runs, is new enough and can make an environment with pip in it.
$(VENV)/.installed: pyproject.toml
	@usable='import sys; sys.exit(0 if sys.version_info >= (3, 11) else 3)'; \
	without_pip=''; found=''; \
	for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	    "$$candidate" -c "$$usable" >/dev/null 2>&1 || continue; \
	    if "$$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; \
	        then found=$$candidate; break; \
	        else without_pip=$$candidate; fi; \
	done; \
	if [ -z "$$found" ] && [ -n "$$without_pip" ]; then \
	    echo "$$without_pip cannot make a virtual environment: its modules venv and ensurepip" >&2; \
	    echo "are missing. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	    echo "No Python 3.11 or later among: $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python)." >&2; \
	    echo "Install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$found" --version) ..."; \
	"$$found" -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install -q -e '.[embedded,web,examples,test,check]'
	@touch $@
