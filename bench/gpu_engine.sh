#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The engine on a GPU machine that has CUDA's libraries, a Python with torch, and little else.
#
#     bench/gpu_engine.sh pack                     here: builds, and gathers programs, libraries and the random models'
#                                                  headers in build-engine/carry, about 55 MB
#     bench/gpu_engine.sh run [OUT [PART]...]      there, in the root of the same tree with build-engine/carry: checks,
#                                                  measures and trains; tables, CSVs and logs in OUT (default: $OUT, or
#                                                  build-engine/out). What became of each step is told as it ends
#     bench/gpu_engine.sh unpack                   there: only unpacks, and says how to start nabla
#
# Parts: check (every test that a GPU takes part in), small, large, guided, replay, train, train48 (short steps),
# step, train13 (a training step of 1.3B), offload, and with random weights, prompt to mp4: wan (1.3B at 480p, 81
# frames, $WAN_STEPS steps; 50), wan14 (14B at 720p, 81 frames, a few steps). Both run dense and $WAN_POLICY
# (nabla-0.17: about a tenth of the blocks) and put their model into $WAN_FOLDER (/dev/shm) meanwhile.
# PYTHON is a Python with torch (python3), and here one with diffusers and transformers too.
#
# A part that fails or takes too long does not stop the others.
build="build-engine"
carry=$build/carry
there=$build/there
python=${PYTHON:-python3}
if [ ! -f bench/gpu_engine.sh ]; then
  echo "gpu_engine.sh: run it in the root of the source tree" >&2
  exit 2
fi

# ------------------------------------------------------------------ here

attention_tests="check_attention cuda cuda_plan"
engine_tests="accumulate ops products_cuda dit devices umt5 vae train training distill resume repeat sampler denoise generation pipeline"

# FFmpeg's libraries and all that they need in turn; the C library, C++'s and OpenMP are there.
list_libraries() {
  for program in $build/bin/nabla $build/bin/test_dit; do
    ldd "$program" | awk '$3 ~ "^/" { print $3 }'
  done | sort -u | grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv|libgcc_s|libstdc\+\+|libgomp)\.so'
}

# Compressing them takes minutes: only where they changed.
pack_libraries() {
  list_libraries | xargs ls -lL >$build/libraries.now || return 1
  if ! cmp -s $build/libraries.now $build/libraries.txt || [ ! -f $build/libraries.tar.xz ]; then
    list_libraries | sed 's|^/||' | tar -C / -chf - --transform 's|.*/||' -T - | xz -T0 -6 >$build/libraries.tar.xz || return 1
    mv $build/libraries.now $build/libraries.txt || return 1
  fi
  cp $build/libraries.tar.xz $carry/
}

pack() {
  mkdir -p $build || exit 1
  targets=nabla_cli
  for test in $attention_tests $engine_tests; do
    targets="$targets test_$test"
  done
  cmake -S . -B $build -DNABLA_CUDA=ON -DNABLA_FFMPEG=ON -DNABLA_SENTENCEPIECE=ON -DNABLA_ONEDNN=OFF -DNABLA_BENCH=OFF \
    -DNABLA_TEST_DATA=tests/data >$build/configure.log 2>&1 || { tail -n 20 $build/configure.log; exit 1; }
  # shellcheck disable=SC2086 # words
  cmake --build $build -j "${JOBS:-$(nproc)}" --target $targets || exit 1
  rm -rf $carry $build/stripped
  mkdir -p $carry $build/stripped || exit 1
  for program in ${targets#nabla_cli } nabla; do
    strip -o $build/stripped/"$program" $build/bin/"$program" || exit 1
  done
  tar -C $build/stripped -cf - . | xz -6 >$carry/programs.tar.xz || exit 1
  pack_libraries || exit 1
  for size in 1.3B 14B; do
    "$python" bench/random_wan.py headers $carry/wan-$size $size || exit 1
  done
  du -sh $carry
}

# ------------------------------------------------------------------ there

# What there is, and whether it starts.
unpack() {
  [ -f $carry/programs.tar.xz ] || { echo "gpu_engine.sh: $carry is not here: pack it first, and carry it" >&2; exit 2; }
  rm -rf $there
  mkdir -p $there/bin $there/lib || exit 1
  for pair in programs:bin libraries:lib; do # tar lacks xz on some machines
    tar -xJf "$carry/${pair%:*}.tar.xz" -C "$there/${pair#*:}" 2>/dev/null ||
      "$python" -m tarfile -e "$carry/${pair%:*}.tar.xz" "$there/${pair#*:}" || exit 1
  done
  LD_LIBRARY_PATH=$PWD/$there/lib:$LD_LIBRARY_PATH $there/bin/nabla info ||
    { echo "gpu_engine.sh: nabla does not start here, for the reason above (what was packed needs glibc 2.36)" >&2; exit 1; }
}

# step NAME SECONDS COMMAND...: everything that it says into NAME.txt
step() {
  name=$1
  seconds=$2
  shift 2
  began=$(date +%s)
  timeout -k 5 "$seconds" "$@" >"$out/$name.txt" 2>&1
  code=$?
  case $code in
  0) result=ok ;;
  124 | 137) result="stopped after $seconds s" ;;
  *) result="failed with code $code" ;;
  esac
  line="$name: $result ($(($(date +%s) - began)) s)"
  echo "$line" | tee -a "$out/summary.txt"
  [ $code = 0 ] && return
  failed=1
  tail -n 12 "$out/$name.txt"
  return 1
}

