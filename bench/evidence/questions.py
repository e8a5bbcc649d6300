# SPDX-License-Identifier: Apache-2.0
"""The questions of docs/evidence.md: for each a table, sentences that follow from the figures, and what to plot."""

import math

from data import NAMES, TRAITS, family
from figures import last_loss, paired_prompts, paired_ratios, paired_seeds, plural, points, share, told
from section import (
    BORDER,
    CLASSES,
    LOSS,
    Plot,
    Section,
    all_right,
    by_seed,
    change,
    checker,
    figure,
    in_points,
    name_of,
    not_worse,
    percent,
    table,
    titles,
    trained_models,
)
from zero_shot import zero_shot


def from_scratch(evidence, tally):
    s = Section(
        "Does NABLA train as well as full attention?",
        "At 80 % sparsity NABLA's losses are at or below full attention's (Fig. 4).",
    )
    dense = {seed: last_loss(curve) for seed, curve in evidence.curves("scratch", 0, "dense").items()}
    rows, losses = [], {}
    if dense:
        rows.append(["0", "dense", str(len(dense)), figure(dense.values(), "{:.5f}"), "", ""])
    for c, name in trained_models(evidence, "scratch"):
        own = {seed: last_loss(curve) for seed, curve in evidence.curves("scratch", c, name).items()}
        if not own:
            continue
        d = losses[c, name] = tally.add(paired_seeds(dense, own))
        sparsity = by_seed(evidence.trained("train", "scratch", c, name), "sparsity")
        each = ", ".join(LOSS(v) for v in d.seeds.values()) if d else ""
        rows.append(
            [percent(sparsity.values()), name, str(len(own)), figure(own.values(), "{:.5f}"), change(d, LOSS), each]
        )
    s.lines += [
        "The mean of the last five rows of the training log, and its difference to the dense model's of the same seed "
        "(same start, clips and noise; Student's interval over seeds):",
        "",
    ]
    s.lines += table(["sparsity, %", "policy", "seeds", "loss", "loss - dense", "by seed"], rows)
    claims = []
    s.lines += told([(name_of(*of), d) for of, d in losses.items()], "Loss", "dense", LOSS)
    for (c, name), d in losses.items():
        if family(name) in ("nabla", "union"):
            claims.append((name_of(c, name), d, 1))
    rows, differences = checker(evidence, "scratch", tally, TRAITS)
    s.lines += [
        "",
        "Of the prompts, in percent, what came out as asked; below, points against the dense model on the same "
        "prompts and noise:",
        "",
    ]
    s.lines += table(["sparsity, %", "policy", "seeds", *TRAITS], rows)
    quality = []
    s.lines += told(all_right(differences), "All right", "dense", points, " points")
    for c, models in differences.items():
        for name, own in models.items():
            if family(name) in ("nabla", "union"):
                quality.append((name_of(c, name), own["all"], -1))
    s.short = (
        not_worse(claims, '"losses at or below full\'s"', LOSS)
        + ". "
        + not_worse(quality, f'"as many prompts all right"{dense_right(evidence)}', in_points)
        + "."
    )
    curves = {}
    for c in CLASSES:
        models = {n: evidence.curves("scratch", c, n) for n in evidence.variants("scratch", c)}
        models = {n: m for n, m in models.items() if m}
        if models:
            curves[f"about {c} % sparse"] = {"dense": evidence.curves("scratch", 0, "dense"), **models}
    if curves and dense:
        s.plots.append(
            Plot(
                "loss_curves",
                (curves,),
                "loss",
                "training losses, and their difference to the dense model's; bands: the range over seeds",
            )
        )
    if differences:
        s.plots.append(forest(differences, "dense", "scratch", "models trained from scratch, against dense"))
    return s


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
        "Students start from the dense model and see a third to a half of its steps more, so that one may well be "
        "above it. PSNR (dB) and SSIM against the teacher's clips from the same noise; below shares, points against "
        "the teacher:",
        "",
    ]
    s.lines += table(["sparsity, %", "policy", "seeds", "PSNR", "SSIM", *TRAITS], rows)
    s.lines += told(all_right(differences), "All right", "the teacher", points, " points")
    claims, windows = [], []
    for c, models in differences.items():
        for name, own in models.items():
            if not own["all"]:
                continue
            (windows if family(name) == "sta" else claims).append((name_of(c, name), own["all"], -1))
    s.lines += untrained(evidence, tally)
    s.short = (
        not_worse(
            claims,
            '"a student of NABLA or its union keeps the teacher\'s quality" in prompts all right'
            + dense_right(evidence),
            in_points,
        )
        + "."
    )
    lost = [n for n, d, _ in windows if d.verdict() < 0]
    if windows:
        s.short += (
            f" STA's students lose: {', '.join(lost)}." if lost else " No loss of STA's students can be told either."
        )
    if differences:
        s.plots.append(forest(differences, "the teacher", "distilled", "distilled students, against their teacher"))
    return s


