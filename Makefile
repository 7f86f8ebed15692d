# Everything is run through here. `make help` lists what there is.
# Needs Python 3.11 to 3.13 (with venv); takes uv where there is one, for it installs faster. `make UV= ...` does without.

UV ?= $(shell command -v uv 2>/dev/null)
WORKERS ?= 2
BIN := .venv/bin
READY := .venv/ready
ifneq ($(UV),)
CREATE := "$(UV)" venv --quiet --seed $(if $(PYTHON),--python "$(PYTHON)")
INSTALL = "$(UV)" pip install --quiet --compile-bytecode --python $(@D)/bin/python
NEEDED := sys
else
CREATE := "$(or $(PYTHON),python3)" -m venv
INSTALL = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check
NEEDED := pip, sys
endif
SUITED = $(@D)/bin/python -c 'import $(NEEDED); sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
PYTEST := $(BIN)/python -m pytest
UNIT := -n $(WORKERS) --dist loadfile tests
NBVAL := $(PYTEST) -p no:cacheprovider --nbval --nbval-current-env --nbval-sanitize-with=tests/nbval_sanitize.cfg -n $(WORKERS) --dist loadfile

# What JAX has compiled is kept for the next notebook and the next test: tests/probes/test_every_model.py takes a quarter of the time.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/build/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

.DEFAULT_GOAL := help
.PHONY: help lab test test-all test-rest env clean lint unit unit-slow unit-backends sync solutions lessons-run
.PHONY: test-hard thorough mutants margins flakes test-browser test-latest test-backends slow-tests coverage bench
.PHONY: lessons reference records site slides lock
.DELETE_ON_ERROR:

# A line that begins with `#:` is a heading of that list.
help: ## this list
	@awk -F ':.*## ' '/^#: / { print "\n" substr($$0, 4) } /^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

lab: $(READY) ## open JupyterLab at lesson 00; ARGS="--no-browser --port=8899" are passed on
	$(BIN)/python -m rnnkit lab $(ARGS)

test: lint unit sync solutions ## the everyday checks: lint, quick unit tests, lessons in step, solutions run

test-all: test test-rest ## every check there is

env: $(READY) ## build .venv from requirements.lock

clean: ## remove the environments and caches
	rm -rf .venv .venv-backends .venv-latest .venv-site .pytest_cache .ruff_cache build

#: Parts of `make test`

lint: $(READY) ## ruff, and which room imports which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

# Without the tests marked slow: those over two CPU seconds.
unit: $(READY) ## quick unit tests on TensorFlow
	KERAS_BACKEND=tensorflow $(PYTEST) -m "not slow and not thorough" $(UNIT)

sync: $(READY) ## are lessons, reference page and ledgers what solutions and docstrings make?
	$(BIN)/python -m rnnkit lessons --check
	$(BIN)/python -m rnnkit reference --check
	$(BIN)/python -m rnnkit records --check

# What a solution trains in its sweeps, its lesson reads; the solutions themselves train it anew each time.
solutions lessons-run test-browser: export RNNKIT_SWEEP_CACHE := $(CURDIR)/build/sweeps

solutions: $(READY) ## run the solutions: same output as stored, all exercises correct
	rm -rf build/sweeps
	RNNKIT_EXPECT=correct $(NBVAL) solutions

#: Parts of `make test-all` besides

test-rest: unit-slow unit-backends lessons-run ## what `make test` leaves out of `make test-all`

unit-slow: $(READY) ## slow unit tests on TensorFlow
	KERAS_BACKEND=tensorflow $(PYTEST) -m "slow and not thorough" $(UNIT)

unit-backends: $(READY) ## unit tests on JAX and torch, where .venv has them
	@for backend in jax torch; do \
		if $(BIN)/python -c "import $$backend" 2>/dev/null; then \
			echo "On $$backend:"; KERAS_BACKEND=$$backend $(PYTEST) -m "not thorough" $(UNIT) || exit; \
		else echo "Skipped on $$backend, which .venv does not have: make test-backends"; fi; done

lessons-run: $(READY) ## run the lessons as students get them: no error, all exercises open
	RNNKIT_EXPECT=open $(NBVAL) lessons

