# `make demo` shows it, `make check` is for every change, `make test` is everything, long tests of the scorecard in their
# smoke form; `make scorecard` has them whole. Each makes the environment first.
#   PYTHON=python3.12        another interpreter (3.11 or later)
#   TORCH_INDEX=URL          a wheel index to take PyTorch from, for example one of builds for the CPU only

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := demo
SHAPES := --jaxtyping-packages=scorefield,beartype.beartype
LONG := R03 R04 R05 R09 R10 R12 R13 R15 R19 R21 R23 R25 R26 R27
SHORT := $(filter-out R14 $(LONG),$(shell seq -f R%02g 30))
SHAPED := tests/numerics tests/diffusion tests/evaluation
DUPLICATES := --disable=all --enable=duplicate-code --min-similarity-lines=6 \
	--ignore-imports=y --ignore-signatures=y --ignore-docstrings=y

.PHONY: demo check test scorecard lint duplicates wheel benchmark clean

demo: $(VENV)/installed
	$(BIN)/scorefield fit swissroll --out $(DEMO)/run --budget 30s
	$(BIN)/scorefield sample $(DEMO)/run -n 5000 --out $(DEMO)/samples.csv --force
	$(BIN)/scorefield evaluate $(DEMO)/run
	$(BIN)/scorefield plot $(DEMO)/run
	@echo
	@echo "Look at $(DEMO)/run/figures/overview.png (data, samples, density, score field); the samples are in $(DEMO)/samples.csv"

check: lint
	$(BIN)/python -m pytest --quiet --numprocesses 2 -m "not slow"

test: check
	$(MAKE) --jobs=2 wheel duplicates
	$(BIN)/python -m pytest --quiet --numprocesses 2 --dist loadgroup -m slow
	$(BIN)/python -m pytest --quiet --numprocesses 2 -m "not slow" $(SHAPES) $(SHAPED)
	$(BIN)/scorefield selftest $(SHORT)
	$(BIN)/scorefield selftest --smoke $(LONG)
	$(BIN)/scorefield selftest --prove

lint: $(VENV)/tested
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check --quiet src tests benchmarks
	$(BIN)/mypy

scorecard: $(VENV)/tested
	$(BIN)/scorefield selftest

duplicates: $(VENV)/tested
	$(BIN)/pylint $(DUPLICATES) src tests benchmarks

wheel: $(VENV)/tested
	$(BIN)/python tests/wheel.py

benchmark: $(VENV)/measured
	$(BIN)/python benchmarks/densities.py
	$(BIN)/python benchmarks/samplers.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/memory.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) --editable .
	touch $@

$(VENV)/tested: $(VENV)/installed
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/measured: $(VENV)/installed
	$(PIP) --editable '.[benchmarks]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO)
