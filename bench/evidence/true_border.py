#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The border ratio of true clips, what a model's is to be read against, into RESULTS/true.csv:

    bench/evidence/true_border.py [RESULTS]

The definition is src/train/likeness.c's, which `nabla eval` measures models' clips by, on the middle frames of scenes
that `nabla clips` draws (lossless PNG). The program is NABLA, build/bin/nabla where it does not say. Needs Pillow.
"""

import csv
import glob
import os
import subprocess
import sys
import tempfile

from PIL import Image

PATCH, TILE = 8, 64  # pixels, of measure.sh's models
SEEDS, CLIPS = 4, 512


def energies(path):
    """Sums of squared steps and their counts: across edges of tiles, then across those of other patches."""
    sums = [0, 0, 0, 0]
    picture = Image.open(path).convert("RGB")
    for turned in (picture, picture.transpose(Image.Transpose.TRANSPOSE)):
        width, height = turned.size
        for x in range(PATCH, width, PATCH):
            before, after = (turned.crop((at, 0, at + 1, height)).tobytes() for at in (x - 1, x))
            which = 0 if x % TILE == 0 else 2
            sums[which] += sum((a - b) ** 2 for a, b in zip(after, before))
            sums[which + 1] += 3 * height
    return sums


def ratio(folder):
    tile, tile_count, patch, patch_count = map(sum, zip(*map(energies, sorted(glob.glob(os.path.join(folder, "*.png"))))))
    return tile / tile_count / (patch / patch_count)


def main():
    results = sys.argv[1] if len(sys.argv) > 1 else "bench/results/evidence"
    rows = []
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    *os.environ.get("NABLA", "build/bin/nabla").split(),
                    *f"clips --data scenes --format png --quiet --count {CLIPS} --seed {seed} -o".split(),
                    folder,
                ],
                check=True,
            )
            rows.append([seed, CLIPS, f"{ratio(folder):.6f}"])
    path = os.path.join(results, "true.csv")
    with open(path + ".tmp", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["seed", "clips", "border"], *rows])
    os.replace(path + ".tmp", path)
    print(f"{path}: {', '.join(row[2] for row in rows)}")


if __name__ == "__main__":
    main()
