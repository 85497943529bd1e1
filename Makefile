# The verbs of the house; CI calls these and nothing else. Each brings what it
# needs and remembers it under .stamps/, so that a second run is quick.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
PYTEST := $(PY) -m pytest
# Most tests wait for something, so three fit on two cores; and one that takes its process
# with it takes no other test along.
PARALLEL := -n 3 --dist loadfile
CORE := setup.py $(shell find fastpath -name '*.pyx' -o -name '*.pxd')
STUBBED := $(subst /,.,$(basename $(shell find fastpath -name '*.pyi')))

##@ Use

.PHONY: run
run: .stamps/install  ## build, then start the sandbox: a small cluster and two of the proxies
	$(VENV)/bin/pyproxy sandbox

##@ Build

.PHONY: compile
compile: .stamps/core  ## build the core in place

.PHONY: debug
debug: .stamps/venv  ## build it in build/debug with invariant checks and annotated HTML
	FASTPATH_DEBUG=1 tools/variant.sh debug $(PY)

.PHONY: wheels
wheels: .stamps/venv  ## wheels for all Pythons in containers, or one for this Python without
	tools/wheels.sh $(PY)

.PHONY: image
image:  ## container image pyproxy:dev
	engine=$$(tools/container_engine.sh) && $$engine build -t pyproxy:dev -f Containerfile .

##@ Test

# The closing list is the union of both passes. DEBUG_PASS=no leaves the second out: the
# sanitizer build has the same invariant checks, and CI has run it by then.
DEBUG_PASS := yes
.PHONY: test
test: .stamps/system-test .stamps/test .stamps/javascript .stamps/install $(if $(filter no,$(DEBUG_PASS)),,debug)  ## the whole suite, then the core's tests on the debug build
	rm -f build/skipped
	PYPROXY_SKIPS=$(CURDIR)/build/skipped $(PYTEST) $(PARALLEL)
	[ "$(DEBUG_PASS)" = no ] || { cd build/debug && \
	    PYPROXY_SKIPS=$(CURDIR)/build/skipped $(CURDIR)/$(PYTEST) $(PARALLEL) -m core; }
	@echo; if [ -s build/skipped ]; then \
	    echo "not run, and why (tests: reason)"; sort build/skipped | uniq; \
	else echo "nothing was skipped"; fi

.PHONY: quicktest
quicktest: .stamps/test .stamps/install  ## unit tests only
	$(PYTEST) $(PARALLEL) \
	    -m "not live and not slow and not adversity and not netns and not root and not cluster"

.PHONY: adversity
adversity: .stamps/system-test .stamps/test .stamps/install  ## the unfriendly ones only
	$(PYTEST) -m adversity

# The interpreter is not instrumented: the runtime comes in by preload, and malloc
# must be the sanitizer's. What CPython never frees is not a leak of ours.
.PHONY: asan
asan: .stamps/system-test .stamps/test .stamps/install  ## the core's tests under address and undefined-behaviour sanitizers
	FASTPATH_SANITIZE=1 tools/variant.sh asan $(PY)
	cd build/asan && \
	    LD_PRELOAD="$$($${CC:-cc} -print-file-name=libasan.so) $$($${CC:-cc} -print-file-name=libubsan.so)" \
	    PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    PYPROXY_TEST_SCALE=$${PYPROXY_TEST_SCALE:-3} \
	    $(CURDIR)/$(PYTEST) $(PARALLEL) -m core

# One run for both: coverage.py watches pyproxy, gcov counts in the core's objects.
.PHONY: coverage
coverage: .stamps/system-test .stamps/test .stamps/coverage .stamps/javascript .stamps/install  ## lines and branches of pyproxy, lines of the core, that no test reaches
	FASTPATH_COVERAGE=1 tools/variant.sh coverage $(PY)
	find build/coverage -name '*.gcda' -delete -o -name '.coverage*' -delete
	cd build/coverage && PYPROXY_TEST_SCALE=$${PYPROXY_TEST_SCALE:-3} \
	    $(CURDIR)/$(PY) -m coverage run --source=$(CURDIR)/pyproxy -m pytest $(PARALLEL) $(ARGS)
	cd build/coverage && $(CURDIR)/$(PY) -m coverage combine --quiet && \
	    $(CURDIR)/$(PY) -m coverage report
	$(PY) -m tools.core_coverage build/coverage

# What hypothesis tests with hundreds of inputs every time, with thousands.
.PHONY: fuzz
fuzz: .stamps/test .stamps/install  ## the property tests with 20,000 inputs each
	$(PYTEST) -m hypothesis --hypothesis-profile=fuzz -o timeout=3600

