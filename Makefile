# Two commands are all a reader needs: `make book` and `make test`. Both set up .venv first, and only when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# TORCH=cpu takes the build of PyTorch without CUDA from PyTorch's own index: a third of the size, and all that a machine
# without a graphics card can use.
TORCH ?= any
TORCH_INDEX := https://download.pytorch.org/whl/cpu
export OMP_WAIT_POLICY = PASSIVE
export PYTHONHASHSEED = 0

.PHONY: book install read test quicktest lint types benchmark faults mutants clean

book: $(VENV)/.installed
	$(BIN)/robustbook book

install: $(VENV)/.installed

# The built book as a reader meets it: needs a Chromium on PATH, says so where there is none.
read: $(VENV)/.peers
	$(BIN)/python tests/read_book.py book/_build/html

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# What takes no longer than ten seconds a test.
quicktest: $(VENV)/.peers
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/.peers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/actionlint

types: $(VENV)/.peers
	$(BIN)/mypy

benchmark: $(VENV)/.peers
	$(BIN)/python -m benchmarks --json book/measured/benchmark.json

# The stamp is written last, so that an interrupted installation is repeated.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; say which with make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	grep -vE '^(nvidia|cuda|triton)' requirements.lock > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --extra-index-url $(TORCH_INDEX) -r $(VENV)/requirements.txt
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
endif
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Peer libraries that the tests and benchmarks compare with. Without their dependencies: torchattacks asks for a release
# of requests that nothing else here works with, and runs with the newer one.
$(VENV)/.peers: $(VENV)/.installed tests/peers.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/peers.lock
	touch $@

# Twenty kills of each kind and all other faults; the counts go into the book.
faults: $(VENV)/.peers
	rm -f book/measured/faults.json
	ROBUSTBOOK_FAULTS=$(CURDIR)/book/measured/faults.json ROBUSTBOOK_KILLS=20 OMP_NUM_THREADS=1 $(BIN)/pytest tests/run/test_faults.py

# Changes one sign, comparison or constant of the library at a time: do the tests notice?
mutants: $(VENV)/.peers
	$(BIN)/python tests/mutants.py

clean:
	rm -rf book/_build book/runs .robustbook
