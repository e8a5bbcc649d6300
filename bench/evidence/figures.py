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
    """A difference, or a ratio, with its 95 % interval, and what each seed says of it."""

    value: float
    low: float
    high: float
    n: int  # what the interval is over: prompts, or seeds
    seeds: dict  # {seed: difference}
    over: str = "prompts"  # or "seeds"
    none: float = 0.0  # no difference: 1 for a ratio

    def settled(self):
        """Whether other seeds can be expected to say the same: Student's interval over them leaves out `none`. One seed
        tells nothing of others, and its verdict is of its models alone."""
        if self.over == "seeds" or len(self.seeds) < 2:
            return True
        _, low, high = student(list(self.seeds.values()))
        return not low <= self.none <= high

    def verdict(self):
        """-1 below, 1 above, 0 not told apart: both intervals leave out `none`, over prompts and over seeds."""
        if self.low <= self.none <= self.high or not self.settled():
            return 0
        return 1 if self.low > self.none else -1


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


def rights(seen, trait):
    """{seed: [1.0, 0.0 or None a prompt]} of {seed: [bits a prompt]}"""
    return {seed: [right(bits, trait) for bits in prompts] for seed, prompts in seen.items()}


def paired_prompts(first, second, trait):
    """How much more often `second` is right than `first`: {seed: [bits a prompt]} of both, on the same prompts."""
    return paired(rights(first, trait), rights(second, trait))


def paired(first, second):
    """second - first of {seed: [a figure from 0 to 1 or None a prompt]}, on the same prompts.

    The seeds answer the same prompts, so a prompt counts once, with its mean over the seeds that both have. With one
    seed the interval is nabla_eval_compare's (Wald's for pairs with half a prompt added to each cell, Agresti & Min
    2005). None where there is nothing to compare.
    """
    by_prompt, seeds = {}, {}
    for seed in sorted(set(first) & set(second)):
        changes = []
        for i, (before, after) in enumerate(zip(first[seed], second[seed])):
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
    return Difference(*student(list(seeds.values())), len(seeds), seeds, "seeds")


def paired_ratios(first, second):
    """second / first, figures by seed; the interval is Student's of the logarithm."""
    logs = {s: math.log(second[s] / first[s]) for s in sorted(set(first) & set(second)) if first[s] and second[s]}
    if not logs:
        return None
    centre, low, high = student(list(logs.values()))
    high = math.exp(high) if high < 700 else math.inf
    seeds = {s: math.exp(v) for s, v in logs.items()}
    return Difference(math.exp(centre), math.exp(low), high, len(logs), seeds, "seeds", 1.0)


def share(seen, trait):
    """(hits, asked) over all seeds and prompts."""
    values = [right(bits, trait) for prompts in seen.values() for bits in prompts]
    values = [v for v in values if v is not None]
    return sum(values), len(values)


def paired_relative(first, second):
    """second / first - 1"""
    d = paired_ratios(first, second)
    if not d:
        return None
    seeds = {s: v - 1 for s, v in d.seeds.items()}
    return Difference(d.value - 1, d.low - 1, d.high - 1, d.n, seeds, "seeds")


def further(one, other):
    """other - one of two differences over prompts that are not the same: their intervals joined as those of independent
    figures (Zou & Donner 2008). None where one is missing."""
    if not one or not other:
        return None
    value = other.value - one.value
    low = value - math.hypot(other.value - other.low, one.high - one.value)
    high = value + math.hypot(other.high - other.value, one.value - one.low)
    seeds = {s: other.seeds[s] - one.seeds[s] for s in one.seeds if s in other.seeds}
    return Difference(value, low, high, min(one.n, other.n), seeds) if seeds else None


def share_interval(seen, trait):
    """The interval of a share over all seeds, a prompt counting once: Wilson's with as many independent answers as the
    spread of the prompts' means amounts to, from one a prompt where all seeds say the same to one a prompt and seed."""
    by_prompt = {}
    for values in rights(seen, trait).values():
        for i, value in enumerate(values):
            if value is not None:
                by_prompt.setdefault(i, []).append(value)
    means = [mean(values) for values in by_prompt.values()]
    n, centre = len(means), mean(means)
    most = sum(map(len, by_prompt.values()))
    spread = sum((m - centre) ** 2 for m in means) / max(1, n - 1)
    answers = min(most, max(n, n * centre * (1 - centre) / spread)) if spread else n
    return wilson(centre * answers, answers)


def last_loss(curve, rows=5):
    """The mean of the last rows of a curve: one row alone is the loss of a few steps' clips and noise levels."""
    return mean([loss for _, loss in curve[-rows:]])


def neighbours(points, sparsity):
    """Of (sparsity, what) points: the two next to a sparsity, and the second one's weight; None outside of them."""
    points = sorted((p for p in points if p[0] is not None and p[1] is not None), key=lambda p: p[0])
    if len(points) == 1 and points[0][0] == sparsity:
        return points[0][1], points[0][1], 0.0
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x0 <= sparsity <= x1:
            return y0, y1, (sparsity - x0) / (x1 - x0) if x1 > x0 else 0.0
    return None


def at_sparsity(points, sparsity):
    """Straight between the neighbours."""
    found = neighbours(points, sparsity)
    return found[0] + (found[1] - found[0]) * found[2] if found else None


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
