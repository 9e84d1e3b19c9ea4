# make rf     set everything up and make results/tables/rf.csv
# make test   set everything up and run every check
# make test-long  the checks that take minutes: a real Slurm, thirty kills
# make docs  the documentation as a site, in site/
# make benchmark  every benchmark, in five minutes; writes docs/performance.md
# Both may be run again at any time: what is done is not done again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CORES ?= all

.PHONY: help setup rf figures test test-long benchmark docs lint format graph-tool clean

help:
	@sed -n 's/^# //p' Makefile

setup: $(INSTALLED) graph-tool

$(BIN)/python:
	$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

graph-tool: $(INSTALLED)
	@bash tools/install_graph_tool.sh

rf: setup
	$(BIN)/snakemake --cores $(CORES) results/tables/rf.csv

figures: setup
	$(BIN)/snakemake --cores $(CORES)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: setup
	$(BIN)/python -m pytest -m long -s

benchmark: setup
	$(BIN)/python tools/run_benchmarks.py

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

clean:
	rm -rf results logs .snakemake
