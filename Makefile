# Two commands for a fresh machine: `make demo` and `make test`. Each sets up a virtual environment
# of its own in .venv first (several minutes and 6 GB: PyTorch).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all matrix gpu docs lint clean

demo: $(VENV)/.demo
	$(BIN)/captum-infomask demo --stride 14 --out infomask-demo

# What a contributor runs all day: every oracle; no browser, notebook, doctest, Ray, demo or killed
# process.
test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# Everything, doctests and notebooks too.
test-all: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What is about numbers, by processor capability and threads; `make matrix WHOLE=--whole` runs all.
matrix: $(VENV)/.test
	$(BIN)/python .ci/matrix.py $(WHOLE)

# On a machine with a CUDA device; writes docs/results/gpu.md. `make gpu VENV= PYTHON=python3`
# installs nothing: it uses a Python that has torch, torchvision, timm, captum and pytest.
gpu: $(if $(VENV),$(VENV)/.test)
	PYTHONPATH="$(CURDIR):$$PYTHONPATH" $(if $(VENV),$(BIN)/python,$(PYTHON)) examples/benchmarks/gpu.py

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) docs/_build dist infomask-demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
