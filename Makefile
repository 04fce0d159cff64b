# Every target first sets up the virtual environment, if it is missing or out of date.
# `make` prints the list of targets.

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

# A variable becomes an option: make train MODEL=hjcag DATASET=iemocap. A value is quoted if the shell would read more
# in it than a word. $(call option,DATASET) is ` --dataset iemocap`, or nothing; $(call flag,LOCKED) is ` --locked`.
empty :=
comma := ,
space := $(empty) $(empty)
special := ' " ` $$ & | ; < > ( ) [ ] { } * ? ! \ ~ \#
unsafe = $(word 2,$1)$(strip $(foreach character,$(special),$(findstring $(character),$1)))
quote = $(if $(call unsafe,$1),'$(subst ','\'',$1)',$1)
option = $(if $($1),$(space)--$2 $(call quote,$($1)))
flag = $(if $($1),$(space)--$2)
several = $(subst $(space)$(space),$(space),$(foreach value,$($1),$(space)--$2 $(call quote,$(value))))
need = $(if $($1),,$(error $1 is missing: make $@ $2))

# SET holds one setting, or several with semicolons between them: SET="a.b=1; c.d=2". (A value that holds a semicolon
# itself can be given to `affectory --set` only.)
settings = $(if $(SET),$(space)--set $(subst ;,' --set ',$(call quote,$(subst ;$(space),;,$(SET)))))

CORPUS_OR_RELEASE = $(if $(DATASET),$(call option,DATASET,dataset),$(call option,RELEASE,dataset))
DATA = $(CORPUS_OR_RELEASE)$(call option,ROOT,root)
CORPUS = $(DATA)$(call option,PROTOCOL,protocol)$(settings)
# push and pull find a release by its name; to every other command it is a dataset that is here
SHARED = $(call option,DATASET,dataset)$(call option,RELEASE,release)$(call option,ROOT,root)$(call option,PROTOCOL,protocol)$(settings)
ONLY_MODALITY = $(call option,MODALITY,modality)
WORK = $(call option,WORKERS,workers)$(call option,SCHEDULER,scheduler)$(call option,GPUS,gpus)
LIMITED = $(call option,LIMIT,limit)
REMOTES = $(call option,REMOTE,remote)
FAILED = $(call option,STAGE,stage)$(call option,REASON,reason)

# A misspelt variable would be ignored without a word, so a variable that no target reads is refused.
KNOWN := SYSTEM GPU DEVICE MEASURES DATASET ROOT PROTOCOL LABELS LIMIT SET MODALITY WORKERS SCHEDULER GPUS REMOTE LOCKED RETRY PART NO_TEXT NO_MEDIA MEDIA_MB RELOCK SPLIT MODEL SEED MODELS SEEDS ABLATIONS BEST_TEST_EPOCH \
         LOG OVER TRIALS RUN WITHOUT MODALITIES NOISE_DB NOISE WRONG BUNDLE VIDEO AUDIO TEXT SUBTITLES ASR WINDOW_S HOP_S \
         RELEASE NAME VERSION UTTERANCE STAGE REASON REMARKS FOLD SHARD DAYS DELETE DIR ENCODING FORMAT FEATURES TO TESTS TORCH PYTHON VENV CPU_INDEX \
         CPU_PINS
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
unknown := $(filter-out $(KNOWN),$(given))
closest = $(shell $(PYTHON) -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1))' $1 $(KNOWN) 2>/dev/null)
ifneq ($(unknown),)
$(error $(foreach name,$(unknown),no variable $(name): did you mean $(or $(call closest,$(name)),one of $(KNOWN))?))
endif

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## make the virtual environment (TORCH=cpu: without 5 GB of CUDA)

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or say PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if [ "$(TORCH)" = cpu ]; then $(BIN)/python -m pip install --quiet --retries 1 --timeout 15 --index-url $(CPU_INDEX) $(CPU_PINS) || \
		{ echo "$(CPU_INDEX) cannot be reached: name another CPU_INDEX, or leave out TORCH=cpu, which takes 5 GB"; exit 2; }; fi
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

.PHONY: demo
demo: $(READY) ## synthetic corpus -> shards -> both models -> report, without a download
	$(AFFECTORY) extract --dataset demo
	$(AFFECTORY) train --dataset demo --model hjcag --model mulg
	$(AFFECTORY) report --dataset demo
	$(AFFECTORY) extract --dataset demo

