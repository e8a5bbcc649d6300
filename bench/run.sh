#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the attention benchmarks of a build and leaves their CSVs in BUILD/bench: bench/run.sh [BUILD]
# (PyTorch beside ours: python3 bench/peer_sdpa.py BUILD/bin, in an environment that has torch.)
set -eu
build=${1:-build}
mkdir -p "$build/bench"
"$build/bin/bench_peak" | tee "$build/bench/peak.csv"
"$build/bin/attention_growth" | tee "$build/bench/attention_growth.csv"
"$build/bin/nabla" bench attention -o "$build/bench/policies.csv"
