#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the paper claims of training, measured on models that anyone can retrain: dense attention, windows alone (STA),
# NABLA alone and their union, from the same start, on the same clips and noise, at the same measured sparsity.
#
#     bench/evidence/measure.sh WORK [PART]... [-- FLAGS OF nabla train AND eval, such as --device cuda]
#
# Parts, in order, for every seed in SEEDS ("0 1 2"); all of them without a word:
#   base       small, then middle clips with dense attention: where every policy of every seed starts from
#   dense      the dense model of the full size, and the thresholds at which policies keep as much as windows do
#   scratch    every other policy in its place, as many steps on the same clips (the paper's figure 4)
#   one        those models again, asked for one object and for two (kinds `one` and `two`)
#   zero-shot  the dense model as it is, run with a grid of policies
#   distilled  students of the dense model (its appendix A)
# and, where it is named, `card`: the dense model trained once more, into cards.csv: what another card alone changes.
# Rows go to the CSVs of RESULTS (WORK/results): what has a row there is not done again. So a clone measures anew; to add
# to the committed rows name their folder, bench/results/evidence. Stopped at any time, or by itself after LIMIT seconds
# (none), the same command goes on from there. WORK keeps the base and dense models, 7 MB each, and the run under way;
# KEEP=1 keeps the others too.
# ONLY trains but those sparse policies that the pattern matches ('sta-*'): machines can share a seed's.
# QUICK=1 takes a model of toy size a few steps, all in WORK/quick: to see that the script works, no more.
# Seeds share a base: one that goes on from rows of another machine needs its WORK/base too. CARD names the card where
# nvidia-smi does not; the same flags on another kind of card make another model, about as far as another seed's.
# NABLA names the program, and what is to stand before it; build/bin/nabla where it does not.
# shellcheck disable=SC2086 # flags are words, and what names the program
set -e
work=${1:?"usage: bench/evidence/measure.sh WORK [PART]... [-- FLAGS]"}
shift
parts=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  parts="$parts $1"
  shift
done
[ "$1" = -- ] && shift
parts=${parts:-base dense scratch one zero-shot distilled}
flags=$*
nabla=${NABLA:-build/bin/nabla}
[ "${QUICK:-0}" = 1 ] && work=$work/quick # nothing of it counts as measured
results=${RESULTS:-$work/results}
card=${CARD:-CPU}
case " $flags" in *" cuda"*)
  card=${CARD:-$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 | sed 's/^NVIDIA //; s/,//g')}
  ;;
esac
[ -n "$card" ] || { echo "measure.sh: nvidia-smi names no card: give its name as CARD" >&2 && exit 1; }
began=$(date +%s)
mkdir -p "$work/base" "$results"

# Tiles of 64 x 64 pixels: 3 x 3 a frame, 8 frames, 72 blocks in a full clip.
size=192x192 frames=8 prompts=256 grid_prompts=128 compare=64 clips=12 shift=7 sample_steps=12
grid="0.005 0.01 0.02 0.03 0.05 0.08 0.12 0.16 0.2 0.25 0.3 0.35 0.4 0.5 0.6 0.7 0.8" grid_steps=6
small_steps=4000 middle_steps=7000 full_steps=600 student_steps=300
model=
if [ "${QUICK:-0}" = 1 ]; then
  prompts=2 grid_prompts=1 compare=1 clips=1 sample_steps=2 grid="0.005 0.9" grid_steps=1
  small_steps=2 middle_steps=2 full_steps=2 student_steps=2
  BATCH=${BATCH:-2}
  model="--dim 32 --heads 1 --layers 2 --ffn-dim 64"
fi
batch=${BATCH:-64}
small_batch=$((2 * batch))
common="--data scenes --frames $frames --beta2 0.99 --sample-steps $sample_steps --save-every 500 --log-every 20 --quiet"

