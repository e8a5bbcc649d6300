# SPDX-License-Identifier: Apache-2.0
"""The questions of docs/evidence.md: for each a table, sentences that follow from the figures, and what to plot. Here
those of training, from scratch and as students."""

from data import TRAITS, family
from borders import borders
from figures import last_loss, mean, paired, paired_prompts, paired_relative, points, rights, share
from objects import objects
from section import (
    Plot,
    Section,
    by_seed,
    change,
    checker,
    figure,
    name_of,
    not_worse,
    percent,
    reach,
    share_cell,
    table,
    titles,
    trained_models,
)
from speed import speed
from zero_shot import untrained, zero_shot

QUARTERS = 4


def from_scratch(evidence, tally):
    s = Section(
        "Does NABLA train as well as full attention?",
        "At 80 % sparsity NABLA's losses are at or below full attention's (Fig. 4).",
    )
    curves = evidence.curves("scratch", 0, "dense")
    dense = {seed: last_loss(curve) for seed, curve in curves.items()}
    rows, claims = [], []
    if dense:
        rows.append(["0", "dense", str(len(dense)), figure(dense.values(), "{:.5f}"), "", ""])
    for c, name in trained_models(evidence, "scratch"):
        own = evidence.curves("scratch", c, name)
        last = {seed: last_loss(curve) for seed, curve in own.items()}
        if not own:
            continue
        d = tally.add(paired_relative(dense, last), "scratch", c, name, "loss")
        sparsity = by_seed(evidence.trained("train", "scratch", c, name), "sparsity")
        rows.append(
            [
                percent(sparsity.values()),
                name,
                str(len(last)),
                figure(last.values(), "{:.5f}"),
                change(d, points),
                ", ".join(points(v) for v in by_quarter(curves, own)),
            ]
        )
        if family(name) in ("nabla", "union"):
            claims.append((name_of(c, name), d, 1))
    s.lines += [
        f"{steps_of(evidence, 'scratch')} with the policy follow the dense ones that all share (see How; the paper's runs, "
        "too, begin from full attention, at 256^2). The mean of the last five rows of the training log; what it is above "
        "the dense model's of the same seed (same start, clips and noise), in percent, Student's interval over seeds; the "
        "same by quarters of the steps:",
        "",
    ]
    s.lines += table(
        ["sparsity in training, %", "policy", "seeds", "loss", "over dense's, %", "by quarter, %"],
        rows,
    )
    rows, differences = checker(evidence, "scratch", tally, TRAITS)
    s.lines += [
        "Of the prompts, in percent, what came out as asked; below, points against the dense model on the same "
        "prompts and noise:",
        "",
    ]
    s.lines += table(["sparsity in evaluation, %", "policy", "seeds", *TRAITS], rows)
    s.lines += kept_at(evidence)
    s.short = (
        not_worse(claims, '"losses at or below full\'s"', points, " % of it")
        + ". "
        + quality(evidence, differences, '"as many prompts all right"')
    )
    shown = {}
    for c in (80, 90):
        models = {n: evidence.curves("scratch", c, n) for n in evidence.variants("scratch", c)}
        models = {n: m for n, m in models.items() if m}
        if models:
            shown[f"about {c} % sparse"] = {"dense": curves, **models}
    if shown and dense:
        s.plots.append(
            Plot(
                "loss_curves",
                (shown,),
                "loss",
                "training losses, and their difference to the dense model's; bands: the range over seeds",
            )
        )
    if differences:
        s.plots.append(forest(differences, "dense", "scratch", "models trained from scratch, against dense"))
    return s


