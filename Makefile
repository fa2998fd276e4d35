# Trenza's commands; `make help` lists them.

PYTHON ?= python3
BIN := .venv/bin
PROTOS = $(sort $(wildcard protos/trenza/*/v1/*.proto))
PROTOC = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos $(foreach kind,python grpc_python mypy mypy_grpc,--$(kind)_out=$(1)) $(PROTOS)

.DEFAULT_GOAL := help
.PHONY: help run test check proto bench fmt clean install install-dev

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

run: install ## install, build and start the mesh on loopback; Ctrl-C stops it
	@exec $(BIN)/trenza up

test: install-dev ## install what tests need and run them
	$(BIN)/python -m pytest

check: install-dev ## linters, types, the contract and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format -d --exit-code && ../$(BIN)/buf breaking --against released.binpb
	$(BIN)/python tools/configuration.py --check
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/workspace

proto: install-dev ## regenerate the gRPC stubs from protos/
	$(call PROTOC,protos)

bench: install-dev ## measure chat throughput; MODEL=… for another GGUF
	$(BIN)/python bench/chat_concurrency.py $(if $(MODEL),--model $(MODEL))

fmt: install-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd protos && ../$(BIN)/buf format -w

clean: ## remove the environment and everything generated
	rm -rf .venv .trenza .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install:
	@$(PYTHON) tools/install.py run

install-dev:
	@$(PYTHON) tools/install.py dev