.PHONY: extract
extract: $(READY) ## features of a corpus: DATASET=iemocap [MODALITY=audio] [ROOT=] [PROTOCOL=official|cv] [LOCKED=1] [RETRY=1 [STAGE=] [REASON=]] [PART=3/40] [LIMIT=20: dialogues of each split]
	$(AFFECTORY) extract$(CORPUS)$(LIMITED)$(WORK)$(ONLY_MODALITY)$(REMOTES)$(call flag,LOCKED,locked)$(call flag,RETRY,retry-failed)$(FAILED)$(call option,PART,part)

.PHONY: plan
plan: $(READY) ## what extract would compute and why, with time and disk: [DATASET=iemocap] [SET="table.key=value; ..."]
	$(AFFECTORY) plan$(CORPUS)$(LIMITED)$(ONLY_MODALITY)

.PHONY: doctor
doctor: $(READY) ## what is wrong with a corpus's media, before a long run: DATASET=iemocap [ROOT=] [MODALITY=]; or with this machine: SYSTEM=1
	$(AFFECTORY) doctor$(DATA)$(settings)$(ONLY_MODALITY)$(call option,WORKERS,workers)$(call flag,SYSTEM,system)

.PHONY: fetch
fetch: $(READY) ## download a corpus, or say where to ask for it: DATASET=meld [ROOT=]
	$(AFFECTORY) fetch$(DATA)

.PHONY: weights
weights: $(READY) ## fetch and pin the published weights of a recipe, or of all: [DATASET=iemocap]
	$(AFFECTORY) weights$(call option,DATASET,dataset)$(settings)

.PHONY: push
push: $(READY) ## send features to a remote cache: DATASET=iemocap or RELEASE=iemocap-1.0, REMOTE=s3://team/affectory [MODALITY=] [NO_TEXT=1] [RELOCK=1]
	$(AFFECTORY) push$(SHARED)$(ONLY_MODALITY)$(REMOTES)$(call flag,NO_TEXT,no-text)$(call flag,RELOCK,relock)

.PHONY: pull
pull: $(READY) ## bring features from a remote cache: DATASET=iemocap or RELEASE=iemocap-1.0, REMOTE=s3://team/affectory [MODALITY=] [SPLIT=] [LOCKED=1]
	$(AFFECTORY) pull$(SHARED)$(ONLY_MODALITY)$(REMOTES)$(call option,SPLIT,split)$(call flag,LOCKED,locked)

.PHONY: export
export: $(READY) ## features for other tools: FORMAT=mmsa|mmsa_aligned|erc|npz|parquet|csd|webdataset FEATURES=hjcag TO=demo.pkl [DATASET=] [PROTOCOL=cv FOLD=]
	$(call need,FORMAT,FORMAT=mmsa FEATURES=hjcag TO=demo.pkl)
	$(call need,FEATURES,FORMAT=$(FORMAT) FEATURES=hjcag TO=demo.pkl)
	$(call need,TO,FORMAT=$(FORMAT) FEATURES=$(FEATURES) TO=demo.pkl)
	$(AFFECTORY) export $(call quote,$(FORMAT))$(call option,FEATURES,features)$(call option,TO,to)$(CORPUS)$(LIMITED)$(call option,FOLD,fold)$(WORK)

.PHONY: release
release: $(READY) ## name features for good: NAME=iemocap VERSION=1.0 [DATASET=] [REMOTE=s3://team/affectory] [NO_TEXT=1]
	$(call need,NAME,NAME=iemocap VERSION=1.0)
	$(call need,VERSION,NAME=$(NAME) VERSION=1.0)
	$(AFFECTORY) release $(call quote,$(NAME)) $(call quote,$(VERSION))$(call option,DATASET,dataset)$(call option,ROOT,root)$(call option,PROTOCOL,protocol)$(settings)$(REMOTES)$(call flag,NO_TEXT,no-text)

.PHONY: list
list: $(READY) ## the datasets, releases and stages that a remote has: REMOTE=s3://team/affectory
	$(AFFECTORY) list$(REMOTES)

.PHONY: status
status: $(READY) ## how many rows of each stage are cached, to do, failed: DATASET=iemocap
	$(AFFECTORY) status$(CORPUS)$(ONLY_MODALITY)$(REMOTES)