# Windows that keep about a fifth and about a tenth of 72 blocks. At a tenth no window sees both other frames and other
# places, so there are two: a place in all frames, and all places of a frame.
windows_80="sta-3-3-3"
windows_90="sta-15-1-1 sta-1-5-5"
# Parts of a union that are windows.
part_80=sta-1-3-3
part_90=sta-3-1-1
target_80=0.792 # sparsity of windows_80
target_90=0.889 # of the first of windows_90

# ------------------------------------------------------------------ CSVs

# table NAME HEADER: makes the file, where there is none
table() {
  [ -e "$results/$1.csv" ] || echo "$2" >"$results/$1.csv"
}
key="kind,sparsity_class,policy,seed"
table train "$key,steps,batch,loss,sparsity,samples_per_second,seconds"
table loss "$key,step,loss"
table eval "$key,run_with,prompts,colour,shape,motion,count,relation,all,sparsity,psnr,ssim,kept_mass,border,seconds"
table outcomes "$key,run_with,outcomes"
table threshold "sparsity_class,seed,windows,policy,sparsity"
table machines "kind,seed,card"
table cards "$key,card,outcomes"

# has FILE KEY: whether there is a row of it
has() {
  awk -v key="$2," 'index($0 ",", key) == 1 { found = 1; exit } END { exit !found }' "$results/$1.csv"
}

# add FILE: rows, all of them at once
add() {
  cat >>"$results/$1.csv"
}

# figures KEY: a row for each object of what `nabla eval --json` says
figures() {
  awk -v key="$1" '
    /^  \{/ { delete v }
    /^    "/ { name = $1; gsub(/[":]/, "", name); value = $2; sub(/,$/, "", value); gsub(/"/, "", value)
               v[name] = value == "null" ? "" : value }
    /^  \}/ { print key "," v["policy"] "," v["prompts"] "," v["colour"] "," v["shape"] "," v["motion"] "," v["count"] "," \
                v["relation"] "," v["all"] "," v["sparsity"] "," v["psnr"] "," v["ssim"] "," v["kept_mass"] "," \
                v["border"] "," v["seconds"] }'
}

# ------------------------------------------------------------------ runs

# Stops the script where its time is up. A run is interrupted, and goes on another time.
left() {
  [ -n "$LIMIT" ] || { echo 1000000 && return; }
  rest=$((LIMIT - ($(date +%s) - began)))
  [ $rest -gt 5 ] || return 1
  echo $rest
}

out_of_time() {
  echo "measure.sh: time is up; the same command goes on from here" >&2
  exit 0
}

# within COMMAND...: what it says into $work/said; interrupted when the time is up
within() {
  seconds=$(left) || out_of_time
  timeout --foreground -s INT "$seconds" "$@" >"$work/said" || {
    code=$?
    [ $code = 124 ] || [ $code = 130 ] || exit $code
    out_of_time
  }
}

# train NAME FLAGS...: the model in $work/NAME, once it is whole
train() {
  name=$1
  shift
  [ -e "$work/$name/model_index.json" ] && return
  run="$work/$name.run"
  mkdir -p "$(dirname "$run")"
  resume=
  [ -e "$run/train/state.safetensors" ] && resume=--resume
  within $nabla train -o "$run" $resume $common "$@"
  cat "$work/said"
  cp "$run/train/log.csv" "$run/log.csv"
  rm -rf "$run/train"
  mv "$run" "$work/$name"
}

# asked PART: whether it is one of those to be done
asked() {
  case " $parts " in *" $1 "*) ;; *) return 1 ;; esac
}

# record KEY NAME: the run of the model in $work/NAME
record() {
  log="$work/$2/log.csv"
  has loss "$1" || awk -F, -v key="$1" 'NR > 1 { print key "," $1 "," $2 }' "$log" | add loss
  has train "$1" || awk -F, -v key="$1" -v batch="$batch" '
    NR > 1 { step = $1; loss = $2; sparsity = $6; seconds = $7; sum += $6; n++ }
    END { printf "%s,%d,%d,%s,%.6f,%.1f,%s\n", key, step, batch, loss, sum / n, seconds ? step * batch / seconds : 0, seconds }' \
    "$log" | add train
}

