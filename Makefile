.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL_PROJECT := $(PIP) install --no-deps --no-build-isolation --editable .
TEST_FLAGS ?=
FUZZ_SECONDS ?= 60
BENCH_FLAGS ?=
SOAK_FLAGS ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/demo.stamp ## Show it all: an SQS of its own, a producer and the exporter (Ctrl-C ends it)
	@$(BIN)/sqs-event-exporter demo

.PHONY: test
test: $(VENV)/dev.stamp ## Run the tests, three files at a time (most of a test is waiting); TEST_FLAGS are pytest's
	$(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder $(TEST_FLAGS)

.PHONY: test-fast
test-fast: $(VENV)/dev.stamp ## Run the unit tests alone: no process, no network, under a minute
	$(BIN)/python -m pytest --numprocesses=2 tests/unit $(TEST_FLAGS)

.PHONY: test-lowest
test-lowest: $(VENV)/dev.stamp ## Run the unit tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	VIRTUAL_ENV=.venv-lowest $(BIN)/uv pip install --quiet --resolution lowest-direct \
	  '.[demo,otlp-grpc,postgres]' 'pytest>=9.0' 'hypothesis>=6.140' 'cryptography>=45.0'
	.venv-lowest/bin/python -m pytest tests/unit $(TEST_FLAGS)

.PHONY: check
check: $(VENV)/dev.stamp ## Check format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	@for part in exporter tests benchmarks charts compose docs fuzz grafana requirements; do \
	  echo "$(BIN)/mypy $$part" && MYPYPATH=$$part:tests $(BIN)/mypy $$part || exit 1; done

.PHONY: format
format: $(VENV)/dev.stamp ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: fuzz
fuzz: $(VENV)/dev.stamp ## Throw bytes at the parser for FUZZ_SECONDS (60); needs atheris, which is not locked
	@$(BIN)/python -c 'import atheris' 2>/dev/null || { echo "atheris is missing: $(BIN)/pip install atheris" >&2; exit 1; }
	$(BIN)/python fuzz/fuzz_parse.py -max_total_time=$(FUZZ_SECONDS)

.PHONY: bench
bench: $(VENV)/dev.stamp ## Measure it beside a boto3 loop, some minutes; BENCH_FLAGS are benchmarks/bench.py's
	PYTHONPATH=tests $(BIN)/python benchmarks/bench.py $(BENCH_FLAGS)

.PHONY: false-alarms
false-alarms: $(VENV)/dev.stamp ## Simulate weeks in which nothing is wrong, and count the alerts that fire, some minutes
	PYTHONPATH=tests $(BIN)/python benchmarks/false_alarms.py

.PHONY: soak
soak: $(VENV)/dev.stamp ## Kill it 2,000 times under a million messages, about a quarter of an hour; SOAK_FLAGS are benchmarks/soak.py's
	$(BIN)/python benchmarks/soak.py $(SOAK_FLAGS)

.PHONY: soak-replicas
soak-replicas: $(VENV)/dev.stamp ## Kill replicas and PostgreSQL 220 times, and 150 speakers under a Prometheus, about an hour
	REPLICA_KILLS=220 SPEAKER_KILLS=50 SCRAPE_INTERVALS=1,15,60 POSTGRES_MODEL_SEEDS=20 $(BIN)/python -m pytest -o faulthandler_timeout=0 \
	  tests/system/test_postgres_replicas.py tests/system/test_postgres_prometheus.py tests/system/test_postgres_model.py $(TEST_FLAGS)

.PHONY: hostile
hostile: $(VENV)/dev.stamp ## Send it a million types, answers of 60 MiB and more generated bodies, about ten minutes
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/system/test_hostile_messages.py tests/system/test_cardinality.py $(TEST_FLAGS)

.PHONY: dashboard
dashboard: $(VENV)/dev.stamp ## Make the Grafana dashboard and the Prometheus rules anew, and the chart's copies of them
	$(BIN)/python grafana/dashboard.py
	$(BIN)/python grafana/rules.py
	$(BIN)/python charts/generate.py

.PHONY: docs
docs: $(VENV)/dev.stamp ## Make the tables of docs/metrics.md and docs/configuration.md and the outputs of docs/tutorial.md anew
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/tutorial.py

.PHONY: chart
chart: $(VENV)/dev.stamp ## Make the chart's README, schema and copies anew
	$(BIN)/python charts/generate.py

.PHONY: dist
dist: $(VENV)/dev.stamp ## Build the wheel into dist/
	$(BIN)/python -m pip --disable-pip-version-check wheel --no-deps --no-build-isolation --wheel-dir dist .

.PHONY: pin-images
pin-images: ## Add their digests to the images of the compose files and the Dockerfile (needs Docker and a network)
	$(PYTHON) compose/pin_images.py

.PHONY: lock
lock: $(VENV)/dev.stamp ## Compile requirements/*.txt from pyproject.toml; versions that fit are kept
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python requirements/lock.py

.PHONY: upgrade
upgrade: $(VENV)/dev.stamp ## Compile requirements/*.txt with the newest versions
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python requirements/lock.py --upgrade

.PHONY: audit
audit: $(VENV)/dev.stamp ## Look for known vulnerabilities in what is locked
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements/dev.txt

.PHONY: sbom
sbom: $(VENV)/dev.stamp ## Write what the exporter is made of to dist/sbom.json (CycloneDX)
	mkdir -p dist
	$(BIN)/python requirements/sbom.py >dist/sbom.json

.PHONY: clean
clean: ## Remove the environment and what tools have left
	rm -rf $(VENV) .venv-lowest dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is not: name another one, as in make PYTHON=python3.12 test" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(BIN)/python
	@echo "Installing requirements/$*.txt into $(VENV)"
	@$(PIP) install --require-hashes --requirement $<
	@$(INSTALL_PROJECT)
	@touch $@
