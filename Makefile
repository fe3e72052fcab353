# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MARK   := $(VENV)/.clbench-installed

.PHONY: demo test lint bench ablation ablation-warm ablation-fifty ablation-prompts ranks capacity seeds extension install clean

demo: install  ## compare base, teachers, cascade and CollectionLoRA of world tiny-8; prints the report's path
	$(BIN)/clbench eval --suite demo --world tiny-8 --out runs/demo

test: install  ## the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: install  ## style and types
	$(BIN)/ruff check clbench reference_trainer tests suites
	$(BIN)/pyright

bench: install  ## timings; never part of the tests
	$(BIN)/python -m pytest tests/benchmarks -s -p no:xdist
	$(BIN)/python tests/benchmarks/report_size.py
	$(BIN)/python tests/benchmarks/scoring.py

# Collections of world $(1) by its recipes $(2), which share the stored teacher outputs.
define collections
	mkdir -p runs/$(1)/targets
	for name in $(2); do mkdir -p runs/$(1)/$$name && ln -sfn ../targets runs/$(1)/$$name/targets \
		&& $(BIN)/clbench train --stage collection --recipe $(1)/$$name --world $(1) --out runs/$(1)/$$name || exit 1; done
endef

VARIANTS := $(basename $(notdir $(wildcard reference_trainer/recipes/ablation/*.toml)))

ablation: install  ## train and compare the method without each of its parts: more than an hour
	$(call collections,ablation,$(VARIANTS))
	$(BIN)/clbench eval --suite ablation --world ablation --out runs/ablation/report

STARTS := warm warm-no-aop warm-chosen-triggers
WARMED := $(filter-out $(STARTS),$(basename $(notdir $(wildcard reference_trainer/recipes/ablation-warm/*.toml))))

ablation-warm: install  ## the same from a common warm start: more than an hour
	$(call collections,ablation-warm,$(STARTS) $(WARMED))
	$(BIN)/clbench eval --suite ablation --world ablation-warm --out runs/ablation-warm/report

FIFTY := $(basename $(notdir $(wildcard reference_trainer/recipes/ablation-fifty/*.toml)))

ablation-fifty: install  ## the method without its parts on fifty effects, from the shipped adapter of velocities: about two hours
	$(call collections,ablation-fifty,$(FIFTY))
	$(BIN)/clbench eval --suite ablation --world ablation-fifty --out runs/ablation-fifty/report

PROMPTS := warm warm-no-aop all no-aop

ablation-prompts: install  ## orthogonal prompting on the other effects that act on the whole picture: about an hour
	$(call collections,ablation-prompts,$(PROMPTS))
	$(BIN)/clbench eval --suite ablation --world ablation-prompts --out runs/ablation-prompts/report

RANKS := 4 8 16 32 64

ranks: install  ## train and compare adapters of several ranks for fifty effects
	mkdir -p runs/ranks/targets
	for rank in $(RANKS); do mkdir -p runs/ranks/rank-$$rank && ln -sfn ../targets runs/ranks/rank-$$rank/targets \
		&& $(BIN)/clbench train --stage collection --recipe capacity/rank-$$rank --world ranks --out runs/ranks/rank-$$rank || exit 1; done
	$(BIN)/clbench eval --suite capacity --world ranks --out runs/ranks/report

CROWDS := 5 10 25

capacity: install  ## train and compare adapters of 5, 10 and 25 effects with the shipped one of fifty
	mkdir -p runs/capacity/targets
	for n in $(CROWDS); do mkdir -p runs/capacity/n$$n && ln -sfn ../targets runs/capacity/n$$n/targets \
		&& $(BIN)/clbench train --stage collection --recipe capacity/n$$n --world capacity --candidate n$$n --out runs/capacity/n$$n || exit 1; done
	$(BIN)/clbench eval --suite capacity --world capacity --out runs/capacity/report

seeds: install  ## the whole training of `collection` from another seed, against the shipped one: about two hours
	$(BIN)/clbench train --stage collection --recipe tiny-seed-1 --world tiny --out runs/seeds/seed-1
	$(BIN)/clbench eval --suite headline --world seeds --out runs/seeds/report \
		--system teacher,cascade,collection,collection-seed-1,truth,identity

REPLAYS := replay no-replay

extension: install  ## add ten effects to the shipped adapter, with and without replay, and compare old and new ones
	mkdir -p runs/extension/targets
	for name in $(REPLAYS); do mkdir -p runs/extension/$$name && ln -sfn ../targets runs/extension/$$name/targets \
		&& $(BIN)/clbench train --stage collection --recipe extension/$$name --world extension \
		--extend suites/worlds/tiny/collection.safetensors --out runs/extension/$$name || exit 1; done
	$(BIN)/clbench eval --suite incremental --world extension --out runs/extension/report

install: $(MARK)

# A torch that is already installed and good enough is used as it is: see scripts/install.py.
$(MARK): pyproject.toml constraints.txt scripts/install.py
	$(PYTHON) scripts/install.py $(VENV)
	touch $(MARK)

clean:
	rm -rf $(VENV) runs
