#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tests/fuzz/run.sh [RUNS] [NAME...]: fuzzes with clang's libFuzzer, address and undefined-behaviour sanitizers.
# Seeds are read from tests/fuzz/corpus, what is found goes to build-fuzz/ (crashes too: crash-*).
set -eu
cd "$(dirname "$0")/../.."
runs=${1:-1000000}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- clean config index policy pth safetensors state
clang=${CLANG:-$(command -v clang || command -v clang-14)}

sources() {
    case $1 in
    clean) echo src/text/clean.c src/text/chars.c src/text/entities.c src/tensor/error.c ;;
    config) echo src/weights/config.c src/weights/config_vae.c src/weights/json.c src/weights/file.c src/text/words.c src/text/words_file.c \
        src/tensor/error.c ;;
    policy) find src/attention -name '*.c' ! -path '*/cpu/avx*' ! -path '*/cpu/amx*' ! -path '*/cuda/*' ;;
    pth) echo src/weights/set*.c src/weights/pth.c src/weights/pickle*.c src/weights/zip.c src/weights/map.c \
        src/weights/safetensors.c src/weights/safetensors_convert.c src/weights/json.c src/weights/file.c \
        src/tensor/error.c tests/zip_build.c ;;
    index) echo src/weights/set*.c src/weights/pth.c src/weights/pickle*.c src/weights/zip.c src/weights/map.c \
        src/weights/safetensors*.c src/weights/json.c src/weights/file.c src/tensor/error.c ;;
    state) echo src/video/latent_file.c src/video/sample_state.c src/video/files.c src/tensor/memory.c src/tensor/error.c \
        src/weights/safetensors*.c src/weights/map.c src/weights/file.c ;;
    safetensors) echo src/weights/safetensors.c src/weights/safetensors_convert.c src/weights/map.c src/tensor/error.c ;;
    *) echo "unknown fuzzer: $1" >&2 && exit 2 ;;
    esac
}

for name in "$@"; do
    mkdir -p "build-fuzz/$name"
    dict=tests/fuzz/$name.dict
    [ -f "$dict" ] || dict=tests/fuzz/json.dict
    # shellcheck disable=SC2046
    "$clang" -std=c11 -g -O1 -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        -Iinclude -Isrc -Isrc/attention -Itests -o "build-fuzz/fuzz_$name" "tests/fuzz/fuzz_$name.c" $(sources "$name") -ljansson -lutf8proc -lm -fopenmp
    "build-fuzz/fuzz_$name" -runs="$runs" -max_len=4096 -print_final_stats=1 -verbosity=0 -dict="$dict" \
        -artifact_prefix="build-fuzz/$name-" "build-fuzz/$name" "tests/fuzz/corpus/$name"
done