#: For authors: what takes long, or makes something

# Every part is run, though one before it fails; at the end make names those that did.
test-hard: $(READY) ## what takes long: coverage, thorough, mutants, margins, and the notebooks as on another machine; 2 hours
	@date; $(BIN)/python -m rnnkit doctor
	$(MAKE) -j1 --keep-going coverage thorough mutants margins flakes VARIATIONS=other
	@date

thorough: $(READY) ## what `test-all` leaves out for time: combinations, very long runs, interrupts; fuzz and random networks, many more
	KERAS_BACKEND=tensorflow $(PYTEST) -m thorough $(UNIT)
	HYPOTHESIS=thorough KERAS_BACKEND=tensorflow $(PYTEST) -n $(WORKERS) tests/authoring/test_fuzz.py tests/probes/test_properties.py

mutants: $(READY) ## do the tests notice when rnnkit is broken on purpose, in one way after the other?
	PYTHONPATH=tools WORKERS=$(WORKERS) $(BIN)/python -m mutants $(ARGS)

# Not a test either: what fails there is one seed of many. It tells which sentences of the course ask too much.
margins: $(READY) ## the lessons' claims on further seeds, and how much room each has; ARGS="x4 02 06": four rounds of two lessons; ARGS=publish writes docs/reports/margins.md
	PYTHONPATH=tools WORKERS=$(WORKERS) $(BIN)/python -m margins $(ARGS)

# The same notebooks as on other machines: avx2 is a processor without AVX-512, `other` all of it at once.
VARIATIONS ?= one-core omp-1 omp-2 no-onednn avx2
one-core := WORKERS=1 $(if $(shell command -v taskset),taskset -c 0)
omp-1 := OMP_NUM_THREADS=1
omp-2 := OMP_NUM_THREADS=2
no-onednn := TF_ENABLE_ONEDNN_OPTS=0
avx2 := ONEDNN_MAX_CPU_ISA=AVX2 XLA_FLAGS=--xla_cpu_max_isa=AVX2 OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR"
other := $(omp-1) $(no-onednn) $(avx2) $(one-core)
flakes: $(READY) ## every notebook in each of VARIATIONS="one-core omp-1 omp-2 no-onednn avx2", TIMES=1
	@for time in $$(seq $(or $(TIMES),1)); do $(foreach v,$(VARIATIONS),echo "$(v), time $$time:"; \
		env $($(v)) $(MAKE) solutions lessons-run || failed="$$failed $(v)";) done; test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

# The lock is what learners install; this tells early what the next one will bring.
test-latest: ## the tests and notebooks on the newest releases that pyproject.toml allows, whatever the lock says
	rm -rf .venv-latest
	$(MAKE) .venv-latest/ready
	@echo "Newer still, but not allowed:"; .venv-latest/bin/python -m pip list --outdated --disable-pip-version-check
	PYTEST_ADDOPTS="--deselect tests/repository/test_packaging.py::test_the_lock_meets_every_need_and_holds_nothing_besides" \
		$(MAKE) lint unit unit-slow unit-backends solutions lessons-run BIN=.venv-latest/bin READY=.venv-latest/ready

# Nothing fails for being slow: it tells which tests deserve the marker, and which no longer do.
slow-tests: $(READY) ## CPU seconds of each test on TensorFlow, and the tests that are wrongly marked slow or not
	PYTHONPATH=tools KERAS_BACKEND=tensorflow $(PYTEST) -p test_seconds -m "not thorough" $(UNIT)

coverage: $(READY) ## how much of rnnkit its tests run on TensorFlow, lines and branches
	rm -f build/coverage*
	KERAS_BACKEND=tensorflow $(BIN)/python -m coverage run -m pytest -m "not thorough" $(UNIT)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-browser: export KERAS_BACKEND := tensorflow
test-browser: .venv/browser ## the lessons in JupyterLab in a real browser, which has to be there; screenshots in build/browser
	$(PYTEST) tests/browser