.PHONY: rows
rows: $(READY) ## rows by class and part, beside the published counts, and why others are out: DATASET=iemocap [LABELS=six_7433] [PROTOCOL=]
	$(AFFECTORY) rows$(CORPUS)$(call option,LABELS,labels)

.PHONY: why
why: $(READY) ## the parts of a row's key, and what has changed: UTTERANCE=Ses01F_impro01_F000 STAGE=audio_mfcc [DATASET=] [FOLD=]
	$(call need,UTTERANCE,UTTERANCE=Ses01F_impro01_F000 STAGE=audio_mfcc)
	$(call need,STAGE,UTTERANCE=$(UTTERANCE) STAGE=audio_mfcc)
	$(AFFECTORY) why $(call quote,$(UTTERANCE)) $(call quote,$(STAGE))$(CORPUS)$(call option,FOLD,fold)

.PHONY: explain
explain: $(READY) ## what a shard holds, and how and where it was made: SHARD=<file, or six digits of its digest>
	$(call need,SHARD,SHARD=data/cache/objects/ab/cdef.parquet)
	$(AFFECTORY) explain $(call quote,$(SHARD))

.PHONY: errors
errors: $(READY) ## the utterances without features, with reason, message and file: [DATASET=] [MODALITY=] [STAGE=] [REASON=] [REMARKS=1: remarks on rows instead]
	$(AFFECTORY) errors$(CORPUS)$(ONLY_MODALITY)$(FAILED)$(call flag,REMARKS,remarks)

.PHONY: verify
verify: $(READY) ## read the whole cache and set aside what is damaged: [REMOTE=s3://team/affectory]
	$(AFFECTORY) verify$(REMOTES)

.PHONY: gc
gc: $(READY) ## what nobody has used for 30 days: [DAYS=30] [DELETE=1] [REMOTE=s3://team/affectory]
	$(AFFECTORY) gc$(call option,DAYS,older-than)$(REMOTES)$(call flag,DELETE,delete)

.PHONY: init-table
init-table: $(READY) ## a table of your own clips, to be filled in: DIR=/my/clips [ENCODING=]
	$(call need,DIR,DIR=/my/clips)
	$(AFFECTORY) init-table $(call quote,$(DIR))$(call option,ENCODING,encoding)

.PHONY: train
train: $(READY) ## train a model on the shards: MODEL=hjcag|mulg|mult|... [DATASET=, or RELEASE=iemocap-1.0] [PROTOCOL=] [SEED=] [LIMIT=20] [LOG=tensorboard] [BEST_TEST_EPOCH=1]
	$(AFFECTORY) train$(CORPUS)$(LIMITED)$(WORK)$(call option,MODEL,model)$(call option,SEED,seed)$(call option,LOG,log)$(call option,DEVICE,device)$(call flag,BEST_TEST_EPOCH,best-test-epoch)

.PHONY: table
table: $(READY) ## compare models, scores with intervals and costs: [MODELS="linear mult hjcag"] [SEEDS=5] [ABLATIONS=1] [BEST_TEST_EPOCH=1: also what is chosen on test] [DATASET=] [PROTOCOL=]
	$(AFFECTORY) table$(CORPUS)$(LIMITED)$(WORK)$(call option,MODELS,models)$(call option,SEEDS,seeds)$(call flag,ABLATIONS,ablations)$(call flag,BEST_TEST_EPOCH,best-test-epoch)

.PHONY: sweep
sweep: $(READY) ## try settings, choose on validation, write the winner as a recipe: MODEL=hjcag OVER="train.hjcag.dropout=0.2,0.4" [TRIALS=20] [SEEDS=2] [DATASET=] [PROTOCOL=]
	$(call need,MODEL,MODEL=hjcag OVER="train.hjcag.dropout=0.2$(comma)0.4")
	$(call need,OVER,MODEL=$(MODEL) OVER="train.$(MODEL).dropout=0.2$(comma)0.4")
	$(AFFECTORY) sweep$(call option,MODEL,model)$(call several,OVER,over)$(call option,TRIALS,trials)$(call option,SEEDS,seeds)$(CORPUS)$(LIMITED)$(WORK)

