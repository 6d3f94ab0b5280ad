# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check clean

# Made once; made anew when what it depends on changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "synthvlm needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# KenLM comes as source: where there is no compiler its tests are skipped.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt kenlm \
	  2>$(VENV)/kenlm.log || echo "KenLM could not be built here (see $(VENV)/kenlm.log): its tests are skipped"
	touch $@

demo: $(VENV)/.ready
	@n=1; while [ -e "runs/demo-$$(printf %03d $$n)" ]; do n=$$((n + 1)); done; \
	$(BIN)/synthvlm run tiny --out "runs/demo-$$(printf %03d $$n)"

test: $(VENV)/.ready
	$(BIN)/python -m pytest

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
