# SPDX-License-Identifier: Apache-2.0
# A thin door to CMake. On Debian, `make demo` and `make check` install what is missing first.
BUILD ?= build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
PROMPT ?= a red circle moving right
CMAKE_FLAGS ?=

# Under `make -j` targets still go one after the other: a build needs what deps installs. The build itself is parallel.
.NOTPARALLEL:
.PHONY: all demo check deps build install sanitize thread-sanitize fuzz bench format clean help

all: build

help:
	@echo "make            build everything into $(BUILD)/ (needs what 'make deps' installs)"
	@echo "make demo       install what is missing, build, make a video: PROMPT=\"a blue star moving up\" to choose"
	@echo "make check      install what is missing, build, run every test"
	@echo "make install    install to PREFIX=$(PREFIX)"
	@echo "make sanitize   tests under AddressSanitizer and UBSan;  make thread-sanitize  under ThreadSanitizer"
	@echo "make fuzz       fuzz every parser, RUNS=1000000 each (clang)"
	@echo "make bench      attention benchmarks, CSV into $(BUILD)/bench"
	@echo "make format     clang-format our own code;  make clean"

deps:
	@tools/install-deps

build:
	@cmake -S . -B $(BUILD) $(CMAKE_FLAGS) > $(BUILD).log 2>&1 || { cat $(BUILD).log; rm -f $(BUILD).log; exit 1; }
	@mv $(BUILD).log $(BUILD)/configure.log
	@MAKEFLAGS=--no-print-directory cmake --build $(BUILD) -j $(JOBS)

demo: deps build
	@$(BUILD)/bin/nabla generate "$(PROMPT)" -o demo.mp4
	@echo "Open demo.mp4 in any player."

check: deps build
	@ctest --test-dir $(BUILD) --output-on-failure --no-tests=error

install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)

# Some tests ask for more memory than there is: that must fail as it does without the sanitizer.
sanitize:
	@$(MAKE) --no-print-directory build BUILD=$(BUILD)-asan CMAKE_FLAGS="-DNABLA_CUDA=OFF -DNABLA_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo"
	@ASAN_OPTIONS=allocator_may_return_null=1 ctest --test-dir $(BUILD)-asan --output-on-failure --no-tests=error

# clang's OpenMP runtime can tell ThreadSanitizer about its barriers (archer); gcc's cannot.
thread-sanitize:
	@$(MAKE) --no-print-directory build BUILD=$(BUILD)-tsan CMAKE_FLAGS="-DNABLA_CUDA=OFF -DNABLA_SANITIZE=thread -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo"
	@TSAN_OPTIONS=ignore_noninstrumented_modules=1 ctest --test-dir $(BUILD)-tsan --output-on-failure --no-tests=error

fuzz:
	@tests/fuzz/run.sh $(or $(RUNS),1000000)

bench: build
	@bench/run.sh $(BUILD)

format:
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

clean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD).log
