# make demo and make test do everything on a fresh machine with a Python of 3.10 to 3.13. PYTHON=3.13 chooses one
# (requirements/find_python.sh says how).
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: venv demo test test-newest test-slow fuzz lint bench bench-quick pages docs lock release-check clean

venv:
	@requirements/find_python.sh $(VENV) $(PYTHON) >/dev/null
	@$(MAKE) --no-print-directory $(VENV)/.installed

# Packages of the lock file of that Python. pip refuses lava-nc on 3.11 and later; lava-env --here installs it there.
$(VENV)/.installed: $(wildcard requirements/*.lock) pyproject.toml
	@python=$$(requirements/find_python.sh $(VENV) $(PYTHON)) && echo "making $(VENV) with $$python" && \
	{ [ -x $(BIN)/python ] || "$$python" -m venv $(VENV); }
	$(PIP) -r requirements/py$$($(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])').lock
	$(PIP) --no-deps -e .
	$(BIN)/biril lava-env --here
	@touch $@

demo: venv
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh $(OUT)

# A worker for each core, up to MAX_WORKERS (each takes 1 GiB of memory). WORKERS=0: one after the other in one process.
WORKERS ?= auto
MAX_WORKERS ?= 8
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses $(MAX_WORKERS) --dist loadfile --no-loadscope-reorder

test: venv
	$(PYTEST) $(TESTS)

# The newest Python, NumPy and torch, with Lava mended for them: what these can change. All tests: NEWEST_TESTS=tests
NEWEST ?= 3.13
NEWEST_TESTS ?= $(addprefix tests/,arguments/test_checked.py learning/test_expressions.py learning/test_rule.py loihi hw_graph \
	compartments/test_model_records.py data/test_data.py storage/test_platform.py storage/test_storage.py engines/test_engines.py \
	recording/test_decision.py models export/test_from_torch.py export/test_quantize.py export/test_lower_nodes.py \
	export/test_nir_files.py export/test_frameworks.py training/test_phases.py training/test_training.py \
	training/test_integer_kernels.py training/test_integer_scales.py training/test_integers_in_torch.py training/test_quantized_net.py \
	export/test_refused_classes.py parity/test_other_python.py parity/test_lava_parity.py)
test-newest:
	$(MAKE) --no-print-directory test VENV=.venv-$(NEWEST) PYTHON=$(NEWEST) TESTS="$(NEWEST_TESTS)"

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

# BENCH="--only dense sessions": some sections, printed; BENCH=--quick: tests the scripts.
bench: venv
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python benchmarks/simulator.py $(if $(MNIST),--mnist-graph $(MNIST)) $(BENCH)

# Half a minute: ratios to a NumPy loop against those in benchmarks/quick.json; an error at a loss of 30 %.
bench-quick: venv
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 \
	$(BIN)/python benchmarks/quick.py $(QUICK)

# The generated parts of the documentation.
pages: venv
	$(BIN)/python docs/make_tables.py
	$(BIN)/python docs/make_architecture.py
	$(BIN)/python docs/make_moved.py
	$(BIN)/python docs/make_data.py

# The lock file of the Python of VENV, with new packages: make lock VENV=.venv-3.13 (requirements/make_lock.py --upgrade: the newest).
lock: venv
	$(BIN)/python requirements/make_lock.py

# What a release uploads, checked and installed elsewhere on every Python that is here.
release-check: venv
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*
	BIRIL_WHEEL="$$(ls $(CURDIR)/dist/*.whl)" $(BIN)/python -m pytest -m 'slow or not slow' tests/project/test_wheels.py tests/project/test_packaging.py

# The documentation site, with the tutorials executed; warnings are errors. Its packages are those of the extra "docs".
docs: venv
	$(BIN)/python -c "import furo, ipykernel, myst_nb" 2>/dev/null || $(PIP) -e ".[docs,control]"
	$(BIN)/python -m sphinx -W --keep-going -b html docs build/docs
	@echo "open build/docs/index.html"

clean:
	rm -rf $(VENV) .venv-3.1? build dist out *.egg-info