def dense_right(evidence):
    """What there is to lose: where dense gets little right, no loss can be seen."""
    hits, asked = share(evidence.seen("scratch", 0, "dense"), "all")
    return f" (of which dense has {100 * hits / asked:.1f} %)" if asked else ""


def untrained(evidence, tally):
    """What distilling gains over the dense model run with the same policy: windows alone, whose policy is in the grid."""
    gained = []
    for c, name in trained_models(evidence, "distilled"):
        raw, seen = evidence.zero_shot_seen(name), evidence.seen("distilled", c, name)
        gained.append((name_of(c, name), tally.add(paired_prompts(raw, seen, "all")) if raw and seen else None))
    return told(
        gained,
        "All right of students",
        "the dense model run with the same policy (prompts that both were asked)",
        points,
        " points",
    )


def objects(evidence, tally):
    s = Section(
        "Does STA alone lose, and most where there are several objects?",
        "STA loses most on multiple objects (50.5 against 70.6) and spatial relations (66.5 against 71.0; Table 4), and "
        "duplicates objects; the union with NABLA does not.",
    )
    traits = ["count", "relation", "placed", "more"]
    every, lost, more, beside, plotted = [], [], [], [], {}
    for kind in ("scratch", "distilled"):
        rows, differences = checker(evidence, kind, tally, traits)
        every += [["scratch" if r[1] == "dense" else kind, *r] for r in rows if kind == "scratch" or r[1] != "dense"]
        for c, models in differences.items():
            plotted[f"{kind}, about {c} %"] = models
            more += [(f"{kind} {name_of(c, name)}", own["more"], family(name)) for name, own in models.items()]
            for name in [n for n in models if family(n) == "sta"]:
                lost.append((f"{kind} {name_of(c, name)}", *losses_by_trait(evidence, kind, c, name)))
                beside += [
                    (f"{kind} {name_of(c, other)} against {name}", tally.add(d))
                    for other, d in unions(evidence, kind, c, name, models)
                ]
    asked = share_asked(evidence)
    s.lines += [
        f"Every prompt asks for two objects{asked}. `more`: the checker saw more objects than the prompt asks for. "
        "Where it sees more, it judges the pair that suits the prompt best: surplus objects hide what is wrong with the "
        "others' colours, motions and relation; `placed` therefore wants the count right with the relation. "
        "Points against the dense model:",
        "",
    ]
    s.lines += table(["trained", "sparsity, %", "policy", "seeds", *traits], every)
    for label, _, traits_lost in lost:
        s.lines.append(
            f"- {label} loses at 95 %: {', '.join(f'{t} {points(d.value)}' for t, d in traits_lost)} points."
            if traits_lost
            else f"- {label} loses in no trait at 95 %."
        )
    s.lines += told([(n, d) for n, d, _ in more], "Clips with more objects than asked for", "dense", points, " points")
    s.lines += told(beside, "All right of the union", "windows alone", points, " points")
    if lost:
        most = [n for n, _, t in lost if t and t[0][0] in ("count", "relation")]
        total = plural(len(lost), "model")
        s.short = (
            f"of {total} with STA alone {sum(whole for _, whole, _ in lost)} are below dense in all right at 95 %, and "
            f"{len(most)} lose most in count or relation. More objects than dense at 95 %: "
            + ", ".join(
                f"{sum(d.verdict() > 0 for _, d, f in more if d and f == kind)} of "
                f"{plural(sum(f == kind for _, _, f in more), 'model')} with {NAMES[kind]}"
                for kind in ("sta", "nabla", "union")
            )
            + "."
        )
    else:
        s.short = "no figures yet."
    if plotted:
        s.plots.append(
            Plot(
                "forest",
                (plotted, traits, "points against dense, 95 %"),
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


def losses_by_trait(evidence, kind, c, name):
    """Whether it is below dense in all right; [(trait, Difference)] of what it loses, the most first."""
    dense, seen = evidence.seen("scratch", 0, "dense"), evidence.seen(kind, c, name)
    found = {t: paired_prompts(dense, seen, t) for t in TRAITS}
    lost = [(t, d) for t, d in found.items() if d and d.verdict() < 0]
    return any(t == "all" for t, _ in lost), sorted([x for x in lost if x[0] != "all"], key=lambda x: x[1].value)


def unions(evidence, kind, c, name, models):
    """[(union, Difference)] against windows alone of the same class."""
    seen = evidence.seen(kind, c, name)
    found = [
        (other, paired_prompts(seen, evidence.seen(kind, c, other), "all"))
        for other in models
        if family(other) == "union"
    ]
    return [(other, d) for other, d in found if d]


def borders(evidence, tally):
    s = Section(
        "Does NABLA alone show the borders of its tiles?",
        "NABLA alone can show borders between tiles; its union with STA does not.",
    )
    dense = by_seed(evidence.trained("eval", "scratch", 0, "dense"), "border")
    rows, shown, claims = [], {}, []
    if dense:
        rows.append(["scratch", "0", "dense", str(len(dense)), figure(dense.values(), "{:.3f}"), ""])
    for kind in ("scratch", "distilled"):
        for c, name in trained_models(evidence, kind):
            own = by_seed(evidence.trained("eval", kind, c, name), "border")
            if not own:
                continue
            d = tally.add(paired_seeds(dense, own))
            rows.append([kind, str(c), name, str(len(own)), figure(own.values(), "{:.3f}"), change(d, BORDER)])
            title = f"{kind}, about {c} %"
            shown.setdefault(title, {"dense": dense} if dense else {})[name] = own
            if d:
                claims.append((kind, c, name, d))
    s.lines += [
        "Border ratio: energy of the steps across tiles' edges over that across other patches' edges, 1 where a tile's "
        "edge is as any other; mean over the first clips. Differences to the dense model, Student's interval over seeds:",
        "",
    ]
    s.lines += table(["trained", "class, %", "policy", "seeds", "border ratio", "- dense"], rows)
    s.lines += told([(f"{kind} {name_of(c, name)}", d) for kind, c, name, d in claims], "Border ratio", "dense", BORDER)
    s.lines.append("")

    def bordered(kind_of):
        of = [(f"{kind} {name_of(c, name)}", d) for kind, c, name, d in claims if family(name) == kind_of]
        yes = [n for n, d in of if d.verdict() > 0]
        many = plural(len(of), "model")
        if all(math.isinf(d.high) for _, d in of):
            return f"{NAMES[kind_of]}: one seed tells nothing of chance" if of else f"{NAMES[kind_of]}: no figures yet"
        return f"{NAMES[kind_of]} shows borders at 95 % in {len(yes)} of {many}" + (
            f" ({', '.join(yes)})" if yes else ""
        )

    s.short = "; ".join(bordered(f) for f in ("nabla", "union", "sta")) + "." if claims else "no figures yet."
    if shown:
        s.plots.append(Plot("dots", (shown, "border ratio", 1.0), "border", "border ratio by policy, a mark a seed"))
    return s


def speed(evidence, tally):
    s = Section(
        "What does training cost?",
        "A step at 512^2 takes 7.5 s at 80 % sparsity against 10.9 s dense, 1.46 times as fast (section 4).",
    )
    rows, shown, ratios = [], {}, []
    dense = by_seed(evidence.trained("train", "scratch", 0, "dense"), "samples_per_second")
    if dense:
        rows.append(["scratch", "0.0", "dense", str(len(dense)), figure(dense.values(), "{:.1f}"), ""])
    for kind in ("scratch", "distilled"):
        for c, name in trained_models(evidence, kind):
            runs = evidence.trained("train", kind, c, name)
            own = by_seed(runs, "samples_per_second")
            if not own:
                continue
            d = paired_ratios(dense, own)
            ratio = ""
            if d:
                shown.setdefault(f"{kind}, about {c} %", {})[name] = d.seeds
                ratio = f"{d.value:.2f}" + ("" if math.isinf(d.high) else f" [{d.low:.2f}, {d.high:.2f}]")
                if kind == "scratch":
                    ratios.append((name_of(c, name), d))
            rows.append(
                [
                    kind,
                    percent(by_seed(runs, "sparsity").values()),
                    name,
                    str(len(own)),
                    figure(own.values(), "{:.1f}"),
                    ratio,
                ]
            )
    s.lines += [
        "Samples a second of whole steps, data and optimizer included, by each run's own clock; students also pay for a "
        "forward pass of their teacher. A full clip has 72 blocks only, where the paper's have a thousand and "
        "more. Ratio to dense of the same seed, Student's interval of its logarithm:",
        "",
    ]
    s.lines += table(["trained", "sparsity, %", "policy", "seeds", "samples/s", "times dense"], rows)
    if ratios:
        name, best = max(ratios, key=lambda r: r[1].value)
        faster = [n for n, d in ratios if d.low > 1 and not math.isinf(d.high)]
        s.short = (
            f"from scratch {best.value:.2f} times dense's samples a second at most ({name}); faster at 95 %: "
            f"{', '.join(faster) or 'none'}."
        )
    else:
        s.short = "no figures yet."
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


QUESTIONS = [from_scratch, distilled, objects, borders, zero_shot, speed]
