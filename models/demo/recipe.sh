#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The bundled model, from nothing: small clips first, then its own size through the sparse policy that it runs with.
#
#     models/demo/recipe.sh OUT [FLAGS OF nabla train, such as --device cuda]
#
# OUT gets a folder a stage and the model itself in OUT/demo. Stopped at any time, the same command goes on from there.
# NABLA names the program; build/bin/nabla where it does not.
set -e
out=${1:?"usage: models/demo/recipe.sh OUT [FLAGS OF nabla train]"}
shift
nabla=${NABLA:-build/bin/nabla}
mkdir -p "$out"

# stage NAME FLAGS...
stage() {
  name=$1
  shift
  resume=
  [ -e "$out/$name/train/state.safetensors" ] && resume=--resume
  "$nabla" train -o "$out/$name" $resume --batch 32 --beta2 0.99 --sample-steps 12 "$@"
}

stage small --steps 6000 --size 48x48 --lr 1e-3 --final-lr 0.1 "$@"
stage middle --model "$out/small" --steps 3000 --size 96x96 --shift 2 --lr 1e-3 --warmup 60 --final-lr 0.1 "$@"
stage full --model "$out/middle" --steps 1500 --size 192x192 --policy nabla-0.22_sta-1-3-3 --shift 3 --lr 1e-3 \
  --warmup 60 --final-lr 0.02 --ema 0.998 --save-every 250 "$@"

rm -rf "$out/demo.new"
mkdir "$out/demo.new"
for part in model_index.json text transformer; do
  cp -R "$out/full/$part" "$out/demo.new/"
done
rm -rf "$out/demo"
mv "$out/demo.new" "$out/demo"
echo "$out/demo: nabla eval --model $out/demo --policies nabla-0.22_sta-1-3-3,dense --prompts 200"
