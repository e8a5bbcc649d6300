# SPDX-License-Identifier: Apache-2.0
"""What `nabla generate --json` said, run by run, as a table of minutes a phase.

    python3 bench/wan_phases.py [-o FILE.csv] FIGURES.json...

Where a run had other than 50 steps, which is what Wan2.1 is meant to have, its time with 50 is worked out from the mean of
its steps and marked as that.
"""
import argparse
import csv
import json
import os

PHASES = ("load", "text", "sample", "decode", "write")
SHARES = ("plan", "attention", "products", "other")
STEPS = 50


def read(path):
    """The JSON, behind whatever notes stand before it."""
    with open(path) as f:
        text = f.read()
    return json.loads(text[text.index("{"):])


def row(path):
    r = read(path)
    done = [d for d in r["densities"] if d is not None]
    step = r["sample_s"] / len(done)
    return {"run": os.path.splitext(os.path.basename(path))[0], "policy": r["policy"], "width": r["width"],
            "height": r["height"], "frames": r["frames"], "steps": len(done), "guidance": r["guidance"],
            "density": round(sum(done) / len(done), 4),
            **{f"{phase}_s": round(r[f"{phase}_s"], 2) for phase in PHASES + SHARES},
            "total_s": round(r["total_s"], 2), "step_s": round(step, 3), "peak_gb": round(r["peak_memory"] / 1e9, 2),
            "estimate_gb": round(max(r[f"{part}_memory"] for part in ("text", "sample", "decode")) / 1e9, 2),
            "total_50_s": round(r["total_s"] + (STEPS - len(done)) * step, 1)}


def show(r):
    print(f"{r['run']}: {r['policy']}, {r['width']}x{r['height']}, {r['frames']} frames, density {100 * r['density']:.1f} %; "
          f"{r['total_s'] / 60:.2f} minutes: " + ", ".join(f"{p} {r[p + '_s'] / 60:.2f}" for p in PHASES))
    print(f"  {r['steps']} steps of {r['step_s']:.2f} s (" + ", ".join(f"{s} {r[s + '_s'] / r['steps']:.2f}" for s in SHARES) +
          f"); peak {r['peak_gb']:.1f} GB, {r['estimate_gb']:.1f} estimated")
    if r["steps"] != STEPS:
        print(f"  with {STEPS} steps {r['total_50_s'] / 60:.1f} minutes, extrapolated from {r['steps']}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output")
    parser.add_argument("figures", nargs="+")
    args = parser.parse_args()
    rows = [row(path) for path in args.figures]
    for r in rows:
        show(r)
    if args.output:
        with open(args.output, "w", newline="") as f:
            out = csv.DictWriter(f, rows[0], lineterminator="\n")
            out.writeheader()
            out.writerows(rows)


if __name__ == "__main__":
    main()
