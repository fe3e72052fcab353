# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MARK   := $(VENV)/.clbench-installed

.PHONY: demo test lint bench install clean

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

install: $(MARK)

# A torch that is already installed and good enough is used as it is: see scripts/install.py.
$(MARK): pyproject.toml constraints.txt scripts/install.py
	$(PYTHON) scripts/install.py $(VENV)
	touch $(MARK)

clean:
	rm -rf $(VENV) runs
