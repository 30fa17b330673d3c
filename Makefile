# Two commands do everything: `make demo` and `make test`. Both make the virtual environment first.
#   PYTHON=python3.12        another interpreter (3.11 or later)
#   TORCH_INDEX=URL          a wheel index to take PyTorch from, for example one of builds for the CPU only

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := demo

.PHONY: demo test lint benchmark clean

demo: $(VENV)/installed
	$(BIN)/scorefield fit swissroll --out $(DEMO)/run --budget 30s
	$(BIN)/scorefield sample $(DEMO)/run -n 5000 --out $(DEMO)/samples.csv --force
	$(BIN)/scorefield evaluate $(DEMO)/run
	$(BIN)/scorefield plot $(DEMO)/run
	@echo
	@echo "Look at $(DEMO)/run/figures/overview.png (data, samples, density, score field); the samples are in $(DEMO)/samples.csv"

test: $(VENV)/tested lint
	$(BIN)/python -m pytest --quiet --numprocesses 2
	$(BIN)/scorefield selftest
	$(BIN)/scorefield selftest --prove

lint: $(VENV)/tested
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check --quiet src tests benchmarks
	$(BIN)/mypy

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
