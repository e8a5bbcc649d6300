#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/evidence.md and its pictures from what bench/evidence/measure.sh measured:

    bench/evidence/report.py [RESULTS] [-o docs]

RESULTS (bench/results/evidence) holds the CSVs. Needs matplotlib (and Pillow, which comes with it); for film strips the
program ffmpeg or PyAV. RESULTS/machine.txt, a line that names the machine, is quoted. Every verdict is computed from the
figures; what is not there yet is said to be missing.
"""

import argparse
import os
import sys
import textwrap

from data import BadInput, Evidence, variant
from figures import plural
from section import CLASSES, Tally
from questions import QUESTIONS

HOW = """\
Everything here is made by one command from [CSVs](../bench/results/evidence), which another makes on one GPU or a
patient CPU:

```sh
bench/evidence/measure.sh WORK -- --device cuda   # trains and evaluates; what has its row is not done again
bench/evidence/report.py                  # this page and its pictures
```

A model of six layers and three heads of 64 learns scenes of one and two moving objects, captions as `a red circle left of a
blue square moving up`: first 64 x 64, then 128 x 128 with dense attention, once for all seeds; then 192 x 192 and 8 frames,
72 blocks of 64 tokens, with each policy from this start, on the same clips and noise. Seeds are clips and noise of this last
part. Windows (STA) come in two sizes that keep about a fifth and a tenth; NABLA's thresholds, alone and with a smaller
window, are set to the same sparsity on the dense model. No window of a tenth sees both other frames and other places, so
there are two. Captions of the evaluation are held out; a checker that knows true clips reads colour, shape, motion, count
and relation. `all`: everything that was asked for.

