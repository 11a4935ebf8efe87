# make setup   the virtual environment, once          make test   lint and all tests, at most 15 minutes on 2 cores
# make demo    scenes, training, detection, report     make check  lint and the fast tests, about 3 minutes
# make docs    tables of the documents, from the CSVs  make lint   ruff and mypy
# make bench   how fast it is, against a plain reference (docs/performance.md); BENCH="--quick" for its options
# make fuzz    damaged inputs, kills and faults, for an hour or so; FUZZ="--seed 2 --cases 300 --kills 10" for its options
# make lock    requirements.lock again: the versions and hashes of all that is installed
# make paper-demo   every table and figure of the paper, on a small synthetic HAD100
# make site    the documentation as a site, build/site/index.html
# make dist    sdist and wheel, checked, in dist/
# make portable    the fast tests without those of signals and file modes, for Windows
#
# PYTHON=python3.12 chooses the interpreter (3.10 or later), VENV=/path another environment.
# TORCH_INDEX=https://download.pytorch.org/whl/cpu installs PyTorch for the CPU only: 1.6 GB in all instead of 6.3.
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
DEMO ?= results/demo
BENCH ?=
FUZZ ?=
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal
DEMO_EPOCHS ?= 4
PAPER ?= results/paper-demo
PAPER_OPTIONS ?=
DEMO_TEST = $(BIN)/python test.py --data_path $(DEMO)/dataset --input_channel 50 --checkpoint_dir $(DEMO)/checkpoints
DEMO_NOTE = Made by make demo: $(DEMO_EPOCHS) epochs of both stages on 24 patches of 32 x 32 px, on frozen layers with random \
weights, tested on 12 synthetic scenes. It shows that every part works together. What it gains or loses against the untrained \
control and the plain cube says nothing about real scenes.
export OMP_WAIT_POLICY ?= PASSIVE# threads that wait must not take time from those that work

.PHONY: setup test check portable lint demo paper-demo docs site dist bench fuzz lock clean
.DEFAULT_GOAL := test

# An environment that exists is used as it is, and renewed when the requirements change.
$(VENV)/.installed: pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else f"Python {v[0]}.{v[1]} is too old: 3.10 or later is needed. Choose one: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): PyTorch is large, this takes some minutes the first time."
	@$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --disable-pip-version-check --index-url $(TORCH_INDEX) torch torchvision)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[train,data,export,cluster,gpkg,xarray,dev]"
	@touch $@

setup: $(VENV)/.installed

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

test: lint
	$(BIN)/python -m pytest $(PARALLEL)

check: lint
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# What is left out asks for signals, modes of files or named pipes, which Windows lacks.
portable: setup
	$(BIN)/python -m pytest -m "not slow" $(addprefix --ignore=tests/test_,$(addsuffix .py,campaign commandline compare \
		compare_own download files had100_prepare readers_damaged readers_hostile reproduce resume))

# The main job from nothing: scenes, both stages of training, detection in five settings, a report.
demo: setup
	$(BIN)/fers data synthetic $(DEMO)/background --train 24 --test 0 --size 32
	$(BIN)/fers data synthetic $(DEMO)/dataset --train 0 --test 12
	$(BIN)/python train.py --stage all --data_path $(DEMO)/background --input_channel 50 --backbone random --overwrite \
		--epochs $(DEMO_EPOCHS) --batch_size 4 --checkpoint_dir $(DEMO)/checkpoints --save_dir $(DEMO)/training \
		--train_ratio 0.9
	$(DEMO_TEST) --features original --save_dir $(DEMO)/tests/original
	$(DEMO_TEST) --features untrained --backbone random --save_dir $(DEMO)/tests/untrained
	$(DEMO_TEST) --features spectral --save_dir $(DEMO)/tests/spectral
	$(DEMO_TEST) --fusion A --save_dir $(DEMO)/tests/fusion_a
	$(DEMO_TEST) --fusion B --save_dir $(DEMO)/tests/fusion_b
	@$(BIN)/fers report $(DEMO) --title "FERS on a synthetic benchmark" --note "$(DEMO_NOTE)"

# Every table and figure of the paper by the command that the real data will use, about 10 minutes of one core's time by its
# --plan: few scenes, two epochs, random frozen layers, and fewer iterations of what is trained on each scene.
paper-demo: setup
	$(BIN)/fers data synthetic $(PAPER)/had100 --train 8 --test 6 --size 48
	$(BIN)/fers data synthetic $(PAPER)/abu --train 0 --test 3 --size 48 --sensor aviris --seed 1
	$(BIN)/python reproduce.py all --data $(PAPER)/had100 --abu $(PAPER)/abu --out $(PAPER)/results --backbone random --device cpu \
		--epochs 2 --batch_size 4 --option AE.iterations=20 --option Auto-AD.iterations=51 --option LREN.epochs=2 \
		--option LREN.clusters=3 $(PAPER_OPTIONS)

docs: setup
	$(BIN)/python -m experiments.render

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@

# Links and anchors are strict: one that leads nowhere ends it.
site: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "build/site/index.html"

dist: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check twine check-wheel-contents
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

bench: setup
	$(BIN)/python -m benchmarks.bench $(BENCH)

fuzz: setup
	$(BIN)/python -m campaign $(FUZZ)

lock: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.10 --extra train --extra data --extra export --extra cluster --extra gpkg --extra xarray --extra dev \
		--custom-compile-command "make lock" --upgrade pyproject.toml --output-file requirements.lock

# What tests, demo and tools leave; the environment stays.
clean:
	rm -rf build dist results/demo results/paper-demo .pytest_cache .ruff_cache .mypy_cache