def by_quarter(dense, own):
    """How far the loss is above dense's in each quarter of the steps, mean over the seeds that both have."""
    found = []
    for quarter in range(QUARTERS):
        ratios = []
        for seed in set(dense) & set(own):
            both = [(loss, dict(dense[seed])[step]) for step, loss in own[seed] if step in dict(dense[seed])]
            rows = both[len(both) * quarter // QUARTERS : len(both) * (quarter + 1) // QUARTERS]
            if rows:
                ratios.append(sum(a for a, _ in rows) / sum(b for _, b in rows) - 1)
        if ratios:
            found.append(mean(ratios))
    return found


def steps_of(evidence, kind):
    found = sorted({row["steps"] for row in evidence.train if row["kind"] == kind})
    return f"{' or '.join(map(str, found))} steps" if found else "Steps"


def kept_at(evidence):
    """How unequal the policies of a class are."""
    parts = []
    for c in (80, 90):
        kept = {}
        for kind in ("scratch", "distilled"):
            for name in evidence.variants(kind, c):
                values = list(by_seed(evidence.trained("eval", kind, c, name), "sparsity").values())
                if values:
                    kept.setdefault(name, 100 * (1 - mean(values)))
        if len(kept) > 1:
            least, most = min(kept, key=kept.get), max(kept, key=kept.get)
            parts.append(f"at about {c} % from {kept[least]:.1f} % ({least}) to {kept[most]:.1f} % ({most})")
    return [f"The classes are not quite equal in the blocks they keep: {', '.join(parts)}."] if parts else []


def quality(evidence, differences, what):
    """Whether NABLA and its union lose prompts."""
    claims = [
        (name_of(c, name), own["all"], -1)
        for c, models in differences.items()
        for name, own in models.items()
        if family(name) in ("nabla", "union")
    ]
    hits, asked = share(evidence.seen("scratch", 0, "dense"), "all")
    # where dense gets little right, no loss can be seen
    return not_worse(claims, what, points, " points" + (f" of dense's {100 * hits / asked:.1f}" if asked else "")) + "."


def forest(differences, beside, name, whose):
    """The checker's shares as points against `beside`, with their intervals."""
    axis = f"points against {beside}, 95 %"
    return Plot("forest", (titles(differences), TRAITS, axis), name, f"checker's shares of {whose}")


def distilled(evidence, tally):
    s = Section(
        "Does a distilled student keep its teacher's quality?",
        "At 92 % sparsity NABLA's students score as their teacher does; STA's loses 0.8 of VBench's total (Table 2).",
    )
    extra = [("psnr", "{:.2f}"), ("ssim", "{:.4f}")]
    rows, differences = checker(evidence, "distilled", tally, TRAITS, extra)
    s.lines += [
        f"Students start from the dense model and take {steps_of(evidence, 'distilled')} at a rate of 3e-4, where it took "
        f"{steps_of(evidence, 'scratch')} at 1e-3 after the base: a student has seen more than its teacher, and may be above "
        "it. PSNR (dB, of the pooled error) and SSIM against the teacher's clips from the same noise; below shares, "
        "points against the teacher:",
        "",
    ]
    s.lines += table(["sparsity in evaluation, %", "policy", "seeds", "PSNR", "SSIM", *TRAITS], rows)
    lines, worse, better = beside(evidence, tally)
    s.lines += lines
    lost = [
        own["all"]
        for c, models in differences.items()
        for name, own in models.items()
        if family(name) == "sta" and own["all"]
    ]
    s.short = quality(evidence, differences, '"a student of NABLA or its union keeps the teacher\'s prompts all right"')
    if lost:
        down = [d.value for d in lost if d.verdict() < 0]
        s.short += f" STA's lose in {len(down)} of {len(lost)}" + (
            f", by {reach(down, points, ' points')}." if down else "."
        )
    if worse:
        s.short += f" Against as much sparsity from scratch: {worse}; against none trained: {better}."
    if differences:
        s.plots.append(forest(differences, "the teacher", "distilled", "distilled students, against their teacher"))
    return s


def beside(evidence, tally):
    """Students against what else has their policy: the model trained with it from scratch, and the dense model that is
    merely run with it. A table, and what it says in short of NABLA and its union."""
    rows, against = [], {"scratch": [], "untrained": []}
    for c, name in trained_models(evidence, "distilled"):
        seen, scratch = evidence.seen("distilled", c, name), evidence.seen("scratch", c, name)
        if not seen:
            continue
        sparsity = by_seed(evidence.trained("eval", "distilled", c, name), "sparsity")
        raw = untrained(evidence, name, sparsity, "all")
        trained = tally.add(paired_prompts(scratch, seen, "all"), "distilled against scratch", c, name)
        run = tally.add(paired(raw, rights(seen, "all")), "distilled against untrained", c, name)
        if family(name) in ("nabla", "union"):
            against["scratch"].append(trained)
            against["untrained"].append(run)
        values = [v for of in raw.values() for v in of]
        rows.append(
            [
                str(c),
                name,
                share_cell(seen, "all", None),
                share_cell(scratch, "all", None),
                change(trained, points),
                f"{100 * mean(values):.1f}" if values else "",
                change(run, points),
            ]
        )
    if not rows:
        return [], "", ""
    lines = [
        "All right of students beside what else has their policy: the model trained with it from scratch (which is no equal "
        "budget, see above), and the dense model merely run with it (question 5; its grid of thresholds does not hold the "
        "student's, so straight between the two next to it, prompt by prompt, on the prompts that both were asked):",
        "",
        *table(
            ["class, %", "policy", "student", "from scratch", "student - it", "untrained", "student - it"],
            rows,
        ),
    ]
    return lines, settled(against["scratch"]), settled(against["untrained"])


def settled(found):
    """How many are above and below."""
    found = [d for d in found if d]
    parts = []
    for sign, word in ((1, "above"), (-1, "below")):
        values = [d.value for d in found if d.verdict() == sign]
        if values:
            parts.append(f"{len(values)} of {len(found)} {word} by {reach(values, points, ' points')}")
    loose = [d.value for d in found if not d.settled() and not d.low <= 0 <= d.high]
    if loose:
        parts.append(f"{len(loose)} apart over prompts but not over seeds ({', '.join(points(v) for v in loose)})")
    return ", ".join(parts) or f"none of {len(found)} told apart"


QUESTIONS = [from_scratch, distilled, objects, borders, zero_shot, speed]