# outcomes KEY POLICY: what came of each prompt, from the CSV that `nabla eval -o` left: two hexadecimal digits a prompt;
# bits 1 colour, 2 shape, 4 motion, 8 count, 16 relation right, 32 a relation was asked for, 64 more objects, 128 fewer
outcomes() {
  awk -F, -v key="$1,$2" 'NR > 1 {
      sub(/"[^"]*"/, "")
      text = text sprintf("%02x", $3 + 2 * $4 + 4 * $5 + 8 * $6 + 64 * $7 + 128 * $8 + ($9 == "" ? 0 : 32 + 16 * $9)) }
    END { print key "," text }' "$work/out/$2.csv"
}

# evaluate KEY POLICIES FLAGS...: their rows in $work/rows, for `publish`; what else came of it in $work/out
evaluate() {
  row=$1
  policies=$2
  shift 2
  rm -rf "$work/out" "$work/rows"
  mkdir "$work/rows"
  within $nabla eval --policies "$policies" -o "$work/out" --seed 1000 --json --quiet "$@"
  for policy in $(echo "$policies" | tr , ' '); do
    outcomes "$row" "$policy"
  done >"$work/rows/outcomes"
  figures "$row" <"$work/said" >"$work/rows/eval"
  count=$(echo "$policies" | awk -F, '{ print NF }')
  for table in outcomes eval; do
    [ "$(wc -l <"$work/rows/$table")" = "$count" ] || {
      echo "measure.sh: not a row for each of $policies in $work/rows/$table" >&2
      exit 1
    }
  done
}

# publish KEY KIND SEED: the last evaluation's rows. Those of eval come last of all that is kept: what has them is not
# done again
publish() {
  has machines "$2,$3,$card" || echo "$2,$3,$card" | add machines
  has outcomes "$1" || add outcomes <"$work/rows/outcomes"
  add eval <"$work/rows/eval"
  cat "$work/rows/eval"
}

# keep_clips KIND CLASS POLICY SEED: the last evaluation's clips and captions, of the first seed alone
keep_clips() {
  [ "$4" = 0 ] || return 0
  folder="$results/clips-$4/$1-$2-$3"
  rm -rf "$folder"
  mkdir -p "$folder"
  for clip in "$work/out/$3"-[0-9]*.mp4; do
    [ -e "$clip" ] || { echo "measure.sh: this nabla has no FFmpeg: no clips are kept" >&2 && return 0; }
    cp "$clip" "$folder/${clip##*-}"
  done
  awk -F'"' -v n=$clips 'NR > 1 && NR <= n + 1 { print $2 }' "$work/out/$3.csv" >"$results/clips-$4/captions.txt"
}

# spent KIND CLASS,POLICY,SEED: whether nothing that was asked for still wants such a model
spent() {
  case $1 in
  scratch) ! asked one || has eval "two,$2" ;;
  one) has eval "two,$2" ;;
  esac
}

# made NAME POLICY FLAGS...: a model of the full size with a policy in $work/NAME
made() {
  name=$1 policy=$2
  shift 2
  train "$name" --size $size --batch "$batch" --policy "$policy" --shift $shift --warmup 60 --final-lr 0.02 \
    --ema 0.998 "$@"
}

