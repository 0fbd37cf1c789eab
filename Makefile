# Two commands for a newcomer: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := $(VENV)/.dbt-packages
ANALYZER := $(VENV)/.sql-engine
CONTENDERS := .venv-benchmark

.PHONY: benchmark benchmark-setup help packages setup demo up down seed test soak simulate lint format lock docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements/setup.txt requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with make PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/setup.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt requirements/setup.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline -e .
	touch $@

# Elementary's dbt packages: asked for once. Where dbt's package hub cannot be reached, all the rest works without them.
$(PACKAGES): $(STAMP) dbt/observability/packages.yml
	$(BIN)/python -m services.transformer.observability.packages
	touch $@

# Google's SQL engine, compiled for this machine: some 15 seconds, once. `make demo` and `make up` do not wait for it.
$(ANALYZER): $(STAMP)
	$(BIN)/python -m local.googlesql
	touch $@

setup: $(STAMP) $(PACKAGES) $(ANALYZER) ## install everything, pinned, into .venv

packages: $(STAMP) ## install Elementary's dbt packages, or say why not (DBT_PACKAGES_SOURCE=DIR takes them from there)
	$(BIN)/python -m services.transformer.observability.packages --required

demo: $(STAMP) $(PACKAGES) ## the whole pipeline, twice, on this machine, with a summary (about a minute)
	$(BIN)/credix local demo

up: $(STAMP) $(PACKAGES) ## start a stack for development; it runs until `make down`
	$(BIN)/credix local up

down: setup ## stop it
	$(BIN)/credix local down

seed: setup ## fill the running stack's PostgreSQL with sample data
	$(BIN)/credix local seed

test: setup ## all tests, three files at a time (TESTS=tests/unit for some, one at a time)
	$(BIN)/python -m pytest $(or $(TESTS),-n 3 --dist loadfile)

# An environment of their own: what they need must not decide what our services run with.
$(CONTENDERS)/.installed: $(STAMP) requirements/benchmark.txt
	test -x $(CONTENDERS)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(CONTENDERS)
	$(BIN)/uv pip sync --quiet --python $(CONTENDERS)/bin/python --require-hashes requirements/benchmark.txt
	touch $@

benchmark-setup: $(CONTENDERS)/.installed $(PACKAGES) ## install what the benchmark compares with, into .venv-benchmark

benchmark: benchmark-setup ## measure extractor and transformer, dlt and rivet: ratios, in one run (an hour, 10 GB of disk; quiet machine)
	$(BIN)/python -m benchmarks.extraction engines
	$(BIN)/python -m benchmarks.extraction engines --no-upload
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.extraction memory
	$(BIN)/python -m benchmarks.extraction incremental
	$(BIN)/python -m benchmarks.extraction start
	$(BIN)/python -m benchmarks.transformation
	$(BIN)/python -m benchmarks.freshness
	$(BIN)/python -m benchmarks.billing --rows 20000
	$(BIN)/python -m benchmarks.many

soak: setup ## random faults for ten minutes, then source and bronze compared: make soak MINUTES=60 SEED=3
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

simulate: setup ## random schedules of the whole pipeline in one process: make simulate MINUTES=60; MUTANTS=1 puts known faults back
	$(BIN)/python -m tests.simulation $(if $(MUTANTS),--mutants,--minutes $(or $(MINUTES),2))

lint: setup ## ruff, mypy strict, import contracts, sqlfluff, the compiled project by Google's analyzer, schemas of the build files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint dbt/models dbt/tests
	GCP_PROJECT=lint DBT_TARGET_PATH=.credix/lint/target DBT_LOG_PATH=.credix/lint/logs \
		$(BIN)/python -m local.project_check
	$(BIN)/check-jsonschema --builtin-schema vendor.cloudbuild cloudbuild.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml

format: setup ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## write the lock files anew from pyproject.toml
	requirements/lock

clean: ## remove the virtual environment and what the local stack wrote
	-test -x $(BIN)/credix && $(BIN)/credix local down --remove-data
	rm -rf $(VENV) $(CONTENDERS) .credix

docs: setup ## write docs/configuration.md and Terraform's declared tables from the code
	$(BIN)/python -m services.ops.configuration > docs/configuration.md
	$(BIN)/python -m services.ops.warehouse_schema > terraform/modules/warehouse/declared_tables.json
