# `make test` and `make demo` set up everything they need; both are quick the second time.
# Needs Python >= 3.11 with pip, and make. Another Python: make PYTHON=/path/to/python test

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.nstd-ready
PYTEST = $(BIN)/python -m pytest -rs

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format types layers unit clean \
  flood-test crash-test hostile-test mounts-test producers-test resume-test soak-test bench

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1    \2/p' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv with nstd and the development tools

$(READY): pyproject.toml tools/setup_venv.py tools/find_python.sh
	@python=$$(sh tools/find_python.sh $(PYTHON)) && "$$python" tools/setup_venv.py

demo: $(READY)  ## Paint a sample photograph end to end through a real daemon
	@$(BIN)/nstd demo

test: lint types layers unit  ## Lint, strict types, import layers, tests

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

unit: $(READY)
	$(PYTEST) -m "not slow"

flood-test: $(READY)  ## 1,000 photographs at once, each painted exactly once (NSTD_FLOOD=100: fewer)
	$(PYTEST) -m slow tests/flood

crash-test: $(READY)  ## Killed, or refused by the disk, at every call and any instant (NSTD_KILLS=2000: more)
	NSTD_CRASH_EVERY=$${NSTD_CRASH_EVERY:-1} $(PYTEST) --timeout 3600 --durations 5 \
	  tests/jobs/test_crash.py tests/service/test_crashes.py tests/workers/test_task_crash.py
	$(PYTEST) -m slow tests/crash
	$(BIN)/python -m tests.crash.kill $${NSTD_KILLS:-300} $${NSTD_SEED:-1}

mounts-test: $(READY)  ## Folders really unmounted, disks really full, no watches left to have
	$(PYTEST) -m slow tests/service/test_namespaces.py

resume-test: $(READY)  ## The real engine, killed while it steps, ends with the same bytes (NSTD_KILLS=100: more)
	$(PYTEST) -m slow tests/workers
	$(BIN)/python -m tests.crash.steps $${NSTD_KILLS:-5} $${NSTD_SEED:-1}

producers-test: $(READY)  ## Real programs write into the inbox: each photograph is taken once, and whole
	$(PYTEST) -m "slow or not slow" tests/service/test_producers.py tests/service/test_syncthing.py

soak-test: $(READY)  ## Hundreds of small jobs of changing shapes: nothing grows (NSTD_SOAK=3000: more)
	$(BIN)/python -m tests.soak.run $${NSTD_SOAK:-300} standin
	$(BIN)/python -m tests.soak.run $${NSTD_SOAK_REAL:-60} builtin

hostile-test: $(READY)  ## Bombs, lies, mutated pictures and sidecars (NSTD_FUZZ=100000: more; NSTD_SEED: others)
	$(PYTEST) -m "slow or not slow" tests/hostile
	$(BIN)/python -m tests.hostile.images.fuzz $${NSTD_FUZZ:-10000} $${NSTD_SEED:-1}
	$(BIN)/python -m tests.hostile.sidecars.fuzz $${NSTD_FUZZ:-10000} $${NSTD_SEED:-1}

bench: $(READY)  ## Every benchmark (an hour and more): make bench BENCH='--weights FILE --images FOLDER'
	for each in steps_per_second memory_by_size throughput time_to_quality; do \
	  $(BIN)/python benchmarks/$$each.py $(or $(BENCH),--weights builtin) || exit; \
	done

format: $(READY)  ## Format the code, mend what the linter can, write the documents' tables
	$(BIN)/python -m tools.write_docs
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:  ## Remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