# full KIND CLASS POLICY SEED FLAGS...: such a model, its loss and what comes of its prompts; kinds `one` and `two` are
# models from scratch whose loss is known, alone on prompts of as many objects
full() {
  kind=$1 class=$2 policy=$3 seed=$4
  shift 4
  row="$kind,$class,$policy,$seed"
  has eval "$row" && return
  # shellcheck disable=SC2254 # a pattern
  case $policy in dense | ${ONLY:-*}) ;; *) return 0 ;; esac
  case $kind in one | two) name=$seed/scratch-$policy ;; *) name=$seed/$kind-$policy ;; esac
  [ "$policy" = dense ] && name=base/dense-$seed
  made "$name" "$policy" "$@"
  case $kind in
  one) evaluate "$row" "$policy" --model "$work/$name" --data clips --prompts $prompts $flags ;;
  two) evaluate "$row" "$policy" --model "$work/$name" --data scenes --prompts $prompts $flags ;;
  *)
    record "$row" "$name"
    # beside the dense model's clips from the same noise
    both=dense,$policy
    [ "$policy" = dense ] && both=dense
    evaluate "$row" "$both" --model "$work/$name" --reference "$work/base/dense-$seed" --data scenes \
      --prompts $prompts --compare $compare --clips $clips $flags
    [ -e "$results/captions.csv" ] || # every model's are the same
      awk -F'"' 'NR == 1 { print "prompt,caption" } NR > 1 { print $1 "\"" $2 "\"" }' "$work/out/dense.csv" |
      add captions
    keep_clips "$kind" "$class" "$policy" "$seed"
    ;;
  esac
  publish "$row" "$kind" "$seed"
  [ "$policy" = dense ] || [ "${KEEP:-0}" = 1 ] || ! spent "$kind" "$class,$policy,$seed" || rm -rf "${work:?}/$name"
}

# ------------------------------------------------------------------ thresholds

# threshold CLASS SEED TARGET SUFFIX: the policy nabla-T, with windows where there is a suffix, that is as sparse on the
# dense model: between the two of the grid nearest to it
threshold() {
  windows=${4:-none}
  has threshold "$1,$2,$windows" && return
  list=
  for t in $grid; do
    list="$list${list:+,}nabla-$t${4:+_$4}"
  done
  within $nabla eval --model "$work/base/dense-$2" --policies "$list" --data scenes --prompts 8 --steps $grid_steps --seed 2000 \
    --json --quiet $flags
  figures x,x,x,x <"$work/said" | awk -F, -v target="$3" -v row="$1,$2,$windows" -v suffix="${4:+_$4}" '
    { t = $5; sub(/^nabla-/, "", t); sub(/_.*/, "", t); s = $13
      if (NR > 1 && s <= target && before >= target) {
        share = before > s ? (before - target) / (before - s) : 0
        printf "%s,nabla-%.4f%s,%.4f\n", row, last + share * (t - last), suffix, target; found = 1; exit }
      last = t; before = s }
    END { if (!found) exit 1 }' >"$work/threshold.txt" || {
    echo "measure.sh: no threshold of the grid keeps as much as $3 with windows $windows: see $work/said" >&2
    exit 1
  }
  add threshold <"$work/threshold.txt"
}

# sparse CLASS SEED: policies of about that sparsity
sparse() {
  has threshold "$1,$2" || { echo "measure.sh: no thresholds of seed $2: part dense finds them" >&2 && return 1; }
  if [ "$1" = 80 ]; then echo "$windows_80"; else echo "$windows_90"; fi
  awk -F, -v class="$1" -v seed="$2" '$1 == class && $2 == seed { print $4 }' "$results/threshold.csv"
}

# ------------------------------------------------------------------ parts

# Where two objects lie and go is settled while hardly anything is to be seen, the earlier the larger the clip: `shift`
# sends the steps of training and sampling there. With 1 at 64 x 64, 2 and 3 later on, the models of as many clips drew
# both motions right once in thirty times.
part_base() {
  [ -e "$work/base/middle/model_index.json" ] && return # all that is needed of it
  train base/small --size 64x64 --batch $small_batch --steps $small_steps --shift 3 --lr 1e-3 --warmup 60 --final-lr 0.1 \
    $model $flags
  train base/middle --model "$work/base/small" --size 128x128 --batch "$batch" --steps $middle_steps --shift 5 \
    --seed 100 --lr 1e-3 --warmup 60 --final-lr 0.1 $flags
}

