# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of docs/evidence.md: intervals, and the verdicts that follow from them. No plotting, no files."""

import math
from dataclasses import dataclass

from data import right

Z = 1.959964
# Student's t, 97.5 %, by degrees of freedom
T = [
    12.7062,
    4.3027,
    3.1824,
    2.7764,
    2.5706,
    2.4469,
    2.3646,
    2.3060,
    2.2622,
    2.2281,
    2.2010,
    2.1788,
    2.1604,
    2.1448,
    2.1314,
    2.1199,
    2.1098,
    2.1009,
    2.0930,
    2.0860,
    2.0796,
    2.0739,
    2.0687,
    2.0639,
    2.0595,
    2.0555,
    2.0518,
    2.0484,
    2.0452,
    2.0423,
]


@dataclass
class Difference:
    """A difference with its 95 % interval, and what each seed says of it."""

    value: float
    low: float
    high: float
    n: int  # what the interval is over: prompts, or seeds
    seeds: dict  # {seed: difference}

    def agree(self):
        """Whether no seed says the opposite."""
        return all(v * self.value >= 0 for v in self.seeds.values())

    def verdict(self):
        """-1 below, 1 above, 0 not told apart: the interval leaves out 0, and no seed says the opposite."""
        if not self.agree() or self.low <= 0 <= self.high:
            return 0
        return 1 if self.low > 0 else -1


def mean(values):
    return sum(values) / len(values)


def wilson(hits, n):
    """Wilson's interval of a share."""
    share = hits / n
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    spread = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def student(values):
    """Mean and Student's interval; the interval is infinite for one value."""
    n, centre = len(values), mean(values)
    if n < 2:
        return centre, -math.inf, math.inf
    deviation = math.sqrt(sum((v - centre) ** 2 for v in values) / (n - 1))
    spread = (T[n - 2] if n - 2 < len(T) else Z) * deviation / math.sqrt(n)
    return centre, centre - spread, centre + spread


def paired_prompts(first, second, trait):
    """How much more often `second` is right than `first`: {seed: [bits a prompt]} of both, on the same prompts.

    The seeds answer the same prompts, so a prompt counts once, with its mean over the seeds that both have. With one
    seed the interval is nabla_eval_compare's (Wald's for pairs with half a prompt added to each cell, Agresti & Min
    2005). None where there is nothing to compare.
    """
    by_prompt, seeds = {}, {}
    for seed in sorted(set(first) & set(second)):
        changes = []
        for i, (a, b) in enumerate(zip(first[seed], second[seed])):
            before, after = right(a, trait), right(b, trait)
            if before is not None and after is not None:
                by_prompt.setdefault(i, []).append(after - before)
                changes.append(after - before)
        if changes:
            seeds[seed] = mean(changes)
    if not seeds:
        return None
    changes = [mean(c) for c in by_prompt.values()]
    return Difference(mean(changes), *wald(changes), len(changes), seeds)


def wald(changes):
    """The interval of the mean of changes from -1 to 1, with one gained and one lost added."""
    n, total = len(changes), sum(changes)
    centre = total / (n + 2)
    spread = Z * math.sqrt(max(0.0, sum(c * c for c in changes) + 1 - total * centre)) / (n + 2)
    return max(-1.0, centre - spread), min(1.0, centre + spread)


def paired_seeds(first, second):
    """second - first, figures by seed: Student's interval over the seeds that both have; None without any."""
    seeds = {
        s: second[s] - first[s]
        for s in sorted(set(first) & set(second))
        if first[s] is not None and second[s] is not None
    }
    if not seeds:
        return None
    return Difference(*student(list(seeds.values())), len(seeds), seeds)


def paired_ratios(first, second):
    """second / first, figures by seed; the interval is Student's of the logarithm."""
    logs = {s: math.log(second[s] / first[s]) for s in sorted(set(first) & set(second)) if first[s] and second[s]}
    if not logs:
        return None
    centre, low, high = student(list(logs.values()))
    high = math.exp(high) if high < 700 else math.inf
    return Difference(math.exp(centre), math.exp(low), high, len(logs), {s: math.exp(v) for s, v in logs.items()})


