#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds, checks and measures the GPU side on this machine: bench/gpu.sh [FOLDER [PART]...]
# FOLDER takes the CSVs and logs (default build-gpu/bench). Parts: check, bench, ops, peers (default: all, in that order).
# Ops are the engine's device, its operations and products checked, its kernels measured; it builds alone. Peers attend over the lists that bench leaves in
# build-gpu/lists. A part that fails does not stop the others; what became of
# each is told at the end. BUILD (default build-gpu) is the build's folder, BENCH_FLAGS and PEER_FLAGS go to gpu_attention
# and peer_gpu.py, PYTHON is a Python that has torch (default python3).
build=${BUILD:-build-gpu}
out=${1:-$build/bench}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- check bench ops peers
for part; do
  case $part in
  check | bench | ops | peers) ;;
  *)
    echo "gpu.sh: there is no part '$part'; use check, bench, ops or peers" >&2
    exit 2
    ;;
  esac
done
if [ ! -f bench/gpu.sh ]; then
  echo "gpu.sh: run it in the root of the source tree" >&2
  exit 2
fi
mkdir -p "$out" "$build/lists" || exit 1
summary=
failed=0

# step NAME.EXT SECONDS COMMAND...: stdout to that file, which stays where the command fails; stderr to NAME.log and here
step() {
  name=${1%.*}
  file=$1
  seconds=$2
  shift 2
  echo "== $name: $*" >&2
  began=$(date +%s)
  {
    timeout -k 5 "$seconds" "$@" 2>&1 >"$out/$file"
    echo $? >"$out/.code"
  } | tee "$out/$name.log" >&2
  code=$(cat "$out/.code")
  rm -f "$out/.code"
  case $code in
  0) result=ok ;;
  124 | 137) result="stopped after $seconds s" ;;
  *) result="failed with code $code" ;;
  esac
  [ "$code" = 0 ] || failed=1
  [ "$code" = 0 ] || tail -n 15 "$out/$file" >&2
  summary="$summary$name: $result ($(($(date +%s) - began)) s)
"
  return "$code"
}

built=
# build TARGET...: once
build() {
  [ "$built" = "${built#*"$*"}" ] || return
  built="$built $*"
  # shellcheck disable=SC2016 # $1 is the inner shell's
  step build.txt 420 sh -c 'cmake -S . -B "$1" -DNABLA_CUDA=ON -DNABLA_ENGINE=OFF -DNABLA_CMOCKA=OFF && build=$1 && shift &&
    cmake --build "$build" -j "$(nproc)" --target "$@"' build "$build" "$@"
}

# shellcheck disable=SC2086 # the flags are words
for part; do
  case $part in
  check) build test_check_attention gpu_attention; step check.txt 180 "$build/bin/test_check_attention" --level cuda ;;
  bench) build test_check_attention gpu_attention; step bench.csv 150 "$build/bin/gpu_attention" --dump "$build/lists" ${BENCH_FLAGS:-} ;;
  ops)
    build test_ops_cuda test_products_cuda gpu_ops
    step check_ops.txt 120 "$build/bin/test_ops_cuda"
    step check_products.txt 60 "$build/bin/test_products_cuda"
    step ops.csv 120 "$build/bin/gpu_ops"
    ;;
  peers) step peers.csv 300 "${PYTHON:-python3}" bench/peer_gpu.py --lists "$build/lists" ${PEER_FLAGS:-} ;;
  esac
done
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv >"$out/gpu.txt" 2>&1
printf '\n%s' "$summary" | tee "$out/summary.txt"
exit $failed