# The same of a program of ours. The libraries beside it are for it alone: others may have their own of that name.
ours() {
  name=$1
  seconds=$2
  program=$3
  shift 3
  step "$name" "$seconds" env "LD_LIBRARY_PATH=$PWD/$there/lib:$LD_LIBRARY_PATH" NABLA_TEST_DEVICE=cuda \
    "$there/bin/$program" "$@"
}

# The end of what it says too.
shown() {
  ours "$@" && tail -n 12 "$out/$1.txt"
}

# generate SIZE STEPS POLICY SECONDS FLAG...: a video with the model in $model, its figures as JSON
generate() {
  name=wan-$1-$3
  length=$2
  policy=$3
  seconds=$4
  shift 4
  ours "$name" "$seconds" nabla generate "a cat on a skateboard" --model "$model" --device cuda --frames 81 --seed 1 --quiet \
    --steps "$length" --policy "$policy" --json -o "$out/$name.mp4" "$@" && figures="$figures $out/$name.txt"
  rm -f "$out/$name.mp4" # noise
}

# A model of random weights, and the figures of what runs with it
fill_model() {
  model=${WAN_FOLDER:-/dev/shm}/nabla-wan-$1
  figures=
  step "fill-$1" 150 "$python" bench/random_wan.py fill $carry/wan-"$1" "$model"
}

drop_model() {
  rm -rf "$model"
  # shellcheck disable=SC2086 # words
  [ -z "$figures" ] || "$python" bench/wan_phases.py -o "$out/wan-$1.csv" $figures
}

# Before anything runs: a misspelt part should not cost the minutes of those before it.
check_part() {
  case $1 in
  check | small | large | guided | replay | train | train48 | step | train13 | offload | wan | wan14) ;;
  *)
    echo "gpu_engine.sh: there is no part '$1'" >&2
    exit 2
    ;;
  esac
}

