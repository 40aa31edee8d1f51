# Everything that is done with this project, one target each. CI runs `make lint test`, and nothing else.

CARGO ?= cargo
# With a process a test where nextest is installed, else with the runner that comes with Rust. Half of a test is waiting for servers
# and processes: with one test a core, a third of the time goes by idle.
RUNNER := $(shell $(CARGO) nextest --version >/dev/null 2>&1 \
	&& echo nextest run --test-threads $$((2 * $$(getconf _NPROCESSORS_ONLN))) || echo test --lib --bins --tests)
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Starts the servers that tests share, for as long as the command after it runs. Everything is built first, and once: a
# package built by itself would be built again with the features that its neighbours ask for.
SERVERS = $(CARGO) build --locked --workspace --all-targets && $(TARGET)/debug/with-servers

.DEFAULT_GOAL := help
.PHONY: help build run test unit-tests integration-tests e2e-tests year soak fuzz chaos lint openapi bench up down logs image clean

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | column -t -s '	'

build: ## Build the program as it is released
	$(CARGO) build --release --locked --package allocation

run: ## Serve on SQLite, in allocation.db, at http://localhost:5005
	$(CARGO) run --release --locked --package allocation -- serve

test: ## All tests
	$(SERVERS) $(CARGO) $(RUNNER) --workspace

unit-tests: ## The domain, and the service layer on fakes
	$(CARGO) $(RUNNER) --package allocation-domain --package allocation-service-layer --package allocation-entrypoints

integration-tests: ## Stores: schema, repository, unit of work, event log
	$(SERVERS) $(CARGO) $(RUNNER) --package allocation-adapters

e2e-tests: ## The program as a process
	$(SERVERS) $(CARGO) $(RUNNER) --package allocation

year: ## Replay a year in the life of a warehouse, and print it month by month
	$(SERVERS) $(CARGO) test --workspace --test stores a_year -- --nocapture

soak: export SOAK = 100
# What histories come to does not depend on the disk, and most of their time would be waiting for it.
soak: export TMPDIR := $(shell test -w /dev/shm && echo /dev/shm || echo /tmp)
soak: export FUZZ_SECONDS ?= 300
soak: ## A hundred times the random histories that CI tries, a minute of contention, ten thousand clients that hang up, 20,000 requests of Schemathesis on each store, and the fuzzer five minutes on each target; takes more than two hours
	$(SERVERS) $(CARGO) test --profile soak --workspace --lib --bins --tests the_model
	$(SERVERS) $(CARGO) test --profile soak --workspace --test e2e -- contention hang_up schemathesis
	crates/fuzz/run

fuzz: ## Have a fuzzer look for bytes that a parser can't read, FUZZ_SECONDS (60) for each
	crates/fuzz/run

chaos: export CHAOS = 20
chaos: ## Kill program, brokers and database at every step, 50 times each, under 100,000 commands, lose 20 primaries, and 5 under Patroni, restart copies 20 times, and print what was done; takes half an hour
	$(SERVERS) $(CARGO) test --workspace --test chaos -- --nocapture --test-threads=1

lint: ## Format, clippy, documentation, dependencies, what is in deploy/, instructions of one allocation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --locked --quiet
	./lint/dependencies
	./lint/deploy
	./lint/instructions

openapi: ## Write docs/openapi.json, docs/asyncapi.json and docs/schemas anew
	UPDATE_DOCS=1 $(CARGO) test --quiet --workspace --test e2e in_docs

bench: ## Measure, and print a table
	$(CARGO) build --release --locked --package allocation --package allocation-bench
	$(TARGET)/release/allocation-bench

up: ## The whole system in containers
	docker compose up --build --detach --wait

down: ## Stop it
	docker compose down --remove-orphans

logs: ## What it says
	docker compose logs --follow --tail=100 api consumer

image: ## Lint the Dockerfile, build the image for real and try it; without a Docker engine too
	deploy/image-check.sh

clean: ## Remove what was built
	$(CARGO) clean
