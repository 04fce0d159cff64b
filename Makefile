# Every target sets up the virtual environment first, where it is missing or out of date.
# `make` prints this list.

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CPU_INDEX := https://download.pytorch.org/whl/cpu
CPU_PINS := "torch>=2.14,<2.15" "torchvision>=0.29,<0.30"
AFFECTORY := $(BIN)/affectory
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The call's own settings: make train MODEL=hjcag DATASET=iemocap. CORPUS is for commands that compute nothing.
CORPUS := $(if $(DATASET),--dataset $(DATASET)) $(if $(ROOT),--root "$(ROOT)") $(if $(PROTOCOL),--protocol $(PROTOCOL)) \
          $(if $(SET),--set "$(SET)")
OPTIONS := $(CORPUS) $(if $(WORKERS),--workers $(WORKERS)) $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(if $(GPUS),--gpus $(GPUS))
SHARED := $(CORPUS) $(if $(MODALITY),--modality $(MODALITY)) $(if $(REMOTE),--remote "$(REMOTE)")

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## make the virtual environment (TORCH=cpu: without 5 GB of CUDA)

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or say PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if [ "$(TORCH)" = cpu ]; then $(BIN)/python -m pip install --quiet --index-url $(CPU_INDEX) $(CPU_PINS); fi
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

.PHONY: demo
demo: $(READY) ## synthetic corpus -> shards -> both models -> report, without a download
	$(AFFECTORY) extract --dataset demo
	$(AFFECTORY) train --dataset demo --model hjcag --model mulg
	$(AFFECTORY) report --dataset demo
	$(AFFECTORY) extract --dataset demo

.PHONY: extract
extract: $(READY) ## features of a corpus: DATASET=iemocap [MODALITY=audio] [ROOT=] [PROTOCOL=official|cv] [LOCKED=1] [RETRY=1]
	$(AFFECTORY) extract $(OPTIONS) $(if $(MODALITY),--modality $(MODALITY)) $(if $(REMOTE),--remote "$(REMOTE)") \
	  $(if $(LOCKED),--locked) $(if $(RETRY),--retry-failed) $(if $(PART),--part $(PART))

.PHONY: plan
plan: $(READY) ## what extract would compute, with time and disk: DATASET=iemocap
	$(AFFECTORY) plan $(CORPUS) $(if $(MODALITY),--modality $(MODALITY))

.PHONY: doctor
doctor: $(READY) ## what is wrong with a corpus's media, before a long run: DATASET=iemocap [ROOT=] [MODALITY=]
	$(AFFECTORY) doctor $(if $(DATASET),--dataset $(DATASET)) $(if $(ROOT),--root "$(ROOT)") $(if $(MODALITY),--modality $(MODALITY)) \
	  $(if $(WORKERS),--workers $(WORKERS)) $(if $(SET),--set "$(SET)")

.PHONY: fetch
fetch: $(READY) ## download a corpus, or say where to ask for it: DATASET=meld [ROOT=]
	$(AFFECTORY) fetch $(if $(DATASET),--dataset $(DATASET)) $(if $(ROOT),--root "$(ROOT)")

.PHONY: weights
weights: $(READY) ## fetch and pin the published weights of a recipe, or of all: [DATASET=iemocap]
	$(AFFECTORY) weights $(if $(DATASET),--dataset $(DATASET)) $(if $(SET),--set "$(SET)")

.PHONY: push
push: $(READY) ## send features to a remote cache: DATASET=iemocap REMOTE=s3://team/affectory [MODALITY=] [NO_TEXT=1] [RELOCK=1]
	$(AFFECTORY) push $(SHARED) $(if $(NO_TEXT),--no-text) $(if $(RELOCK),--relock)

.PHONY: pull
pull: $(READY) ## bring features from a remote cache: DATASET=iemocap REMOTE=s3://team/affectory [MODALITY=] [SPLIT=] [LOCKED=1]
	$(AFFECTORY) pull $(SHARED) $(if $(SPLIT),--split $(SPLIT)) $(if $(LOCKED),--locked)

.PHONY: status
status: $(READY) ## what is cached, to do, failed, of each stage: DATASET=iemocap
	$(AFFECTORY) status $(SHARED)

.PHONY: verify
verify: $(READY) ## read the whole cache and set aside what is damaged: [REMOTE=s3://team/affectory]
	$(AFFECTORY) verify $(if $(REMOTE),--remote "$(REMOTE)")

.PHONY: init-table
init-table: $(READY) ## a table of your own clips, to be filled in: DIR=/my/clips
	$(AFFECTORY) init-table "$(DIR)"

.PHONY: train
train: $(READY) ## train a model on the shards: MODEL=hjcag|mulg [DATASET=] [PROTOCOL=] [SEED=]
	$(AFFECTORY) train $(OPTIONS) $(if $(MODEL),--model $(MODEL)) $(if $(SEED),--seed $(SEED))

.PHONY: report
report: $(READY) ## data/reports/<dataset>.html: [DATASET=]
	$(AFFECTORY) report $(CORPUS)

.PHONY: test
test: $(READY) ## the default suite, about 10 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

.PHONY: test-slow
test-slow: $(READY) ## kill storms and other long tests
	$(BIN)/python -m pytest -m slow $(TESTS)

.PHONY: lint
lint: $(READY) ## check the style; writes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: fix
fix: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: type
type: $(READY) ## mypy, strict
	$(BIN)/mypy

.PHONY: bench
bench: $(READY) ## measure ratios: cache no-op, batching, view reads
	$(BIN)/python -m tests.bench