Intervals are at 95 %. Shares are compared in pairs, on the same prompts and noise: a prompt counts once, with its mean over
seeds (Wald's interval for pairs with half a prompt added to each cell, as `nabla eval` does; Agresti and Min 2005). That
tells of other prompts for these models, not of other seeds; a difference therefore also wants no seed to say the opposite.
Losses, borders and times are compared by seed (Student's, wide for three). **Bold**: a difference at 95 %.
"""


def strips(evidence, folder, made):
    """Film strips into the folder, their paths into `made`: lines of the page."""
    import strips

    if not strips.decoder():
        return ["No film strips: neither the program ffmpeg nor PyAV was there when this page was made.", ""]
    lines = []
    for kind in ("scratch", "distilled"):
        for c in CLASSES:
            found = {"dense": evidence.clips("scratch", 0, "dense")}
            found.update({name: evidence.clips(kind, c, name) for name in evidence.variants(kind, c)})
            found = {name: clip for name, clip in found.items() if clip}
            if len(found) < 2:
                continue
            seed = next(iter(found.values()))[1]
            models = {name: path for name, (path, of) in found.items() if of == seed}
            what, shown = f"{kind}, about {c} % sparse, seed {seed}", f"{kind}-{c}.webp"
            n = strips.strip(models, evidence.captions(seed), 3, os.path.join(folder, "strip-" + shown))
            if not n:
                continue
            strips.stills(models, 3, os.path.join(folder, "still-" + shown))
            made.update(os.path.join(folder, kind_of + shown) for kind_of in ("strip-", "still-"))
            lines += [
                f"The first {plural(n, 'prompt')}, {what}:",
                "",
                f"![film strips: {', '.join(models)}](evidence/strip-{shown})",
                "",
                "Their middle frames; ticks show where tiles meet:",
                "",
                f"![middle frames: {', '.join(models)}](evidence/still-{shown})",
                "",
            ]
    return lines or ["No clips were kept, so there are no film strips.", ""]


def size_of(evidence):
    """What there is, in a sentence, and what is missing."""
    if not evidence.seeds:
        return "**No figures yet**: the CSVs are empty or not there."
    seeds = ", ".join(str(s) for s in evidence.seeds)
    prompts = sorted({row["prompts"] for row in evidence.eval if row["kind"] != "zero-shot" and row["prompts"]})
    text = f"Here: {plural(len(evidence.seeds), 'seed')} ({seeds})"
    if prompts:
        text += f", {' or '.join(map(str, prompts))} prompts a model"
    text += f", measured on {evidence.machine}" if evidence.machine else "; on which machine was not noted"
    missing = []
    sparse = {(r["sparsity_class"], variant(r["policy"])) for r in evidence.eval if r["kind"] in ("scratch", "distilled")}
    wanted = {(kind, *one) for kind in ("scratch", "distilled") for one in sparse if kind == "scratch" or one[0] > 0}
    for kind, c, name in sorted(wanted, key=str):
        lacks = [str(s) for s in evidence.seeds if s not in evidence.trained("eval", kind, c, name)]
        if lacks:
            missing.append(f"{kind} {name} at {c} % lacks seed {', '.join(lacks)}")
    parts = {row["kind"] for row in evidence.eval}
    missing += [f"no part {kind}" for kind in ("scratch", "distilled", "zero-shot") if kind not in parts]
    return text + ". " + ("Missing: " + "; ".join(missing) + "." if missing else "Every part has every seed.")


def page(evidence, sections, tally, clips):
    lines = [
        "# Evidence",
        "",
        "The paper's claims of training ([arXiv 2507.13546](https://arxiv.org/abs/2507.13546)), measured "
        "again on models that anyone can retrain. They are small, and their clips are drawings: what fails here may hold "
        "at 14B, and the other way round.",
        "",
        "| question | the paper | here |",
        "|---|---|---|",
    ]
    for i, s in enumerate(sections, 1):
        lines.append(f"| {i}. {s.title} | {s.paper} | {s.short[:1].upper() + s.short[1:]} |")
    lines += ["", size_of(evidence), "", "## How", "", HOW]
    by_chance = 0.05 * tally.made
    lines += [
        f"This page makes {plural(tally.made, 'comparison')} with an interval; {tally.different} show a difference. Were there "
        f"none at all, about {by_chance:.0f} would by chance, and as all are beside the same dense model they do not err "
        "apart: a single bold figure proves little.",
        "",
    ]
    for i, s in enumerate(sections, 1):
        lines += [f"## {i}. {s.title}", "", f"The paper: {s.paper}", "", *s.lines, ""]
        for plot in s.plots:
            lines += [f"![{plot.says}](evidence/{plot.name}.svg)", ""]
    lines += ["## Clips", "", *clips]
    lines = [part for line in lines for part in wrapped(line)]
    squeezed = [line for i, line in enumerate(lines) if line or (i and lines[i - 1])]
    return "\n".join(squeezed).rstrip() + "\n"


def wrapped(line):
    """Prose at the width of the other pages; tables, pictures and what is wrapped already as they are."""
    if line.startswith(("|", "!")) or "\n" in line or not line:
        return [line]
    joined = line.replace(" %", "\0%")  # a figure and its sign stay together
    return [
        part.replace("\0", " ")
        for part in textwrap.wrap(
            joined,
            120,
            subsequent_indent="  " if line.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def main():
    parser = argparse.ArgumentParser(description="docs/evidence.md and its pictures from the CSVs of bench/evidence/measure.sh")
    parser.add_argument("results", nargs="?", default="bench/results/evidence", help="folder of CSVs [%(default)s]")
    parser.add_argument("-o", "--output", default="docs", help="folder for evidence.md and evidence/ [%(default)s]")
    args = parser.parse_args()
    try:
        import plots
    except ImportError as err:
        return f"report.py: {err}: plots need matplotlib; install it for {sys.executable}"
    try:
        evidence, tally = Evidence(args.results), Tally()
        sections = [question(evidence, tally) for question in QUESTIONS]
        folder = os.path.join(args.output, "evidence")
        os.makedirs(folder, exist_ok=True)
        made = set()
        for section in sections:
            for plot in section.plots:
                path = os.path.join(folder, plot.name + ".svg")
                getattr(plots, plot.draw)(*plot.values, path)
                made.add(path)
        path = os.path.join(args.output, "evidence.md")
        clips = strips(evidence, folder, made)
        text = page(evidence, sections, tally, clips)
        with open(path + ".tmp", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".tmp", path)
        for name in os.listdir(folder):  # pictures of figures that are there no more; the folder is this script's own
            if name.endswith((".svg", ".webp", ".tmp")) and os.path.join(folder, name) not in made:
                os.remove(os.path.join(folder, name))
    except (BadInput, OSError) as err:
        return f"report.py: {err}"
    print(f"{path}, {plural(len(made), 'picture')} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