# from_scratch KIND CLASS POLICY SEED: whose flags make the model
from_scratch() {
  full "$@" --model "$work/base/middle" --steps $full_steps --seed $((200 + $4)) --lr 1e-3 $flags
}

part_dense() {
  from_scratch scratch 0 dense "$1"
  threshold 80 "$1" $target_80
  threshold 80 "$1" $target_80 $part_80
  threshold 90 "$1" $target_90
  threshold 90 "$1" $target_90 $part_90
}

part_scratch() {
  for class in 80 90; do
    policies=$(sparse $class "$1")
    for policy in $policies; do
      from_scratch scratch $class "$policy" "$1"
    done
  done
}

part_one() {
  for class in 0 80 90; do
    policies=dense
    [ $class = 0 ] || policies=$(sparse $class "$1")
    for policy in $policies; do
      from_scratch one $class "$policy" "$1"
      from_scratch two $class "$policy" "$1"
    done
  done
}

# Trained anew even where WORK has the dense model, which may be of another card.
part_card() {
  card_row="scratch,0,dense,$1,$card"
  has cards "$card_row" && return
  made "card/dense-$1" dense --model "$work/base/middle" --steps $full_steps --seed $((200 + $1)) --lr 1e-3 $flags
  evaluate "scratch,0,dense,$1" dense --model "$work/card/dense-$1" --data scenes --prompts $prompts $flags
  awk -F, -v key="$card_row" '{ print key "," $NF }' "$work/rows/outcomes" | add cards
  rm -rf "$work/card"
}

part_distilled() {
  for class in 80 90; do
    policies=$(sparse $class "$1")
    for policy in $policies; do
      full distilled $class "$policy" "$1" --model "$work/base/dense-$1" --teacher "$work/base/dense-$1" \
        --steps $student_steps --seed $((300 + $1)) --lr 3e-4 $flags
    done
  done
}

# grid_of SUFFIX: nabla's thresholds, with windows where there is a suffix
grid_of() {
  for t in 0.02 0.05 0.1 0.2 0.3 0.5 0.7 0.9; do
    printf ',nabla-%s' "$t$1"
  done
}

# zero_shot NAME SEED POLICIES: the dense model with each, and what their plans keep where
zero_shot() {
  row="zero-shot,$1,grid,$2"
  has eval "$row" && return
  evaluate "$row" "$3" --model "$work/base/dense-$2" --data scenes --prompts $grid_prompts --compare $compare $flags
  mkdir -p "$results/map-$2"
  for map in "$work/out"/*.map.csv; do
    name=${map##*/}
    cp "$map" "$results/map-$2/${name%.map.csv}.csv"
  done
  publish "$row" zero-shot "$2"
}

part_zero_shot() {
  for windows in "" _$part_90 _$part_80; do
    zero_shot nabla$windows "$1" "dense$(grid_of $windows)"
  done
  zero_shot sta "$1" dense,sta-1-1-1,sta-3-1-1,sta-15-1-1,sta-1-3-3,sta-1-5-5,sta-3-3-3,sta-5-3-3,sta-15-3-3,sta-5-5-5
}

for part in $parts; do
  case $part in base | dense | scratch | one | distilled | zero-shot | card) ;; *)
    echo "measure.sh: no part '$part': base, dense, scratch, one, distilled, zero-shot, card" >&2
    exit 2
    ;;
  esac
done
# A seed's parts one after the other: sessions then end with whole seeds.
for seed in ${SEEDS:-0 1 2}; do
  for part in $parts; do
    case $part in
    zero-shot) part_zero_shot "$seed" ;;
    *) "part_$part" "$seed" ;;
    esac
  done
done
echo "measure.sh: $parts: done for seeds ${SEEDS:-0 1 2} in $(($(date +%s) - began)) s; rows in $results"
