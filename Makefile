# Every command makes what it needs in build/. Choose a Python with
# PYTHON=/path/to/python3; otherwise the newest CPython 3.13 to 3.15 is used.

.DEFAULT_GOAL := help
export PYTHON BUILD ROOM PYTEST_ARGS TEST_JOBS TEST_QUICK DEMO_ARGS BENCH_ARGS SOAK_SECONDS \
SUITE_PART SUITE_ARGS PROGRAMS SEED MACHINE_ARGS

help:
	@echo 'make demo       parse the standard library on every core'
	@echo 'make test       run all tests: C, Python, conformance'
	@echo 'make bench      measure messages and interpreters'
	@echo 'make check      lint, types, warnings, sanitizers'
	@echo 'make docs       the documentation, as build/docs/index.html'
	@echo 'make clean      remove all that was made'
	@echo
	@echo 'make build      build and install into build/venv-<version>'
	@echo 'make test-c     the C tests alone (test-asan, test-tsan: sanitized)'
	@echo 'make test-aarch64   some of the C tests, cross-compiled, under qemu'
	@echo 'make test-py    the Python and conformance tests alone; those of a room'
	@echo '                (or several) with ROOM=frozen: a folder of tests/py'
	@echo 'make test-conformance  the tests of CPython alone'
	@echo 'make test-quick what is quick of all tests, for after each edit'
	@echo 'make test-all   all tests on every CPython that is there'
	@echo 'make test-debug some rooms on a debug build: PYTHON=/path/to/it'
	@echo 'make machine    programs made at random over all of atoll, against a model:'
	@echo '                PROGRAMS=10000 of them, from SEED=1 on; see CONTRIBUTING.md'
	@echo 'make test-py-memory   some of them with debug hooks, and under ASan'
	@echo 'make fit        joblib with scikit-learn, Dask and coverage, on interpreters'
	@echo 'make tools      py-spy, austin, pystack, memray, perf, debugpy see the workers'
	@echo 'make lint       of make check what compiles nothing: a minute'
	@echo 'make stubtest   the types of the extension against what it has'
	@echo 'make package-test    build sdist and wheel, and try them'
	@echo 'make extensions      packages with extension modules; docs/extensions.md'
	@echo 'make extensions-soak the same mixed, for SOAK_SECONDS=300'
	@echo 'make numpy-suite     the tests of NumPy in main and in an interpreter'
	@echo '                     (pandas-suite, scipy-suite)'
	@echo 'make cpython-suite   those of CPython; SUITE_PART=0 to 9 is a tenth of them,'
	@echo '                     SUITE_ARGS="test_json test_re" the modules named'
	@echo 'make pytest-suites   tests of some projects with pytest, xdist and atoll'
	@echo
	@echo 'PYTHON=/path/to/python3 chooses the Python (default: the newest'
	@echo 'CPython 3.13 to 3.15 on PATH or among those of pyenv).'
	@echo 'PYTEST_ARGS="-k name -x" goes to pytest.'

build demo test test-quick test-all test-debug test-c test-py test-conformance \
test-py-memory bench check docs fit tools lint stubtest package-test extensions \
extensions-soak numpy-suite pandas-suite scipy-suite cpython-suite pytest-suites machine:
	@tools/task $@

test-asan:
	@tools/task test-c asan

test-tsan:
	@tools/task test-c tsan

test-aarch64:
	@tools/task test-c aarch64

clean:
	rm -rf build bench/results.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help build demo test test-quick test-all test-debug test-c test-asan test-tsan \
  test-aarch64 test-py test-conformance test-py-memory bench check docs clean fit tools \
  lint stubtest package-test extensions extensions-soak numpy-suite pandas-suite scipy-suite \
  cpython-suite pytest-suites machine
