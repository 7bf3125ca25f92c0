# Each target sets up .venv by itself. PYTHON=python3.11 make ... takes another Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OURS := panda_*.py panda_rl benchmarks docs tests  # and not what a person writes beside them
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: train test docs benchmark constraints

train: $(VENV)/installed
	$(BIN)/python panda_reach_train_agent.py

test: $(VENV)/installed-dev screen
	$(BIN)/ruff check --quiet $(OURS)
	$(BIN)/ruff format --quiet --check $(OURS)
	$(BIN)/mypy --no-error-summary
	$(BIN)/python -m pytest --numprocesses logical --dist worksteal

docs: $(VENV)/installed-dev
	$(BIN)/python -m docs.make_pictures
	$(BIN)/python -m docs.run_notebook

benchmark: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.benchmark

$(VENV)/installed: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else "Python 3.10 to 3.13 is needed, and $(PYTHON) is %d.%d: try PYTHON=python3.11 make ..." % v)'
	@echo "Installing into $(VENV): a minute or two, as PyTorch is large."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --requirement requirements.txt
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@echo "Installing what the tests need."
	@$(BIN)/pip install --quiet --requirement requirements-dev.txt
	@touch $@

# The window and TensorBoard are tested on a virtual screen and in a browser. Without
# them their tests are skipped, and say so; in CI they are installed.
.PHONY: screen
screen:
	@if [ "$(CI)" = true ] && ! (command -v Xvfb && command -v chromedriver) >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq xvfb chromium chromium-driver >/dev/null; fi

# After a change of the requirements: the versions of everything, for CPython 3.10 and later.
constraints: $(VENV)/installed-dev
	sed '/^-/d; / @ /d' requirements.txt requirements-dev.txt | $(BIN)/uv pip compile --quiet \
	  --universal --python-version 3.10 --no-annotate \
	  --custom-compile-command 'make constraints' --output-file constraints.txt -
