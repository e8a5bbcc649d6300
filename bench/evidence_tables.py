#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables of what bench/evidence.sh measured, as Markdown: bench/evidence_tables.py [RESULTS]

Shares are pooled over seeds, with Wilson's 95 % interval over prompts; "+-" after a loss is half the range over seeds.
"""
import csv
import math
import os
import re
import sys

TRAITS = ["colour", "shape", "motion", "count", "relation", "all"]


def read(folder, name):
    with open(os.path.join(folder, name + ".csv"), newline="") as file:
        return list(csv.DictReader(file))


def family(policy):
    """The policy without its thresholds, which differ from seed to seed."""
    return re.sub(r"nabla-[0-9.]+", "nabla", policy)


def wilson(right, n):
    z = 1.959964
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - spread, centre + spread


def mean(values):
    return sum(values) / len(values) if values else math.nan


def numbers(rows, name):
    return [float(row[name]) for row in rows if row[name]]


def grouped(rows, keys):
    """Rows by what `keys` makes of them, in their order."""
    groups = {}
    for row in rows:
        groups.setdefault(keys(row), []).append(row)
    return groups


def percent(values):
    return f"{100 * mean(values):.1f}" if values else ""


def figure(values, form):
    return form % mean(values) if values else ""


def trained(evaluations, trainings):
    own = [r for r in evaluations if r["kind"] in ("scratch", "distilled") and r["run_with"] == r["policy"]]
    # the dense model is run twice, once as its own reference
    own = list({(r["kind"], r["sparsity_class"], r["policy"], r["seed"]): r for r in own}.values())
    key = lambda r: (r["kind"], r["sparsity_class"], family(r["policy"]))
    runs = grouped(trainings, key)
    print("| trained | class | policy | seeds | sparsity | loss |", " | ".join(TRAITS), "| PSNR | SSIM | border |")
    print("|---" * (9 + len(TRAITS)) + "|")
    for group, rows in grouped(own, key).items():
        losses = numbers(runs.get(group, []), "loss")
        spread = f" +- {(max(losses) - min(losses)) / 2:.2g}" if len(losses) > 1 else ""
        n = sum(int(r["prompts"]) for r in rows)
        low, high = wilson(mean(numbers(rows, "all")) * n, n)
        cells = [percent(numbers(rows, t)) for t in TRAITS]
        cells[-1] += f" [{100 * low:.1f}, {100 * high:.1f}]"
        print("|", " | ".join([*group, str(len(rows)), percent(numbers(rows, "sparsity")),
                               figure(losses, "%.5g") + spread, *cells, figure(numbers(rows, "psnr"), "%.2f"),
                               figure(numbers(rows, "ssim"), "%.4f"), figure(numbers(rows, "border"), "%.3f")]), "|")


def zero_shot(evaluations):
    rows = [r for r in evaluations if r["kind"] == "zero-shot"]
    print("| policy | seeds | sparsity | kept mass |", " | ".join(TRAITS), "| PSNR | SSIM | border |")
    print("|---" * (7 + len(TRAITS)) + "|")
    once = {(r["run_with"], r["seed"]): r for r in rows}.values()
    groups = grouped(once, lambda r: r["run_with"])
    for policy, group in sorted(groups.items(), key=lambda g: mean(numbers(g[1], "sparsity"))):
        print("|", " | ".join([policy, str(len(group)), percent(numbers(group, "sparsity")),
                               figure(numbers(group, "kept_mass"), "%.3f"), *[percent(numbers(group, t)) for t in TRAITS],
                               figure(numbers(group, "psnr"), "%.2f"), figure(numbers(group, "ssim"), "%.4f"),
                               figure(numbers(group, "border"), "%.3f")]), "|")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "bench/results/evidence"
    evaluations = read(folder, "eval")
    trained(evaluations, read(folder, "train"))
    print()
    zero_shot(evaluations)


if __name__ == "__main__":
    main()
