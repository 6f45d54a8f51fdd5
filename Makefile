# Everything a fresh clone needs: `make demo` shows it working, `make test` proves it.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
EXTRAS := forecasting,chicago,planning,video,perceptual,imitation,play,runtime,interop,bench,tensorboard,dev
# One thread per test worker: our tensors are small, and threads that wait for each other are slower than one.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile

# No display is needed anywhere, and nobody's PYTHONPATH may put another package in front of ours.
export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
unexport PYTHONPATH

.PHONY: help setup demo browser test check bench format

help:
	@echo "make setup   create .venv and install everything, pinned by constraints.txt"
	@echo "make demo    train on real series in front of you and show the forecasts (minutes)"
	@echo "make test    every test, quick and slow"
	@echo "make check   format, lint, types and the quick tests"
	@echo "make bench   every benchmark, in full"
	@echo "make format  let ruff rewrite the code"

# The stamp makes the second call fast; it is older than its inputs when the dependencies have changed.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "noiseladder needs Python 3.11: make PYTHON=python3.11")'
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	# Its environments and meshes are read, its requirements are not wanted: they break with mujoco 4.
	$(BIN)/python -m pip install --quiet --no-deps ogbench==1.2.2
	touch $(READY)

setup: $(READY)

demo: $(READY)
	$(BIN)/noiseladder demo

# The page is tested in a real browser: Debian's is installed where we may; elsewhere those tests say why they are skipped.
browser:
	@command -v chromium > /dev/null || command -v chromium-browser > /dev/null || command -v google-chrome > /dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update -qq \
			&& DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; } > /dev/null 2>&1 \
		|| echo "no chromium here, so the page is not tested in a browser (apt-get install chromium)"

test: $(READY) browser
	$(TEST) -m "slow or not slow"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(TEST)

bench: $(READY)
	for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark || exit 1; done

format: $(READY)
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
