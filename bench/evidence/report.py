#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/evidence.md and its pictures from what bench/evidence/measure.sh measured:

    bench/evidence/report.py [RESULTS] [-o docs]

RESULTS (bench/results/evidence) holds the CSVs. Needs matplotlib (and Pillow, which comes with it); for film strips the
program ffmpeg or PyAV. Every verdict is computed from the figures; what is not there yet is said to be missing.
"""

import argparse
import os
import sys
import textwrap

from data import BadInput, Evidence, variant
from figures import interval, paired_prompts, plural, points, share
from section import CLASSES, Tally
from questions import QUESTIONS

HOW = """\
This page is made of [CSVs](../bench/results/evidence). Your own, into a folder of your own:

```sh
RESULTS=mine bench/evidence/measure.sh WORK -- --device cuda   # trains and evaluates; goes on where it was stopped
bench/evidence/report.py mine -o mine                          # mine/evidence.md and its pictures
```

What a seed takes on a card stands under question 6. A patient
CPU: two cores of an AMD EPYC (AVX-512 with bf16), shared with other work, trained 13.8, 4.0 and 1.3 clips a second at 64, 128
and 192 pixels (`nabla train` with dense attention, three steps each); over all clips of `measure.sh` that makes about 2 days
for the base and 4 for a seed.

A model of six layers and three heads of 64 learns scenes of one and two moving objects, captions as `a red circle left of a
blue square moving up`: 4,000 steps of 128 clips of 64 x 64, then 7,000 of 64 clips of 128 x 128, both with dense attention,
once for all seeds; then 600 steps of 64 clips of 192 x 192 and 8 frames, 72 blocks of 64 tokens, with each policy, on the
same clips and noise. So `from scratch` means 600 sparse steps after 11,000 dense ones at smaller sizes. Seeds are clips and
noise of this last part. Windows (STA) come in two sizes that keep about a fifth and a tenth; NABLA's thresholds, alone and
with a smaller window, are set to the same sparsity on the dense model. No window of a tenth sees both other frames and
other places, so there are two. Captions of the evaluation are held out. A checker reads colour, shape, motion, count and
relation; `all`: everything that was asked for. It reads each right in 99 % or more of true clips at 96, 128 and 192 pixels,
and passes 0 to 0.7 % (the tests allow 5) of clips spoilt on purpose: colours swapped, an object missing, doubled, frozen, mirrored, of another
shape, or back elsewhere or never (`tests/test_cast.c`, `true_clips_are_read` and `spoilt_clips_are_refused`).

On one machine the same command makes the same models; on another kind of card products are summed in another order, and
600 steps make of it another model: the weights of two trainings of seed 1's dense model, one a card, were 11.1 apart, against
14.8 from the base. So the figures repeat on one kind of card; another is as another seed.

Intervals are at 95 %. Shares are compared in pairs, on the same prompts and noise: a prompt counts once, with its mean over
seeds (Wald's interval for pairs with half a prompt added to each cell, as `nabla eval` does; Agresti and Min 2005). That
tells of other prompts for these models. Of other seeds tells Student's interval over the seeds, wide for three; losses,
borders and times have that alone. **Bold**: a difference at 95 %, for shares by both, though only the first is shown.
"""

VOTES = (
    "People's judgement, as the paper's Table 3, is not measured yet. `bench/evidence/votes.py make A B` makes a page for it "
    "of two folders of [clips](../bench/results/evidence/clips-0), one HTML file of blinded pairs; `votes.py sum` its table."
)


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
            n = strips.strip(models, evidence.clip_captions(seed), 3, os.path.join(folder, "strip-" + shown))
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
    trained = {seed: " and ".join(evidence.cards_of(("scratch", "distilled"), seed)) for seed in evidence.seeds}
    cards = [f"seed {seed} on {card}" for seed, card in trained.items() if card]
    text += f"; {', '.join(cards)}" if cards else "; on which machine was not noted"
    missing = []
    sparse = {(r["sparsity_class"], variant(r["policy"])) for r in evidence.eval if r["kind"] in ("scratch", "distilled")}
    wanted = {(kind, *one) for kind in ("scratch", "distilled") for one in sparse if kind == "scratch" or one[0] > 0}
    for kind, c, name in sorted(wanted, key=str):
        lacks = [str(s) for s in evidence.seeds if s not in evidence.trained("eval", kind, c, name)]
        if lacks:
            missing.append(f"{kind} {name} at {c} % lacks seed {', '.join(lacks)}")
    parts = {row["kind"] for row in evidence.eval}
    missing += [f"no part {kind}" for kind in ("scratch", "one", "distilled", "zero-shot") if kind not in parts]
    return text + ". " + ("Missing: " + "; ".join(missing) + "." if missing else "Every part has every seed.")


def other_cards(evidence, tally):
    """What another card alone changes: a model trained again with the same flags, on the same prompts and noise."""
    lines = []
    for row in evidence.cards:
        kind, c, policy, seed = (row[x] for x in ("kind", "sparsity_class", "policy", "seed"))
        own = evidence.seen(kind, c, variant(policy)).get(seed)
        cards = evidence.cards_of((kind,), seed)
        if not own or row["card"] in cards:
            continue
        here, there = {seed: own}, {seed: row["outcomes"]}
        d = tally.add(paired_prompts(here, there, "all"), "card", row["card"], kind, c, policy, seed)
        shares = [100 * hits / asked for hits, asked in (share(here, "all"), share(there, "all"))]
        lines.append(
            f"- {policy} of seed {seed}, trained once more on {row['card']}: {shares[1]:.1f} % all right against "
            f"{shares[0]:.1f} on {' and '.join(cards) or 'a card not noted'}, {points(d.value)} points {interval(d, points)}."
        )
    if not lines:
        return []
    return ["What another card alone changes, the interval over prompts:", "", *lines, ""]


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
    lines += ["", size_of(evidence), "", "## How", "", *paragraphs(HOW)]
    made = tally.made()
    lines += [
        f"This page makes {plural(made, 'comparison')} with an interval; {tally.different()} show a difference. Were there "
        f"none at all, at most {0.05 * made:.0f} would by chance, and as most are beside the same dense model they do not err "
        "apart: a single bold figure proves little.",
        "",
        *other_cards(evidence, tally),
    ]
    for i, s in enumerate(sections, 1):
        lines += [f"## {i}. {s.title}", "", f"The paper: {s.paper}", "", *s.lines, ""]
        for plot in s.plots:
            lines += [f"![{plot.says}](evidence/{plot.name}.svg)", ""]
    lines += ["## Clips", "", VOTES, "", *clips]
    lines = [part for line in lines for part in wrapped(line)]
    squeezed = [line for i, line in enumerate(lines) if line or (i and lines[i - 1])]
    return "\n".join(squeezed).rstrip() + "\n"


def paragraphs(text):
    """Each a line, to be wrapped; code as it is."""
    lines = []
    for block in text.strip().split("\n\n"):
        lines += [block if block.startswith("```") else " ".join(block.split()), ""]
    return lines


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
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
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
