# `make demo` and `make test` set up all that they need and work on a machine that has only make and Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test tests test-full test-gpu test-lowest test-core docs docs-links fuzz fuzz-kernels soak test-sweep test-writers test-lives test-kills test-machines check study-small \
  wheels wheel-twice test-asan test-tsan test-amx test-arm emulated cross format clean
.DELETE_ON_ERROR:

# Tests start many processes, which import the same files: the first one compiles them for all.
unexport PYTHONDONTWRITEBYTECODE

$(VENV)/ready: pyproject.toml CMakeLists.txt $(wildcard csrc/* csrc/*/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@ls $(VENV)/lib/python*/site-packages/proxconnect/kernels/kernels.so > /dev/null 2>&1 || \
	  echo "The kernels did not compile: packed layers compute with torch. 'pip install --verbose .' says why."
	touch $@

demo: $(VENV)/ready
	$(BIN)/proxconnect demo

# The checks, of which mypy needs one processor for half a minute, run beside the tests.
test: $(VENV)/ready
	$(MAKE) --jobs=2 check tests

PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

tests: $(VENV)/ready build/tests-cpp/ready
	$(PYTEST)

# The tests build these as well, on one processor; if they do not compile, the tests say why.
build/tests-cpp/ready: $(VENV)/ready tests/kernels/programs.py CMakeLists.txt $(wildcard csrc/* csrc/*/*)
	-cd tests && ../$(BIN)/python -m kernels.programs && touch ../$@

# Every case of the tests that otherwise run covering sets of their parameters, and more changed files.
test-full: $(VENV)/ready build/tests-cpp/ready
	$(PYTEST) --full

# What needs a CUDA device, in one process: the tests that otherwise skip themselves.
test-gpu: $(VENV)/ready
	@$(BIN)/python -c "import sys, torch; torch.cuda.is_available() or sys.exit('torch finds no CUDA device')"
	$(BIN)/python -m pytest -m gpu

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site, into build/docs, by what is installed and no network: tutorials run, warnings are errors, pages are held
# against the code. `docs-links` looks at links to elsewhere, which needs a network.
docs: $(VENV)/ready
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --builder html docs build/docs
	cd docs && ../$(BIN)/python -m checks ../build/docs

docs-links: $(VENV)/ready
	$(BIN)/sphinx-build --quiet --builder linkcheck --define nb_execution_mode=off docs build/docs-links

# The tests with the lowest versions that pyproject.toml allows, in an environment of their own: 7 GB, most of it CUDA.
LOWEST := build/lowest/venv

$(LOWEST)/ready: pyproject.toml CMakeLists.txt $(wildcard csrc/* csrc/*/*)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/python -m uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
	  --editable '.[test,docs]'
	touch $@

test-lowest: $(LOWEST)/ready
	$(LOWEST)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# What needs no extra, after a plain `pip install .` in an environment of its own: most of its 7 GB is CUDA.
CORE := build/core/venv

$(CORE)/ready: pyproject.toml CMakeLists.txt $(wildcard csrc/* csrc/*/*)
	$(PYTHON) -m venv --clear $(CORE)
	touch $@

test-core: $(CORE)/ready
	$(CORE)/bin/python -m pip install --quiet --disable-pip-version-check .
	$(CORE)/bin/python tests/misuse/core.py

# Every reader of files under so many changed files, first by chance alone, then guided by what they reach in the code.
FUZZ_RUNS ?= 20000
FUZZ_READERS := packed checkpoint run yaml grid search ledger configuration idx cifar picture parquet gguf

fuzz: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	cd tests && ../$(BIN)/python -m fuzzing.seeded --runs $(FUZZ_RUNS)
	cd tests && for reader in $(FUZZ_READERS); do \
	  ../$(BIN)/python -m fuzzing.guided --reader $$reader --runs $(FUZZ_RUNS) || exit 1; done

# Every network of the sweep from `binarize` to a loaded file, into docs/networks.md; goes on where it was stopped.
test-sweep: $(VENV)/ready
	cd tests && ../$(BIN)/python -m sweep.run

# Every writer of files with every fault of a disk at every call, on full disks (as root), killed and in crowds (Linux, cc).
test-writers: $(VENV)/ready
	cd tests && ../$(BIN)/python -m writing.run

# Lives of binary models by chance, from `binarize` through training, copies and files, against a table of what must hold.
LIVES ?= 2000

test-lives: $(VENV)/ready
	cd tests && ../$(BIN)/python -m lives.run --lives $(LIVES)

# Training that is killed fifty times in each stack, against runs that are not.
test-kills: $(VENV)/ready
	cd tests && ../$(BIN)/python -m kills.run

# Small faults in a copy of COMMIT, one at a time: does a test notice each? Writes docs/development/planted-faults.md;
# goes on where it was stopped.
COMMIT ?= HEAD

.PHONY: test-planted
test-planted: $(VENV)/ready
	cd tests && ../$(BIN)/python -m planted.run --commit $(COMMIT)

# Three random rows of the study of record again (Debian: dataset-fashion-mnist): do they agree with its ledger?
study-small: $(VENV)/ready
	$(BIN)/proxconnect study studies/fashion-mnist/core.yaml --verify 3 --only model=resnet mode=float,BW start=E2E

# Source archive and wheel of this commit for this system and processor, into dist/. The wheel is built from the archive.
wheels:
	rm -rf build/wheels
	git clone --quiet . build/wheels/source
	$(PYTHON) -m venv build/wheels/venv
	build/wheels/venv/bin/python -m pip install --quiet --disable-pip-version-check build
	build/wheels/venv/bin/python -m build --outdir dist build/wheels/source

# Wheel and source archive of this commit, made in two folders, one after the other: the same byte for byte.
wheel-twice: $(VENV)/ready
	rm -rf build/twice
	for place in one another/folder; do \
	  git clone --quiet . build/twice/$$place && mkdir -p build/twice/made/$$place && \
	  (cd build/twice/$$place && made=$(CURDIR)/build/twice/made/$$place && $(CURDIR)/$(BIN)/python -c \
	    "from scikit_build_core import build; build.build_sdist('$$made'); build.build_wheel('$$made')") || exit 1; \
	done
	cd build/twice/made && sha256sum one/* another/folder/*
	diff --recursive build/twice/made/one build/twice/made/another/folder

# The kernels alone: under sanitizers, and for 64-bit ARM under qemu-user (Debian: g++-aarch64-linux-gnu, qemu-user).
SANITIZED := -O1 -g -fno-sanitize-recover=all
# GCC 12 puts vectors of 64 bytes anywhere in frames that AddressSanitizer keeps after their function.
ASAN := ASAN_OPTIONS=detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1

test-asan:
	cmake -S . -B build/asan -DCMAKE_BUILD_TYPE=Debug -DPROXCONNECT_TESTS=ON \
	  -DCMAKE_CXX_FLAGS="$(SANITIZED) -fsanitize=address,undefined"
	cmake --build build/asan --target test_kernels test_memory fuzz_seeded
	$(ASAN) build/asan/test_kernels
	$(ASAN) build/asan/test_memory
	$(ASAN) build/asan/fuzz_seeded 5000

test-tsan:
	cmake -S . -B build/tsan -DCMAKE_BUILD_TYPE=Debug -DPROXCONNECT_TESTS=ON \
	  -DCMAKE_CXX_FLAGS="$(SANITIZED) -fsanitize=thread,undefined"
	cmake --build build/tsan --target test_kernels test_memory
	build/tsan/test_kernels
	build/tsan/test_memory

# AMX's kernels on tiles in software, for which AVX-512 is enough: sanitizers see what tiles read and write.
EMULATED := -DPROXCONNECT_EMULATED_TILES=ON
HAS_AVX512 := $(shell grep -m1 -ow avx512_bitalg /proc/cpuinfo 2>/dev/null)

test-amx:
ifeq ($(HAS_AVX512),)
	@echo "skipped: test_kernels and fuzz_seeded with emulated tiles, which need a processor with AVX-512"
else
	cmake -S . -B build/amx -DCMAKE_BUILD_TYPE=Debug -DPROXCONNECT_TESTS=ON $(EMULATED) \
	  -DCMAKE_CXX_FLAGS="$(SANITIZED) -fsanitize=address,undefined"
	cmake --build build/amx --target test_kernels test_memory fuzz_seeded
	$(ASAN) build/amx/test_kernels amx
	$(ASAN) build/amx/test_memory
	$(ASAN) build/amx/fuzz_seeded 20000
endif

# The library with such tiles: copied to src/proxconnect/kernels/, it lets the tests in Python run AMX's kernels.
emulated:
	cmake -S . -B build/emulated $(EMULATED)
	cmake --build build/emulated --target proxconnect_kernels

# The library for systems that are not at hand: zig is a Clang with the headers and libraries of each.
CROSS := Darwin/aarch64-macos Linux/x86_64-linux-musl Linux/aarch64-linux-gnu Windows/x86_64-windows-gnu

cross: export ZIG_GLOBAL_CACHE_DIR := $(CURDIR)/build/cross/cache
cross: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ziglang
	for system in $(CROSS); do \
	  target=$${system#*/} && CXX="$(CURDIR)/$(BIN)/python -m ziglang c++ -target $$target" \
	    cmake -S . -B build/cross/$$target -DCMAKE_SYSTEM_NAME=$${system%/*} \
	    -DCMAKE_SYSTEM_PROCESSOR=$${target%%-*} -DCMAKE_CXX_FLAGS_RELEASE=-O1 && \
	  cmake --build build/cross/$$target --target proxconnect_kernels || exit 1; done

# Every function of the C interface with so many drawn arguments, in memory of the exact size, each answer held against
# a few lines that say the same: by chance alone, and where there is clang, guided by what they reach in the code.
KERNEL_RUNS ?= 100000
CLANG := $(firstword $(shell for name in clang++ clang++-19 clang++-16 clang++-14; do command -v $$name; done))
FUZZER := $(if $(CLANG),-DPROXCONNECT_LIBFUZZER=ON -DCMAKE_CXX_COMPILER=$(CLANG),-DPROXCONNECT_TESTS=ON)

fuzz-kernels:
	cmake -S . -B build/fuzz -DCMAKE_BUILD_TYPE=Debug $(FUZZER) \
	  -DCMAKE_CXX_FLAGS="$(SANITIZED) -fsanitize=address,undefined"
	cmake --build build/fuzz --target fuzz_seeded $(if $(CLANG),fuzz_guided)
	$(ASAN) build/fuzz/fuzz_seeded $(KERNEL_RUNS)
	mkdir -p build/fuzz/corpus
	$(if $(CLANG),$(ASAN) build/fuzz/fuzz_guided -max_len=128 -len_control=0 -runs=$(KERNEL_RUNS) build/fuzz/corpus)

# Packed networks that answer for MINUTES minutes (Linux): equal bits, flat memory, requests a second; into runs/.
MINUTES ?= 120

soak: $(VENV)/ready
	mkdir -p runs
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES) --log runs/soak.jsonl

test-arm:
	cmake -S . -B build/arm -DPROXCONNECT_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
	cmake --build build/arm
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/arm/test_kernels
	qemu-aarch64 -cpu cortex-a72 -L /usr/aarch64-linux-gnu build/arm/test_kernels neon  # which lacks dot products
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/arm/fuzz_seeded 5000

# The tests that compute, as on other machines: with less of torch, of its libraries and of our kernels.
test-machines: $(VENV)/ready $(if $(HAS_AVX512),emulated)
	cd tests && ../$(BIN)/python -m machines.run

format: $(VENV)/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
