# SPDX-License-Identifier: Apache-2.0
"""The question of several objects: surplus ones, relations, one object against two, and those that leave and return."""

from collections import Counter

from data import NAMES, TRAITS, family
from figures import further, paired_prompts, plural, points, share
from section import Plot, Section, change, checker, name_of, reach, share_cell, table, trained_models

COUNTED = ["count", "relation", "placed", "more"]
KINDS = ("scratch", "distilled")


def objects(evidence, tally):
    s = Section(
        "Does STA alone lose, and most where there are several objects?",
        "STA loses most on multiple objects (50.5 against 70.6) and spatial relations (66.5 against 71.0; Table 4), and "
        "duplicates objects; the union with NABLA does not.",
    )
    every, lost, more, plotted = [], [], [], {}
    for kind in KINDS:
        rows, differences = checker(evidence, kind, tally, COUNTED)
        every += [["scratch" if r[1] == "dense" else kind, *r] for r in rows if kind == "scratch" or r[1] != "dense"]
        for c, models in differences.items():
            plotted[f"{kind}, about {c} %"] = models
            more += [(family(name), own["more"]) for name, own in models.items()]
            for name in [n for n in models if family(n) == "sta"]:
                lost.append((f"{kind} {name_of(c, name)}", *losses_by_trait(evidence, kind, c, name)))
    s.lines += [
        f"Every prompt asks for two objects{share_asked(evidence)}. `more`: the checker saw more objects than the prompt "
        "asks for. Where it sees more, it judges the pair that suits the prompt best: surplus objects hide what is wrong "
        "with the others' colours, motions and relation; `placed` therefore wants the count right with the relation. "
        "Points against the dense model:",
        "",
    ]
    s.lines += table(["trained", "sparsity in evaluation, %", "policy", "seeds", *COUNTED], every)
    for label, _, traits_lost in lost:
        s.lines.append(
            f"- {label} loses at 95 %: {', '.join(f'{t} {points(d.value)}' for t, d in traits_lost)} points."
            if traits_lost
            else f"- {label} loses in no trait at 95 %."
        )
    lines, over = unions(evidence, tally)
    s.lines += lines
    lines, several = one_and_two(evidence, tally)
    s.lines += lines
    s.lines += returning(evidence, tally)
    if lost:
        first = Counter(t[0][0] for *_, t in lost if t)
        most = f", and loses most in {' or '.join(f'{trait} ({n})' for trait, n in first.most_common())}" if first else ""
        whole = sum(whole for _, whole, _ in lost)
        s.short = (
            f"STA alone is below dense in {whole} of {plural(len(lost), 'model')}{most}. {several} {surplus(more)} {over}"
        ).strip()
    else:
        s.short = "no figures yet."
    if plotted:
        s.plots.append(
            Plot(
                "forest",
                (plotted, COUNTED, "points against dense, 95 %"),
                "objects",
                "count, relation and surplus objects against dense",
            )
        )
    return s


def share_asked(evidence):
    """Which part of the prompts asks for a relation."""
    prompts = [bits for seen in evidence.seen("scratch", 0, "dense").values() for bits in seen]
    return (
        f", {100 * share({0: prompts}, 'relation')[1] / len(prompts):.0f} % of them for a relation" if prompts else ""
    )


def surplus(more):
    """Which kinds of policy draw more objects than dense does."""
    parts = []
    for kind in ("sta", "nabla", "union"):
        of = [d for f, d in more if f == kind and d]
        up = [d.value for d in of if d.verdict() > 0]
        if of:
            parts.append(f"{NAMES[kind]} {len(up)} of {len(of)}" + (f" (+{reach(up, points, ' points')})" if up else ""))
    return f"More surplus objects than dense: {', '.join(parts)}." if parts else ""


def losses_by_trait(evidence, kind, c, name):
    """Whether it is below dense in all right; [(trait, Difference)] of what it loses, the most first."""
    dense, seen = evidence.seen("scratch", 0, "dense"), evidence.seen(kind, c, name)
    found = {t: paired_prompts(dense, seen, t) for t in TRAITS}
    lost = [(t, d) for t, d in found.items() if d and d.verdict() < 0]
    return any(t == "all" for t, _ in lost), sorted([x for x in lost if x[0] != "all"], key=lambda x: x[1].value)


def unions(evidence, tally):
    """The union against each of its parts, and in short whether it is better than NABLA alone."""
    rows, verdicts = [], {}
    for kind in KINDS:
        for c, name in trained_models(evidence, kind):
            seen = evidence.seen(kind, c, name)
            if family(name) != "union" or not seen:
                continue
            for _, other in [m for m in trained_models(evidence, kind) if m[0] == c and family(m[1]) in ("sta", "nabla")]:
                beside = evidence.seen(kind, c, other)
                found = [tally.add(paired_prompts(beside, seen, t), kind, c, name, other, t) for t in ("all", "more")]
                if not found[0]:
                    continue
                rows.append([kind, str(c), name, other, *[change(d, points) for d in found]])
                if family(other) == "nabla":
                    verdicts.setdefault(c, []).append(found[0])
    if not rows:
        return [], ""
    lines = [
        "",
        "The union against windows and NABLA alone of about its sparsity, points on the same prompts and noise:",
        "",
        *table(["trained", "class, %", "union", "against", "all right", "more objects"], rows),
    ]
    parts = []
    for c, of in verdicts.items():
        gained = [d.value for d in of if d.verdict() > 0]
        parts.append(
            f"in {len(gained)} of {len(of)} at {c} %" + (f" (+{reach(gained, points, '')} points)" if gained else "")
        )
    return lines, f"The union has more all right than NABLA alone {', '.join(parts)}." if parts else ""


