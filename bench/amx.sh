#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds libnabla, checks and measures level amx on this machine: bench/amx.sh [FOLDER]
# FOLDER takes the CSVs and logs (default build-amx/bench). Needs CMake and a C compiler; PYTHON is a Python that has torch
# for the peer (default python3), THREADS the cores of the second half (default: all), BUILD the build's folder (default
# build-amx), ONLY the names of the steps to run, "build parts" say (default: all). A step that fails does not stop the
# others; what became of each is told at the end. About 2 minutes.
build=${BUILD:-build-amx}
out=${1:-$build/bench}
threads=${THREADS:-$(nproc)}
bin=$build/bin
if [ ! -f bench/amx.sh ]; then
  echo "amx.sh: run it in the root of the source tree" >&2
  exit 2
fi
mkdir -p "$out" || exit 1
summary=
failed=0

# step NAME.EXT SECONDS COMMAND...: stdout to that file and here, stderr to NAME.log
step() {
  name=${1%.*}
  file=$out/$1
  seconds=$2
  shift 2
  case " ${ONLY:-$name} " in *" $name "*) ;; *) return ;; esac
  echo "== $name: $*"
  began=$(date +%s)
  timeout -k 5 "$seconds" "$@" >"$file" 2>"$out/$name.log"
  code=$?
  cat "$file"
  [ $code = 0 ] || tail -20 "$out/$name.log"
  [ $code = 0 ] || failed=1
  summary="$summary$name: exit $code, $(($(date +%s) - began)) s
"
}

lscpu | grep -E 'Model name|^CPU\(s\)|L2|L3|NUMA node\(s\)' | tee "$out/machine.txt"
# shellcheck disable=SC2016 # $1 is the inner shell's
step build.txt 120 sh -c 'cmake -S . -B "$1" -DNABLA_ENGINE=OFF -DNABLA_CMOCKA=OFF -DNABLA_CUDA=OFF >/dev/null &&
  cmake --build "$1" -j "$(nproc)" --target test_check_attention test_tiles bench_peak mask_parts amx_parts \
    amx_gradient_parts >/dev/null' build "$build"
step tiles.txt 20 "$bin/test_tiles"
step check.txt 60 env OMP_WAIT_POLICY=passive "$bin/test_check_attention" --level amx
step peak.csv 10 "$bin/bench_peak"
step peak_all.csv 10 "$bin/bench_peak" "$threads"
step parts.csv 60 "$bin/amx_parts"
step gradient_parts.csv 30 "$bin/amx_gradient_parts"
step perf.csv 20 "$bin/test_check_attention" perf --level amx
step perf_all.csv 20 "$bin/test_check_attention" perf --level amx --threads "$threads"
step mask.csv 10 "$bin/test_check_attention" mask --level amx
step mask_parts.csv 10 "$bin/mask_parts" amx
step peer.csv 40 "${PYTHON:-python3}" bench/peer_sdpa.py "$bin" --level amx --rounds 2
step peer_all.csv 40 "${PYTHON:-python3}" bench/peer_sdpa.py "$bin" --level amx --rounds 2 --threads "$threads"
printf '\n%s' "$summary" | tee "$out/summary.txt"
exit $failed
