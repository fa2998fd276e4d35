# Trenza's commands; `make help` lists them.

PYTHON ?= python3
BIN ?= .venv/bin
PROTO_DIR ?= protos
BENCH ?= chat_concurrency images_concurrency audio_hearing audio_speaking vision_concurrency

# Writes the stubs of the contract in PROTO_DIR into build/stubs.
GENERATE = rm -rf build/stubs && mkdir -p build/stubs && $(BIN)/python -m grpc_tools.protoc -I $(PROTO_DIR) \
	--plugin=$(BIN)/protoc-gen-mypy --plugin=$(BIN)/protoc-gen-mypy_grpc --python_out=build/stubs --grpc_python_out=build/stubs \
	--mypy_out=quiet:build/stubs --mypy_grpc_out=quiet:build/stubs $$(find $(PROTO_DIR) -name '*.proto' | sort)

# A cluster that is there already is only talked to; else there is one to start.
CLUSTER_PROGRAMS = helm $(if $(shell command -v kubectl),,kubectl) $(if $(KUBECONFIG),,etcd kube-apiserver kube-controller-manager \
	kube-scheduler kwok crds prometheus prometheus-adapter)

.DEFAULT_GOAL := help
.PHONY: help run test test-cluster test-images images check proto bench fmt k8s chart-docs clean install install-dev contract chart-tools

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

run: install ## install, build and start the mesh on loopback; Ctrl-C stops it
	@exec $(BIN)/trenza up

test: install-dev chart-tools ## install what tests need and run them; ARGS=… for pytest
	$(BIN)/python -m pytest $(ARGS)

test-cluster: install-dev ## try the chart on a real control plane, or on the cluster of KUBECONFIG; builds what it needs once
	$(BIN)/python tools/binaries.py $(CLUSTER_PROGRAMS)
	TRENZA_CLUSTER=require $(BIN)/python -m pytest tests/cluster $(ARGS)

test-images: install-dev ## fill every image's folder and try what is in it; gigabytes, since PyTorch is among it
	TRENZA_TEST_IMAGES=all $(BIN)/python -m pytest tests/images $(ARGS)

images: ## build every image with Docker; REGISTRY=… TAG=… TARGETS=… (gateway-cpu, chat-cuda …), ARGS=--push
	REVISION=$$(git rev-parse HEAD 2>/dev/null) docker buildx bake $(TARGETS) $(ARGS)

check: install-dev ## linters, types, the contract and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory contract
	$(BIN)/python -m pytest -q tests/unit/workspace

proto: install-dev ## generate the gRPC stubs from protos/
	$(GENERATE)
	@find protos/trenza -name '*_pb2*.py*' -type f -delete && cp -R build/stubs/trenza protos/

bench: install-dev ## measure every service against its peers; BENCH=… for one of bench/, ARGS=… for its options
	@for name in $(BENCH); do $(BIN)/python bench/$$name.py $(ARGS) || exit 1; done

fmt: install-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w protos

k8s: install-dev ## render the chart into k8s/
	$(BIN)/python tools/manifests.py

chart-docs: install-dev ## write docs/chart.md from the chart's values
	$(BIN)/python tools/chart_docs.py

clean: ## remove the environment and everything generated
	rm -rf .venv .trenza build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Lint, format and breaking changes of the contract; then whether the stubs are what the protos say.
contract:
	$(BIN)/buf lint $(PROTO_DIR)
	$(BIN)/buf format -d --exit-code $(PROTO_DIR)
	$(BIN)/buf breaking $(PROTO_DIR) --against protos/released.binpb
	@$(GENERATE)
	diff -r -x '*.proto' -x __pycache__ build/stubs/trenza $(PROTO_DIR)/trenza

# helm and promtool, with which the chart's tests work; built from source the first time, about five minutes.
chart-tools:
	@$(BIN)/python tools/binaries.py helm promtool >/dev/null

install:
	@$(PYTHON) tools/install.py run

install-dev:
	@$(PYTHON) tools/install.py dev