def only(seen, wanted):
    """The prompts that are wanted, one flag each."""
    return {seed: [bits for bits, yes in zip(prompts, wanted) if yes] for seed, prompts in seen.items()}


def one_and_two(evidence, tally):
    """The same models asked for one object and for two; in short, whether STA loses more with two."""
    leaving = evidence.leaving()

    def two_of(seen):
        return only(seen, [not away for away in leaving]) if leaving else seen

    dense = [evidence.seen("one", 0, "dense"), two_of(evidence.seen("two", 0, "dense"))]
    if not all(dense):
        return [
            "",
            "Whether it loses more with two objects than with one has not been measured: part `one` of `measure.sh` does.",
            "",
        ], "Whether more with two objects than with one is not measured yet."
    rows, verdicts = [], []
    rows.append(["0", "dense", str(len(dense[0])), *[share_cell(dense[i], t, None) for i, t in WANTED], "", ""])
    for c, name in trained_models(evidence, "one"):
        seen = [evidence.seen("one", c, name), two_of(evidence.seen("two", c, name))]
        if not all(seen):
            continue
        own = [tally.add(paired_prompts(dense[i], seen[i], t), "one", c, name, i, t) for i, t in WANTED]
        beyond = [tally.add(further(own[0], d), "two against one", c, name, i) for i, d in enumerate(own[1:])]
        rows.append(
            [
                str(c),
                name,
                str(len(seen[0])),
                *[share_cell(seen[i], t, d) for (i, t), d in zip(WANTED, own)],
                *[change(d, points) for d in beyond],
            ]
        )
        if family(name) == "sta" and beyond[1]:
            verdicts.append((name_of(c, name), beyond))
    seeds = sorted(dense[0])
    cards = {s: " and ".join(evidence.cards_of(("one", "two"), s)) or "a card not noted" for s in seeds}
    where = "; ".join(f"seed {s} on {card}" for s, card in cards.items())
    lines = [
        "",
        "The same models asked for one object and for two, each against dense on the same prompts; the two sets of prompts "
        "have nothing in common, so what a policy loses more with two is a difference of independent differences. One "
        "object has a checker of its own, which reads colour, shape and motion where nothing large lies beside it; two "
        "objects must also be two, and related as asked: `described` leaves count and relation out, and is what is like "
        "one object's. "
        + ("Prompts whose object leaves the picture, of which one object knows none, are left out. " if leaving else "")
        + f"{where[:1].upper() + where[1:]}:",
        "",
        *table(
            ["class, %", "policy", "seeds", "one: all right", "two: all right", "two: described"]
            + ["two - one, all right", "two - one, described"],
            rows,
        ),
    ]
    if len(seeds) == 1:
        lines += ["One seed: bold there tells of other prompts for these models, not of other seeds.", ""]
    if not verdicts:
        return lines, ""
    worse = [[n for n, b in verdicts if b[i] and b[i].verdict() < 0] for i in (0, 1)]
    said = (
        f"It loses more of dense's points with two objects than with one in {len(worse[0])} of {len(verdicts)} models (all "
        f"right), {len(worse[1])} (described)."
    )
    return lines, said


WANTED = [(0, "all"), (1, "all"), (1, "described")]  # of one object, of two


def returning(evidence, tally):
    """Prompts one of whose objects leaves the picture and comes back, and the others."""
    leaving = evidence.leaving()
    dense = evidence.seen("scratch", 0, "dense")
    if not leaving or not dense:
        return []
    groups = [leaving, [not away for away in leaving]]
    shares = [share_cell(only(dense, g), t, None) for t in ("motion", "all") for g in groups]
    rows = [["scratch", "0", "dense", *shares, ""]]
    for kind in KINDS:
        for c, name in trained_models(evidence, kind):
            seen = evidence.seen(kind, c, name)
            if not seen:
                continue
            own, cells = [], []
            for trait in ("motion", "all"):
                for i, group in enumerate(groups):
                    d = paired_prompts(only(dense, group), only(seen, group), trait)
                    own.append(tally.add(d, kind, c, name, trait, ("leaving", "others")[i]))
                    cells.append(share_cell(only(seen, group), trait, d))
            beyond = tally.add(further(own[1], own[0]), kind, c, name, "leaving against others")
            rows.append([kind, str(c), name, *cells, change(beyond, points)])
    return [
        f"What leaves the picture must be remembered until it returns: {sum(leaving)} of the {len(leaving)} prompts "
        "([captions](../bench/results/evidence/captions.csv)) have an object that moves out and back. Points against dense on "
        "the same prompts; last, what a policy loses more of motion there than elsewhere:",
        "",
        *table(
            ["trained", "class, %", "policy", "motion: leaving", "motion: others", "all: leaving", "all: others"]
            + ["motion, leaving - others"],
            rows,
        ),
    ]