# Needs clang: the core is compiled with coverage, which shows inputs the way, and with
# the address sanitizer. Of two times that are given, the second one counts.
.PHONY: fuzz-heads
fuzz-heads: .stamps/test .stamps/fuzz .stamps/install  ## heads against llhttp and h11, for 300 s: ARGS="-max_total_time=3600"
	CC=clang LDSHARED="clang -shared" CFLAGS="-fsanitize=address,fuzzer-no-link" \
	    tools/variant.sh fuzz $(PY)
	cd build/fuzz && \
	    LD_PRELOAD="$$($(CURDIR)/$(PY) -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so" \
	    PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	    $(CURDIR)/$(PY) -m tools.fuzz_head -max_total_time=300 $(ARGS)

NAME := relay
.PHONY: bench
bench: .stamps/system-bench .stamps/bench .stamps/peers .stamps/install  ## one layer against its peers: NAME=relay, options in ARGS="--quick"
	$(PY) -m loadtests.$(NAME) $(ARGS)

MODE := apiserver-proxy
.PHONY: load
load: .stamps/bench .stamps/install  ## locust against one mode: MODE=apiserver-proxy, options of locust in ARGS="--web"
	$(PY) -m loadtests.load $(MODE) $(ARGS)

# Outside CI: it takes as long as it is told to, ten minutes unless told otherwise.
.PHONY: soak
soak: .stamps/install  ## minutes of checked load under faults: ARGS="--layer http --minutes 30"
	$(PY) -m loadtests.soak $(ARGS)

##@ Judge

.PHONY: check
check: lint types arch quicktest  ## what a commit must pass

.PHONY: lint
lint: .stamps/lint  ## ruff, cython-lint, codespell
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint fastpath  # looks for pycodestyle there
	$(VENV)/bin/codespell

.PHONY: fmt
fmt: .stamps/lint  ## what lint can mend by itself
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

.PHONY: types
types: .stamps/lint .stamps/test .stamps/bench .stamps/install  ## mypy; stubtest: do the stubs of the core tell the truth?
	$(PY) -m mypy
	$(PY) -m mypy.stubtest fastpath.api.spec fastpath.api.errors $(STUBBED) \
	    --allowlist tests/stubtest.txt --ignore-unused-allowlist

.PHONY: arch
arch: .stamps/lint .stamps/test  ## import contracts and the layout of the core
	$(VENV)/bin/lint-imports
	$(PYTEST) -q tests/test_layout.py

##@ Tidy

.PHONY: clean
clean:  ## remove what was built
	rm -rf build dist wheelhouse *.egg-info
	find fastpath -name '*.c' -delete -o -name '*.so' -delete -o -name '*.html' -delete
	rm -rf .stamps/install .stamps/core .stamps/javascript
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: distclean
distclean: clean  ## and the virtual environment
	rm -rf $(VENV) .stamps

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^##@/ { print substr($$0, 4) } \
	    /^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What the verbs need. Versions live in pyproject.toml and nowhere else.

.stamps:
	mkdir -p .stamps

.stamps/system-%: tools/system.sh tools/find_python.sh | .stamps
	tools/system.sh $*
	touch $@

.stamps/javascript: tools/javascript.sh | .stamps
	tools/javascript.sh
	touch $@

# Made once; a new one is newer than every stamp below, so all of them start anew.
$(VENV)/pyvenv.cfg: | .stamps/system-build
	"$$(tools/find_python.sh)" -m venv --clear $(VENV)

# pip reads dependency groups since 25.1.
.stamps/venv: $(VENV)/pyvenv.cfg pyproject.toml
	$(PIP) 'pip>=25.1'
	$(PIP) $$($(PY) -c 'import tomllib; \
	    print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	touch $@

.stamps/core: $(VENV)/pyvenv.cfg $(CORE) | .stamps/venv
	tools/compile.sh $(PY)
	touch $@

# Not again when the core is rebuilt: an editable install only points here.
.stamps/install: $(VENV)/pyvenv.cfg pyproject.toml | .stamps/core
	FASTPATH_INPLACE=1 PYTHONWARNINGS='ignore:Editable installation' \
	    $(PIP) --no-build-isolation --editable .
	touch $@

GROUPS := .stamps/test .stamps/lint .stamps/bench .stamps/peers .stamps/fuzz .stamps/coverage
$(GROUPS): .stamps/%: $(VENV)/pyvenv.cfg pyproject.toml | .stamps/venv
	$(PIP) --group $*
	touch $@