.PHONY: evaluate
evaluate: $(READY) ## a trained run under conditions or on another corpus: RUN=hjcag [WITHOUT="each audio=0.3"] [MODALITIES="text audio"] [NOISE_DB="20 10" [NOISE=/folder]] [SPLIT=] [DATASET=]
	$(call need,RUN,RUN=hjcag WITHOUT=each)
	$(AFFECTORY) evaluate $(call quote,$(RUN))$(call several,WITHOUT,without)$(call option,MODALITIES,modalities)$(call several,NOISE_DB,noise-db)$(call option,NOISE,noise)$(call option,SPLIT,split)$(DATA)$(call option,PROTOCOL,protocol)$(WORK)

.PHONY: rank
rank: $(READY) ## which feature set of a modality is worth most: MODALITY=audio [DATASET=iemocap] [PROTOCOL=cv]
	$(call need,MODALITY,MODALITY=audio DATASET=iemocap)
	$(AFFECTORY) rank$(ONLY_MODALITY)$(CORPUS)$(LIMITED)$(WORK)

.PHONY: bundle
bundle: $(READY) ## one folder of a run, to predict without corpus and cache: RUN=hjcag [TO=hjcag.zip] [FOLD=]
	$(call need,RUN,RUN=hjcag)
	$(AFFECTORY) bundle $(call quote,$(RUN))$(call option,TO,out)$(call option,FOLD,fold)$(call option,ROOT,root)

.PHONY: predict
predict: $(READY) ## what a bundle predicts of new clips: BUNDLE=hjcag.bundle VIDEO=clip.mp4 [TEXT="what is said"] [AUDIO=] [SUBTITLES=] [ASR=org/model] [WINDOW_S=4 [HOP_S=2]] [WORKERS=] [TO=folder]
	$(call need,BUNDLE,BUNDLE=hjcag.bundle VIDEO=clip.mp4)
	$(AFFECTORY) predict $(call quote,$(BUNDLE))$(call option,VIDEO,video)$(call option,AUDIO,audio)$(call option,TEXT,text)$(call option,SUBTITLES,subtitles)$(call option,ASR,asr)$(call option,WINDOW_S,window-s)$(call option,HOP_S,hop-s)$(call option,WORKERS,workers)$(call option,TO,out)

.PHONY: maps
maps: $(READY) ## pictures of a run's attention and gates: RUN=mulg [UTTERANCE=Ses05F_impro01_F004] [WRONG=4] [SPLIT=valid|test|train]
	$(call need,RUN,RUN=mulg)
	$(AFFECTORY) maps $(call quote,$(RUN))$(call option,UTTERANCE,utterance)$(call option,WRONG,wrong)$(call option,SPLIT,split)$(call option,ROOT,root)

.PHONY: report
report: $(READY) ## data/reports/<dataset>.html: [DATASET=] [NO_MEDIA=1] [MEDIA_MB=8]
	$(AFFECTORY) report$(CORPUS)$(call flag,NO_MEDIA,no-media)$(call option,MEDIA_MB,media-mb)

# The files of tests stay in memory if it has 4 GB for them: thousands of small ones are each flushed to the disk.
IN_MEMORY = $(shell { [ "$$(df -k /dev/shm | awk 'NR == 2 {print $$4}')" -gt 4000000 ] && echo TMPDIR=/dev/shm; } 2>/dev/null)

.PHONY: test
test: $(READY) ## the default suite, about 14 minutes on 2 cores
	$(IN_MEMORY) $(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

.PHONY: test-slow
test-slow: $(READY) ## kill storms and other long tests
	$(IN_MEMORY) $(BIN)/python -m pytest -n 2 --dist worksteal -m slow $(TESTS)

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

.PHONY: docs
docs: $(READY) ## the pages of docs/ as a site, data/docs/index.html; a warning is an error
	$(BIN)/python -m typer pipeline.cli.main utils docs --name affectory --title Commands --output docs/commands.md
	$(BIN)/sphinx-build -q -W --keep-going docs data/docs

.PHONY: bench
bench: $(READY) ## measure ratios, hours in all [MEASURES="views media"]; GPU=1: networks on a GPU against its peak [DEVICE=cpu]
	$(BIN)/python -m tests.bench$(if $(GPU),.gpu$(call option,DEVICE,device), $(MEASURES))
