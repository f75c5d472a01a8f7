# Two commands are enough on a machine with Python >= 3.11 and make: `make demo`, `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   := $(VENV)/.demo
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Labelled addresses that are not committed: `make quality` scores them where they are at hand.
REAL    ?=
# Many tests start processes of their own: two at a time leave two cores some air.
AT_ONCE ?= 2
# Ids of advisories about what this program never calls; each with its reason in SECURITY.md.
UNREACHABLE ?=

.PHONY: demo test test-unit test-slow coverage chaos fuzz check format lint types layers bench bench-quick quality secrets lock audit pin clean help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

# The demo needs a third of what the workshop needs, and compiles what it imports and no more.
$(DEMO): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --no-compile --editable '.[demo]'
	@touch $@

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[dev]'
	@touch $(DEMO) $@

demo: $(DEMO)  ## the main job end to end: embedded Redis and MongoDB, simulated provider, two workers
	@$(BIN)/normalizer demo $(ARGS)

test: $(READY)  ## the tests, on real services that start by themselves; without the slow forms
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal $(ARGS)

test-unit: $(READY)  ## the unit tests, in about a minute
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal tests/unit $(ARGS)

test-slow: $(READY)  ## the slow forms: more kills, more replicas, a provider that crawls
	$(BIN)/python -m pytest -m slow $(ARGS)

chaos: $(READY)  ## kills, stops, freezes, partitions, restarts over one import: SEED=7 ROWS=20000
	$(BIN)/python -m tests.acceptance.chaos --rows $(or $(ROWS),20000) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: $(READY)  ## API, uploads and Redis keys fuzzed: SECONDS=300; no 500, no leak, no worker dies
	$(BIN)/python -m tests.acceptance.fuzz --seconds $(or $(SECONDS),300) $(ARGS)

check: lint types layers test  ## format, lint, types, layers, dependencies, tests: what .ci/run runs

coverage: $(READY)  ## the tests with branch coverage
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal --cov --cov-report=term:skip-covered $(ARGS)

format: $(READY)  ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports
	$(BIN)/deptry .

quality: $(READY)  ## scores of the rules on the labelled sets; fails on a regression
	$(BIN)/python -m benchmarks.quality $(addprefix --real ,$(wildcard $(REAL))) $(ARGS)

bench: $(READY)  ## what a row, the queue, a sheet and a large import cost here: benchmarks/results/ (half an hour)
	$(BIN)/python -m benchmarks.rules
	$(BIN)/python -m benchmarks.queue
	$(BIN)/python -m benchmarks.rows
	$(BIN)/python -m benchmarks.cost --out benchmarks/results/cost.json
	$(BIN)/python -m benchmarks.imports

bench-quick: $(READY)  ## the same in small, in some minutes; writes nothing
	$(BIN)/python -m benchmarks.rules --seconds 1
	$(BIN)/python -m benchmarks.queue --quick --out /dev/null
	$(BIN)/python -m benchmarks.rows --rows 1000 --rounds 1 --out /dev/null
	$(BIN)/python -m benchmarks.cost --rows 1000 --sample 50
	$(BIN)/python -m benchmarks.imports --rows 2000 --out /dev/null

secrets:  ## draw what .env lacks of the passwords and keys that docker-compose.yml asks for
	@touch .env && chmod 600 .env
	@for name in MONGO_PASSWORD REDIS_PASSWORD API_KEYS CACHE_SECRET GRAFANA_PASSWORD; do \
	  grep -q "^$$name=." .env || { sed -i.bak "/^$$name=$$/d" .env && rm -f .env.bak; \
	  printf '%s=%s\n' $$name $$($(PYTHON) -c 'import secrets; print(secrets.token_hex(32))') >> .env; }; done

lock: constraints.txt  ## write requirements.lock, what the image installs, with hashes; needs uv
	{ sed -n 1p requirements.lock; echo 'hatchling>=1.27' | uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --constraint constraints.txt \
	  --extra otel --extra sentry pyproject.toml -; } > requirements.new
	mv requirements.new requirements.lock

audit: $(READY)  ## known vulnerabilities of what the image installs; asks OSV over the network, so no part of `make check`
	$(PIP) pip-audit==2.10.1
	$(BIN)/pip-audit --vulnerability-service osv --require-hashes --disable-pip --requirement requirements.lock \
	  $(addprefix --ignore-vuln ,$(UNREACHABLE)) $(ARGS)

pin:  ## write the digests that the images' tags have now into Dockerfile and docker-compose.yml; needs docker
	@images=$$(sed -nE 's/^(ARG PYTHON_IMAGE=|    image: )([a-z0-9.\/-]+:[a-z0-9.-]+)(@sha256:.*)?$$/\2/p' \
	  Dockerfile docker-compose.yml | sort -u); \
	for image in $$images; do \
	  digest=$$(docker buildx imagetools inspect "$$image" --format '{{.Manifest.Digest}}') || exit 1; \
	  sed -i.bak -E "s#($$image)(@sha256:[0-9a-f]{64})?\$$#\1@$$digest#" Dockerfile docker-compose.yml || exit 1; \
	  echo "$$image $$digest"; \
	done; rm -f Dockerfile.bak docker-compose.yml.bak

clean:  ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov build dist