test-backends: .venv-backends/ready ## the library's tests on TensorFlow, JAX and torch, in an environment of their own
	@for backend in tensorflow jax torch; do \
		echo "On $$backend:"; KERAS_BACKEND=$$backend .venv-backends/bin/python -m pytest -m "not tensorflow and not thorough" $(UNIT) || exit; done

# Not a test: nothing fails for being slow. Rows on torch and JAX need .venv-backends, some peers the extra bench in it.
bench: $(READY) ## measure against what else one could use, and write docs/reports/benchmarks.md; ARGS=--quick, ARGS=lessons, ARGS=start
	PYTHONPATH=tools $(BIN)/python -m benchmarks $(ARGS)

lessons: $(READY) ## make the lessons from their solutions
	$(BIN)/python -m rnnkit lessons

reference: $(READY) ## make docs/reference.md from the docstrings
	$(BIN)/python -m rnnkit reference

records: $(READY) ## make the ledgers of claims and replications from the solutions' outputs
	$(BIN)/python -m rnnkit records

# Nothing is run: both are made of the outputs that the solutions have stored. Both open without a network.
site slides: .venv-site/ready
	.venv-site/bin/python tools/site $@

site: ## build the executed lessons and the docs as a site, build/site/index.html, and check it
slides: ## build slides of each lesson's key cells, build/slides/index.html, and check them

lock: ## remake the locks after a change in pyproject.toml; ARGS=--upgrade takes newer versions
	@test -n "$(UV)" || { echo "make lock needs uv: python3 -m pip install uv, then make lock UV=path/to/uv"; exit 1; }
	"$(UV)" pip compile pyproject.toml --universal --extra course --extra dev --no-emit-index-url --no-header --no-annotate --quiet -o requirements.lock $(ARGS)
	"$(UV)" pip compile requirements.lock --universal --no-deps --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -o requirements-hashed.lock

# Not in the lock, which every learner installs: Playwright brings 40 MB of a driver of its own.
.venv/browser: .venv/ready
	$(INSTALL) -e ".[browser]"
	@touch $@

# An environment. Its file `ready` tells that it was built from this lock, so that a second run installs nothing.
# One that this recipe did not make is never removed unasked: it may be somebody's, and in use.
PINS := -r requirements.lock
# The lock again, with the hashes of every file. A list of its own: beside hashes, pip refuses a folder like `-e .`.
# (uv compiles all that is there, each time; the second install does it.)
.venv/ready .venv-backends/ready: VERIFIED = $(filter-out --compile-bytecode,$(INSTALL)) --no-deps --require-hashes -r requirements-hashed.lock
.venv-backends/ready: EXTRAS := [jax,torch]
.venv-latest/ready: EXTRAS := [course,dev]
.venv-latest/ready: PINS :=
WANTED = $(PINS) -e ".$(EXTRAS)"
WORKS := rnnkit doctor
# What builds pages trains nothing, so it needs no TensorFlow; what the lock names too has the lock's version.
.venv-site/ready: WANTED := -c requirements.lock -e ".[site]"
.venv-site/ready: WORKS := sphinx --version
.venv/ready .venv-backends/ready .venv-latest/ready .venv-site/ready: requirements.lock pyproject.toml
	@if [ "$$(uname -sm)" = "Darwin x86_64" ]; then \
		echo "TensorFlow has no build for Intel Macs. Run the course in a Linux container or virtual machine, or online."; \
		echo "(On a Mac with an Apple chip: open a terminal that does not run under Rosetta.)"; exit 1; fi
	@if [ ! -e $(@D) ] && mkdir $(@D); then made=yes; echo '$(CREATE) $(@D)'; $(CREATE) $(@D); fi; \
	$(SUITED) || { \
		echo "The course needs Python 3.11, 3.12 or 3.13, with venv and pip; $(@D) has $$($(@D)/bin/python --version 2>/dev/null || echo none)."; \
		if [ "$$made" ]; then rm -rf $(@D); \
			echo "Install one and name it, make lab PYTHON=python3.12, or install uv, which brings its own."; \
		else echo "Remove it with make clean, and try again."; fi; exit 1; } >&2
	$(VERIFIED)
	$(INSTALL) $(WANTED)
	$(@D)/bin/python -m $(WORKS)
	@touch $@
