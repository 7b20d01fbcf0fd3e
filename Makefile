# make demo and make test do everything on a fresh machine with Python 3.10.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
# The first Python 3.10 that runs: PYTHON=..., python3.10 on PATH, pyenv's, python3.
FIND_PYTHON := for p in "$(PYTHON)" python3.10 $$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.10.*/bin/python3.10 2>/dev/null) python3; do \
	[ -n "$$p" ] && "$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null && { echo "$$p"; break; }; done

.PHONY: venv demo test test-slow fuzz lint bench pages clean

venv: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then echo "Python 3.10 is needed (lava-nc runs on no other); install it or set PYTHON=/path/to/python3.10" >&2; exit 1; fi; \
	echo "making $(VENV) with $$python"; \
	"$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: venv
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh $(OUT)

# A worker for each core, up to MAX_WORKERS (each takes 1 GiB of memory). WORKERS=0: one after the other in one process.
WORKERS ?= auto
MAX_WORKERS ?= 8
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses $(MAX_WORKERS) --dist loadfile --no-loadscope-reorder

test: venv
	$(PYTEST)

test-slow: venv
	$(BIN)/python -m pytest -m slow

# 20,000 damaged files for each reader: FUZZ="--inputs 1000 --reader nir --seed 7" for fewer.
fuzz: venv
	$(BIN)/python -m tests.fuzz $(FUZZ)

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The MNIST rows need BIRIL_DATA and a trained network: README says how out/mnist is made.
MNIST ?= $(if $(BIRIL_DATA),$(wildcard out/mnist/model.loihi.npz))

bench: venv
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python benchmarks/simulator.py $(if $(MNIST),--mnist-graph $(MNIST))

# The generated parts of the documentation.
pages: venv
	$(BIN)/python docs/make_tables.py
	$(BIN)/python docs/make_architecture.py
	$(BIN)/python docs/make_moved.py
	$(BIN)/python docs/make_data.py

clean:
	rm -rf $(VENV) build out *.egg-info