def share(seen, trait):
    """(hits, asked) over all seeds and prompts."""
    values = [right(bits, trait) for prompts in seen.values() for bits in prompts]
    values = [v for v in values if v is not None]
    return sum(values), len(values)


def last_loss(curve, rows=5):
    """The mean of the last rows of a curve: one row alone is the loss of a few steps' clips and noise levels."""
    return mean([loss for _, loss in curve[-rows:]])


def at_sparsity(points, sparsity):
    """Straight between the two neighbours of (sparsity, value) points; None outside of them."""
    points = sorted(p for p in points if p[0] is not None and p[1] is not None)
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x0 <= sparsity <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (sparsity - x0) / (x1 - x0)
    return None


def mean_map(maps, column):
    """[layers][steps] of a column, mean over heads and seeds; None where there is nothing."""
    sums = {}
    for rows in maps.values():
        for row in rows:
            if row[column] is not None:
                cell = sums.setdefault((row["layer"], row["step"]), [0.0, 0])
                cell[0] += row[column]
                cell[1] += 1
    return grid_of(sums)


def head_map(maps):
    """[layers][heads] of the density, mean over steps and seeds."""
    sums = {}
    for rows in maps.values():
        for row in rows:
            cell = sums.setdefault((row["layer"], row["head"]), [0.0, 0])
            cell[0] += row["density"]
            cell[1] += 1
    return grid_of(sums)


def grid_of(sums):
    if not sums:
        return None
    ys, xs = sorted({y for y, _ in sums}), sorted({x for _, x in sums})
    return [[sums[y, x][0] / sums[y, x][1] if (y, x) in sums else math.nan for x in xs] for y in ys]


# ------------------------------------------------------------------ sentences


def plural(n, word):
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def points(value):
    """A difference of shares, in points."""
    return f"{100 * value:+.1f}"


def interval(d, form):
    if math.isinf(d.high):
        return "[one seed]"
    return f"[{form(d.low)}, {form(d.high)}]"


def size(d, form, unit):
    """How much below or above, the interval in the same direction."""
    if math.isinf(d.high):
        return f"{form(d.value)}{unit}, one seed"
    low, high = (-d.high, -d.low) if d.value < 0 else (d.low, d.high)
    return f"{form(abs(d.value)).lstrip('+')}{unit} [{form(low).lstrip('+')}, {form(high).lstrip('+')}]"


def told(claims, what, other, form, unit=""):
    """Sentences: which of [(name, Difference)] are below, above, and not told apart from the other."""
    groups = {"below": [], "above": [], "unsettled": [], "same": [], "lone": []}
    for name, d in claims:
        if not d:
            continue
        if math.isinf(d.high):
            group = "lone"
        elif d.verdict():
            group = "below" if d.verdict() < 0 else "above"
        else:
            group = "same" if d.low <= 0 <= d.high else "unsettled"
        side = "" if group in ("below", "above", "lone") or not d.value else " below" if d.value < 0 else " above"
        groups[group].append(
            f"{name} is {size(d, form, unit)}{side}"
            if side
            else f"{name} by {size(d, form, unit)}" if group != "lone" and d.value else f"{name} {size(d, form, unit)}"
        )
    starts = {
        "below": f"{what}, below {other} at 95 %: ",
        "above": f"{what}, above {other} at 95 %: ",
        "unsettled": f"{what}, not settled against {other}, since a seed says the opposite of the interval: ",
        "same": f"{what}, no difference to {other} at 95 %: ",
        "lone": f"{what}, against {other}, where one seed tells nothing of chance: ",
    }
    return [f"- {starts[group]}{'; '.join(found)}." for group, found in groups.items() if found]
