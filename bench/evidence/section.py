# SPDX-License-Identifier: Apache-2.0
"""What the questions of docs/evidence.md are made of: a section, its tables' cells, and whether a claim stands."""

import math
from dataclasses import dataclass, field

from figures import interval, mean, paired_prompts, plural, points, share

CLASSES = [80, 90]
BORDER = "{:+.3f}".format


@dataclass
class Plot:
    draw: str  # a function of plots
    values: tuple
    name: str  # of the file, without its ending
    says: str  # for who cannot see it


@dataclass
class Section:
    title: str
    paper: str  # what the paper says
    short: str = ""  # what came out, for the summary
    lines: list = field(default_factory=list)
    plots: list = field(default_factory=list)


class Tally:
    """Counts comparisons, each once wherever the page shows it: of many, some show a difference by chance."""

    def __init__(self):
        self.verdicts = {}

    def add(self, d, *of):
        """`of` says what is compared."""
        if d and not math.isinf(d.high):
            self.verdicts[of] = d.verdict()
        return d

    def made(self):
        return len(self.verdicts)

    def different(self):
        return sum(verdict != 0 for verdict in self.verdicts.values())


def table(header, rows):
    return [
        "| " + " | ".join(header) + " |",
        "|---" * len(header) + "|",
        *["| " + " | ".join(row) + " |" for row in rows],
        "",
    ]


def by_seed(rows, column):
    return {seed: row[column] for seed, row in rows.items() if row[column] is not None}


def percent(values):
    values = [v for v in values if v is not None]
    return f"{100 * mean(values):.1f}" if values else ""


def figure(values, form):
    values = [v for v in values if v is not None]
    return form.format(mean(values)) if values else ""


def change(d, form):
    """A difference for a table's cell, bold where it can be told from none."""
    if not d:
        return ""
    text = f"{form(d.value)} {interval(d, form) if not math.isinf(d.high) else '[one seed]'}"
    return f"**{text}**" if d.verdict() else text


def share_cell(seen, trait, d):
    hits, asked = share(seen, trait)
    if not asked:
        return ""
    return f"{100 * hits / asked:.1f}" + (f"<br>{change(d, points)}" if d else "")


def name_of(sparsity_class, name):
    return f"{name} at {sparsity_class} %"


def trained_models(evidence, kind):
    """[(class, variant)] that have a row at all."""
    return [(c, name) for c in CLASSES for name in evidence.variants(kind, c)]


def reach(values, form, unit):
    """"13.5 to 42.7 points", sizes alone."""
    sizes = sorted((abs(v) for v in values))
    texts = [form(v).lstrip("+") for v in (sizes[0], sizes[-1])]
    return (texts[0] if texts[0] == texts[1] else " to ".join(texts)) + unit


def not_worse(claims, what, form, unit):
    """The paper says that nothing is lost: whether that holds. claims: [(name, difference, sign of what is worse)]"""
    claims = [(n, d, sign) for n, d, sign in claims if d]
    if not claims:
        return f"{what}: no figures yet"
    if all(math.isinf(d.high) for _, d, _ in claims):
        return f"{what}: one seed tells nothing of chance"
    worse = [(n, d) for n, d, sign in claims if d.verdict() == sign]
    better = [n for n, d, sign in claims if d.verdict() == -sign]
    room = max(-d.low if sign < 0 else d.high for _, d, sign in claims if not math.isinf(d.high))
    many = plural(len(claims), "model")
    loose = [n for n, d, sign in claims if not d.settled() and (d.high if sign < 0 else -d.low) < 0]
    if worse:
        names = "" if len(worse) == len(claims) else f" ({', '.join(n for n, _ in worse)})"
        how_many = f"all {len(claims)}" if len(worse) == len(claims) > 1 else f"{len(worse)} of {many}"
        text = f"{what}: fails for {how_many}{names}, by {reach([d.value for _, d in worse], form, unit)}"
    elif loose:
        text = f"{what}: not settled, worse over prompts but not over seeds: {', '.join(loose)}"
    else:
        text = f"{what}: stands, none of {many} is worse at 95 %"
        text += f", though a loss of up to {form(room).lstrip('+')}{unit} is not ruled out" if room > 0 else ""
    return text + (f"; better: {', '.join(better)}" if better else "")


def checker(evidence, kind, tally, traits, extra=()):
    """Rows of a checker's table, and {class: {variant: {trait: Difference}}}, against the dense model."""
    dense = evidence.seen("scratch", 0, "dense")
    head = [""] * (3 + len(extra))
    rows = [["0", "dense", str(len(dense)), *head[3:], *[share_cell(dense, t, None) for t in traits]]] if dense else []
    differences = {}
    for c, name in trained_models(evidence, kind):
        seen = evidence.seen(kind, c, name)
        if not seen:
            continue
        evaluated = evidence.trained("eval", kind, c, name)
        own = {t: tally.add(paired_prompts(dense, seen, t), kind, c, name, t) for t in traits}
        differences.setdefault(c, {})[name] = own
        rows.append(
            [
                percent(by_seed(evaluated, "sparsity").values()) or str(c),
                name,
                str(len(seen)),
                *[figure(by_seed(evaluated, column).values(), form) for column, form in extra],
                *[share_cell(seen, t, own[t]) for t in traits],
            ]
        )
    return rows, differences


def titles(differences):
    return {f"about {c} % sparse": models for c, models in differences.items()}
