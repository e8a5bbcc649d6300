# SPDX-License-Identifier: Apache-2.0
"""The question of what training costs."""

import math

from figures import mean, paired_ratios
from section import Plot, Section, by_seed, change, figure, name_of, percent, table, trained_models

TIMES = "{:.2f}".format


def cards(evidence):
    """[(card, its seeds)]: speeds of different cards are not averaged. Where no card was noted, all in one."""
    found = {}
    for seed in evidence.seeds:
        names = " or ".join(evidence.cards_of(("scratch", "distilled"), seed))
        found.setdefault(names, []).append(seed)
    return list(found.items())


def speed(evidence, tally):
    s = Section(
        "What does training cost?",
        "A step at 512^2 takes 7.5 s at 80 % sparsity against 10.9 s dense, 1.46 times as fast (section 4).",
    )
    rows, shown, ratios = [], {}, []
    by_card = cards(evidence)
    dense = by_seed(evidence.trained("train", "scratch", 0, "dense"), "samples_per_second")

    def each(own):
        return [figure([own.get(seed) for seed in seeds], "{:.1f}") for _, seeds in by_card]

    if dense:
        rows.append(["scratch", "0.0", "dense", str(len(dense)), *each(dense), ""])
    for kind in ("scratch", "distilled"):
        for c, name in trained_models(evidence, kind):
            runs = evidence.trained("train", kind, c, name)
            own = by_seed(runs, "samples_per_second")
            if not own:
                continue
            d = tally.add(paired_ratios(dense, own), kind, c, name, "speed")
            if d:
                shown.setdefault(f"{kind}, about {c} %", {})[name] = d.seeds
                if kind == "scratch":
                    ratios.append((c, name, d))
            sparsity = percent(by_seed(runs, "sparsity").values())
            rows.append([kind, sparsity, name, str(len(own)), *each(own), change(d, TIMES)])
    s.lines += [
        "Samples a second of whole steps, data and optimizer included, by each run's own clock; students also pay for a "
        "forward pass of their teacher. A full clip has 72 blocks only, where the paper's have a thousand and "
        "more. Ratio to dense of the same seed on the same card, Student's interval of its logarithm:",
        "",
    ]
    heads = [f"samples/s, {card or 'card not noted'} (seed {', '.join(map(str, seeds))})" for card, seeds in by_card]
    s.lines += table(["trained", "sparsity in training, %", "policy", "seeds", *heads, "times dense"], rows)
    if ratios:
        parts = []
        for c in sorted({c for c, _, _ in ratios}):
            of = [d for of, _, d in ratios if of == c]
            parts.append(f"{min(d.value for d in of):.2f} to {max(d.value for d in of):.2f} at {c} %")
        faster = sum(d.verdict() > 0 and not math.isinf(d.high) for *_, d in ratios)
        name, best = max(((name_of(c, n), d) for c, n, d in ratios), key=lambda r: r[1].value)
        s.short = (
            f"from scratch {' and '.join(parts)} times dense's samples a second, {name} most; faster at 95 %: {faster} "
            f"of {len(ratios)}."
        )
    else:
        s.short = "no figures yet."
    hours = taken(evidence)
    if hours:
        s.lines += [f"All runs and evaluations of a seed took {hours}, the base not counted.", ""]
    if shown:
        s.plots.append(
            Plot(
                "dots",
                (shown, "times dense's samples a second", 1.0),
                "speed",
                "training speed by policy, a mark a seed",
            )
        )
    return s


def taken(evidence):
    """Hours a seed, by the programs' own clocks: runs, and prompts times the seconds that each took."""
    seconds = {}
    for row in evidence.train:
        seconds.setdefault(row["seed"], []).append(row["seconds"] or 0.0)
    for row in evidence.eval:
        seconds.setdefault(row["seed"], []).append((row["seconds"] or 0.0) * (row["prompts"] or 0))
    return f"{mean([sum(of) for of in seconds.values()]) / 3600:.2f} hours" if seconds else ""
