# SPDX-License-Identifier: Apache-2.0
"""Votes of several people, read and summed as the paper's Table 3: shares of answers, with intervals."""

import csv
import random

from data import BadInput
from figures import plural, wald, wilson

QUESTIONS = ["semantic", "visual", "motion", "overall"]
ANSWERS = ["left", "right", "both good", "both bad"]
COLUMNS = ["page", "voter", "pair", "left", "right", *QUESTIONS]
RESAMPLES = 2000


def read(paths):
    """{question: [(voter, pair, model that is better, or "both good" or "both bad")]} and the models' names."""
    votes, models, seen = {q: [] for q in QUESTIONS}, set(), {}
    for path in paths:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames != COLUMNS:
                raise BadInput(f"{path}: its columns are not {','.join(COLUMNS)}: give what the page saved")
            try:
                rows = list(rows)
            except (csv.Error, UnicodeDecodeError) as err:
                raise BadInput(f"{path}: {err}") from None
        for number, row in enumerate(rows, 2):
            where = f"{path}, row {number}"
            if None in row or None in row.values():
                raise BadInput(f"{where}: it has not {len(COLUMNS)} fields: ask for the file again")
            one = (row["voter"], row["page"], row["pair"])
            if one in seen:
                raise BadInput(
                    f"{where}: voter {row['voter']} has judged pair {row['pair']} in {seen[one]} already: "
                    "give the later file alone"
                )
            seen[one] = path
            models |= {row["left"], row["right"]}
            for q in QUESTIONS:
                if row[q] not in ["", *ANSWERS]:
                    raise BadInput(f"{where}: {q} is '{row[q]}', which is none of {', '.join(ANSWERS)}")
                if row[q]:
                    votes[q].append((row["voter"], row["pair"], row[row[q]] if row[q] in ("left", "right") else row[q]))
    if len(models) != 2:
        raise BadInput(
            f"these are votes on {len(models)} models ({', '.join(sorted(models)) or 'none'}), and two are "
            "compared: sum each comparison alone"
        )
    return votes, sorted(models)


def resampled(votes, value, seed=0):
    """The interval of a mean of value(answer) over resampled people and pairs, each with its votes (Owen's pigeonhole
    bootstrap): votes of one person, or on one pair, are alike."""
    voters, pairs = sorted({v for v, _, _ in votes}), sorted({p for _, p, _ in votes})
    cells = [(voters.index(v), pairs.index(p), value(a)) for v, p, a in votes]
    draw, means = random.Random(seed), []
    while len(means) < RESAMPLES:
        people, items = [0] * len(voters), [0] * len(pairs)
        for _ in voters:
            people[draw.randrange(len(voters))] += 1
        for _ in pairs:
            items[draw.randrange(len(pairs))] += 1
        weight = sum(people[v] * items[p] for v, p, _ in cells)
        if weight:  # else nobody drawn has judged anything drawn
            means.append(sum(people[v] * items[p] * x for v, p, x in cells) / weight)
    means.sort()
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def share(votes, answer):
    """Share of an answer and its interval: resampled, but no narrower than Wilson's, which knows how little none of few
    votes says. None without votes."""
    if not votes:
        return None
    hits = sum(a == answer for _, _, a in votes)
    low, high = resampled(votes, lambda a: float(a == answer))
    least, most = wilson(hits, len(votes))
    return hits / len(votes), min(low, least), max(high, most)


def preference(votes, baseline, other):
    """How much more often the other is better than the baseline, and its interval. None without votes."""
    if not votes:
        return None
    points = {baseline: -1.0, other: 1.0}
    changes = [points.get(a, 0.0) for _, _, a in votes]
    low, high = resampled(votes, lambda a: points.get(a, 0.0))
    least, most = wald(changes)
    return sum(changes) / len(votes), min(low, least), max(high, most)


def table(votes, baseline, other):
    """Markdown, as the paper's Table 3."""
    lines = [f"| | {baseline} | {other} | both good | both bad | {other} - {baseline} | votes |", "|---" * 7 + "|"]
    for q in QUESTIONS:
        cells = [q]
        for answer in (baseline, other, "both good", "both bad"):
            found = share(votes[q], answer)
            cells.append("{:.1f} [{:.1f}, {:.1f}]".format(*(100 * x for x in found)) if found else "")
        found = preference(votes[q], baseline, other)
        cells.append("{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * x for x in found)) if found else "")
        lines.append("| " + " | ".join([*cells, str(len(votes[q]))]) + " |")
    return "\n".join(lines)


def verdict(votes, baseline, other):
    """A sentence on the overall preference."""
    found = preference(votes["overall"], baseline, other)
    people, pairs = len({v for v, _, _ in votes["overall"]}), len({p for _, p, _ in votes["overall"]})
    if not found:
        return "Nobody has answered the question of overall preference yet."
    value, low, high = found
    text = (
        f"{plural(people, 'voter')} on {plural(pairs, 'pair')}: {other} is preferred {100 * value:+.1f} points [{100 * low:+.1f}, "
        f"{100 * high:+.1f}] more often than {baseline}"
    )
    if people < 2 or pairs < 2:
        return text + "; one voter or one pair tells nothing of others."
    return text + (": no difference at 95 %." if low <= 0 <= high else ": a difference at 95 %.")