run_part() {
  nabla_policy=${WAN_POLICY:-nabla-0.17}
  case $1 in
  check)
    ours check_attention 120 test_check_attention --level cuda
    for test in ${attention_tests#check_attention } $engine_tests; do
      ours "$test" 60 "test_$test"
    done
    ;;
  small) # 1.3B at 480p, 81 frames
    shown dit-1.3B 60 nabla bench dit --size 1.3B --grid 21x30x52 --device cuda --repeat 2 --policies dense,nabla-0.2 \
      -o "$out/dit-1.3B.csv"
    ;;
  large) # 14B at the paper's timing shape
    shown dit-14B 110 nabla bench dit --size 14B --grid 21x48x80 --device cuda --repeat 1 --density 0.148 \
      --policies dense,nabla-0.148 -o "$out/dit-14B.csv"
    ;;
  guided)
    shown guided 60 nabla bench dit --size 14B --grid 21x48x80 --device cuda --repeat 1 --guided --policies nabla-0.075 \
      -o "$out/guided.csv"
    ;;
  replay) # a guided step of the demo model's clip, its launches one by one and as a graph; and a whole clip
    shown demo-plain 30 nabla bench dit --size demo --grid 8x24x24 --batch 2 --device cuda --repeat 50 \
      --policies dense,nabla-0.4 -o "$out/demo-plain.csv"
    shown demo-replay 30 nabla bench dit --size demo --grid 8x24x24 --batch 2 --device cuda --repeat 50 --replay \
      --policies dense,nabla-0.4 -o "$out/demo-replay.csv"
    for solver in euler unipc; do
      shown clip-$solver 30 nabla generate "a red circle moving right" --model models/demo --device cuda \
        --solver $solver --json -o "$out/clip-$solver/"
      rm -rf "${out:?}/clip-$solver"
    done
    ;;
  train) # the demo's size; the log's last lines have the rate without the start
    for policy in dense nabla-0.4; do
      rm -rf "$out/trained"
      shown train-$policy 45 nabla train -o "$out/trained" --device cuda --steps 100 --batch 64 --size 192x192 \
        --frames 8 --policy $policy --save-every 1000 --log-every 20 --json
      cp "$out/trained/train/log.csv" "$out/train-$policy.csv" && tail -n 2 "$out/train-$policy.csv" >&2
      rm -rf "$out/trained"
    done
    ;;
  train48) # steps so short that launching them takes longer: replayed from the fifth on; and each of four batches
    for parts in 1 4; do
      rm -rf "$out/trained"
      shown train48-$parts 60 nabla train -o "$out/trained" --device cuda --steps $((2000 / parts)) --batch 32 \
        --accumulate $parts --size 48x48 --save-every 10000 --log-every $((400 / parts)) --json
      cp "$out/trained/train/log.csv" "$out/train48-$parts.csv" && tail -n 2 "$out/train48-$parts.csv" >&2
      rm -rf "$out/trained"
    done
    ;;
  train13) # one training step of 1.3B at 480p, 81 frames: 31 GB of weights and optimizer, 11 GB of activations
    shown train-1.3B 240 nabla bench dit --size 1.3B --grid 21x30x52 --device cuda --repeat 2 --backward \
      --activation-checkpointing --density 0.2 --policies dense -o "$out/train-1.3B.csv"
    ;;
  offload) # 14B with its blocks in the host's memory, beside the same with all on the GPU
    shown resident-14B 120 nabla bench dit --size 14B --grid 21x30x52 --device cuda --repeat 1 --density 0.1 \
      --policies dense -o "$out/resident-14B.csv"
    shown offload-14B 180 nabla bench dit --size 14B --grid 21x30x52 --device cuda --repeat 1 --density 0.1 \
      --policies dense --offload -o "$out/offload-14B.csv"
    ;;
  step) shown step-demo 40 nabla bench dit --size demo --grid 8x24x24 --batch 64 --backward --device cuda \
    --policies dense,nabla-0.4 -o "$out/step-demo.csv" ;;
  wan)
    if fill_model 1.3B; then
      for policy in $nabla_policy dense; do
        generate 1.3B "${WAN_STEPS:-50}" "$policy" 240 --size 480p
      done
    fi
    drop_model 1.3B
    ;;
  wan14)
    if fill_model 14B; then
      generate 14B 3 "$nabla_policy" 200 --size 720p
      generate 14B 2 dense 240 --size 720p
    fi
    drop_model 14B
    ;;
  esac
}

run() {
  out=${1:-${OUT:-$build/out}}
  [ $# -gt 0 ] && shift
  [ $# -gt 0 ] || set -- check small large train step
  for part; do
    check_part "$part"
  done
  unpack
  mkdir -p "$out" || exit 1
  : >"$out/summary.txt"
  failed=0
  for part; do
    run_part "$part"
  done
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv >"$out/gpu.txt" 2>&1
  exit $failed
}

mode=$1
[ $# -gt 0 ] && shift
case $mode in
pack) pack ;;
unpack) unpack && echo "LD_LIBRARY_PATH=$PWD/$there/lib $PWD/$there/bin/nabla" ;;
run) run "$@" ;;
*)
  echo "usage: bench/gpu_engine.sh pack | run [OUT [PART]...] | unpack" >&2
  exit 2
  ;;
esac
