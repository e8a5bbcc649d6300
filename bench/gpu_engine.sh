#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The engine on a GPU machine that has CUDA's libraries and little else.
#
#     bench/gpu_engine.sh pack                     here: builds, and gathers programs and libraries in build-engine/carry
#     bench/gpu_engine.sh run [OUT [PART]...]      there, in the root of the same tree with build-engine/carry: checks,
#                                                  measures and trains; tables, CSVs and logs in OUT (default: $OUT, or
#                                                  build-engine/out). Parts: ops, models, small, large, guided, train, step,
#                                                  train13, offload, wan (the model in $WAN_MODEL, $WAN_STEPS steps; 4)
#
# A part that fails or takes too long does not stop the others; what became of each is told at the end.
build=build-engine
if [ ! -f bench/gpu_engine.sh ]; then
  echo "gpu_engine.sh: run it in the root of the source tree" >&2
  exit 2
fi

pack() {
  mkdir -p $build || exit 1
  programs="nabla_cli test_ops test_dit test_umt5 test_vae test_generation test_training test_devices"
  # shellcheck disable=SC2086 # words
  cmake -S . -B $build -DNABLA_CUDA=ON -DNABLA_FFMPEG=OFF -DNABLA_SENTENCEPIECE=ON -DNABLA_ONEDNN=OFF -DNABLA_BENCH=OFF \
    -DNABLA_TEST_DATA=tests/data >$build/configure.log 2>&1 || { tail -n 20 $build/configure.log; exit 1; }
  # shellcheck disable=SC2086
  cmake --build $build -j "${JOBS:-$(nproc)}" --target $programs || exit 1
  rm -rf $build/carry
  mkdir -p $build/carry/lib
  for program in nabla ${programs#nabla_cli }; do
    strip -o "$build/carry/$program" "$build/bin/$program" || exit 1
    # what a GPU machine may lack; the C library and OpenMP are there
    ldd "$build/bin/$program" | awk '/jansson|cmocka|sentencepiece|utf8proc/ { print $3 }' | while read -r library; do
      cp -L "$library" $build/carry/lib/ || exit 1
    done || exit 1
  done
  du -sh $build/carry
}

# step NAME SECONDS COMMAND...: everything that it says into NAME.txt
step() {
  name=$1
  seconds=$2
  shift 2
  echo "== $name: $*" >&2
  began=$(date +%s)
  timeout -k 5 "$seconds" "$@" >"$out/$name.txt" 2>&1
  code=$?
  case $code in
  0) result=ok ;;
  124 | 137) result="stopped after $seconds s" ;;
  *) result="failed with code $code" ;;
  esac
  [ "$code" = 0 ] || failed=1
  tail -n 12 "$out/$name.txt" >&2
  summary="$summary$name: $result ($(($(date +%s) - began)) s)
"
}

# Before anything runs: a misspelt part should not cost the minutes of those before it.
check_part() {
  case $1 in
  ops | models | small | large | guided | train | step | train13 | offload) ;;
  wan)
    if [ -z "$WAN_MODEL" ]; then
      echo "gpu_engine.sh: part wan needs a model: name its folder in WAN_MODEL" >&2
      exit 2
    fi
    ;;
  *)
    echo "gpu_engine.sh: there is no part '$1'" >&2
    exit 2
    ;;
  esac
}

run_part() {
  case $1 in
  ops) step ops 40 $carry/test_ops ;;
  models)
    for test in dit devices umt5 vae generation; do
      step $test 20 $carry/test_$test
    done
    ;;
  small) # 1.3B at 480p, 81 frames
    step dit-1.3B 60 $carry/nabla bench dit --size 1.3B --grid 21x30x52 --device cuda --repeat 2 \
      --policies dense,nabla-0.2 -o "$out/dit-1.3B.csv"
    ;;
  large) # 14B at the paper's timing shape
    step dit-14B 110 $carry/nabla bench dit --size 14B --grid 21x48x80 --device cuda --repeat 1 --density 0.148 \
      --policies dense,nabla-0.148 -o "$out/dit-14B.csv"
    ;;
  guided)
    step guided 60 $carry/nabla bench dit --size 14B --grid 21x48x80 --device cuda --repeat 1 --guided \
      --policies nabla-0.075 -o "$out/guided.csv"
    ;;
  train) # the demo's size; the log's last lines have the rate without the start
    for policy in dense nabla-0.4; do
      rm -rf "$out/trained"
      step train-$policy 45 $carry/nabla train -o "$out/trained" --device cuda --steps 100 --batch 64 --size 192x192 \
        --frames 8 --policy $policy --save-every 1000 --log-every 20 --json
      cp "$out/trained/train/log.csv" "$out/train-$policy.csv" && tail -n 2 "$out/train-$policy.csv" >&2
      rm -rf "$out/trained"
    done
    ;;
  train13) # one training step of 1.3B at 480p, 81 frames: 31 GB of weights and optimizer, 11 GB of activations
    step train-1.3B 240 $carry/nabla bench dit --size 1.3B --grid 21x30x52 --device cuda --repeat 2 --backward \
      --activation-checkpointing --density 0.2 --policies dense -o "$out/train-1.3B.csv"
    ;;
  offload) # 14B with its blocks in the host's memory, beside the same with all on the GPU
    step resident-14B 120 $carry/nabla bench dit --size 14B --grid 21x30x52 --device cuda --repeat 1 --density 0.1 \
      --policies dense -o "$out/resident-14B.csv"
    step offload-14B 180 $carry/nabla bench dit --size 14B --grid 21x30x52 --device cuda --repeat 1 --density 0.1 \
      --policies dense --offload -o "$out/offload-14B.csv"
    ;;
  wan) # text to video with the model in $WAN_MODEL (bench/random_wan.py writes one of random weights)
    for policy in dense nabla-0.1; do
      step wan-$policy 90 $carry/nabla generate "a cat on a skateboard" --model "$WAN_MODEL" --device cuda --size 480p \
        --frames 81 --steps "${WAN_STEPS:-4}" --policy $policy --json -o "$out/$policy/"
      rm -rf "${out:?}/$policy"
    done
    ;;
  step) step step-demo 40 $carry/nabla bench dit --size demo --grid 8x24x24 --batch 64 --backward --device cuda \
    --policies dense,nabla-0.4 -o "$out/step-demo.csv" ;;
  esac
}

run() {
  carry=$build/carry
  out=${1:-${OUT:-$build/out}}
  [ $# -gt 0 ] && shift
  [ $# -gt 0 ] || set -- ops models small large train step
  for part; do
    check_part "$part"
  done
  [ -x $carry/nabla ] || { echo "gpu_engine.sh: $carry is not here: pack it first, and carry it" >&2; exit 2; }
  mkdir -p "$out" || exit 1
  LD_LIBRARY_PATH=$PWD/$carry/lib:$LD_LIBRARY_PATH
  NABLA_TEST_DEVICE=cuda
  export LD_LIBRARY_PATH NABLA_TEST_DEVICE
  summary=
  failed=0
  for part; do
    run_part "$part"
  done
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv >"$out/gpu.txt" 2>&1
  printf '\n%s' "$summary" | tee "$out/summary.txt"
  exit $failed
}

mode=$1
[ $# -gt 0 ] && shift
case $mode in
pack) pack ;;
run) run "$@" ;;
*)
  echo "usage: bench/gpu_engine.sh pack | run [OUT [PART]...]" >&2
  exit 2
  ;;
esac
