# SPDX-License-Identifier: Apache-2.0
"""The question that the paper leaves open: what the dense model loses to each policy without any training."""

from data import FAMILIES, family, variant
from figures import (
    at_sparsity,
    head_map,
    interval,
    mean,
    mean_map,
    neighbours,
    paired_prompts,
    plural,
    points,
    rights,
    share,
    share_interval,
)
from section import Plot, Section, by_seed, change, figure, share_cell, table


def grids(evidence):
    """{grid: {policy: {seed: row}}}, grids named after their variant, windows all in one."""
    result = {}
    for policy, rows in evidence.zero_shot().items():
        if policy != "dense":
            kind = family(policy)
            name = (
                "sta"
                if kind == "sta"
                else policy if kind == "dense" else "nabla" if kind == "nabla" else "nabla_" + policy.split("_", 1)[1]
            )
            result.setdefault(name, {})[policy] = rows
    return dict(sorted(result.items(), key=lambda g: (FAMILIES.index(family(g[0])), g[0])))


def untrained(evidence, name, sparsity, trait):
    """{seed: [share right or None a prompt]} of the dense model run with a variant at {seed: sparsity}: straight between
    the two policies of its grid next to it; windows are in the grid themselves."""
    grid, found = {}, {}
    for policy, rows in evidence.zero_shot().items():
        if variant(policy) == name:
            seen = rights(evidence.zero_shot_seen(policy), trait)
            for seed, row in rows.items():
                grid.setdefault(seed, []).append((row["sparsity"], seen.get(seed)))
    for seed, at in sparsity.items():
        of = grid.get(seed, [])
        near = (of[0][1], of[0][1], 0.0) if family(name) == "sta" and of else neighbours(of, at)
        if near and near[0] and near[1]:
            found[seed] = [None if a is None or b is None else a + (b - a) * near[2] for a, b in zip(*near[:2])]
    return found


def zero_shot(evidence, tally):
    s = Section(
        "What does the dense model lose without any training?",
        "No such figures, and no curve of quality over sparsity.",
    )
    dense = evidence.zero_shot_seen("dense")
    rows, curves = [], {"all right, %": {}, "PSNR against dense, dB": {}, "SSIM against dense": {}, "kept mass": {}}
    good = []
    for name, policies in grids(evidence).items():
        for policy, of in policies.items():
            sparsity = figure(by_seed(of, "sparsity").values(), "{:.6f}")
            if not sparsity:
                continue
            sparsity, seen = float(sparsity), evidence.zero_shot_seen(policy)
            d = tally.add(paired_prompts(dense, seen, "all"), "zero-shot", policy)
            hits, asked = share(seen, "all")
            if asked:
                low, high = share_interval(seen, "all")
                curves["all right, %"].setdefault(name, []).append(
                    (sparsity, 100 * hits / asked, 100 * low, 100 * high)
                )
            for label, column in (
                ("PSNR against dense, dB", "psnr"),
                ("SSIM against dense", "ssim"),
                ("kept mass", "kept_mass"),
            ):
                values = list(by_seed(of, column).values())
                if values:
                    curves[label].setdefault(name, []).append((sparsity, mean(values), min(values), max(values)))
            if d and d.high >= 0:
                good.append((sparsity, policy, d))
            rows.append(
                (
                    sparsity,
                    [
                        f"{100 * sparsity:.1f}",
                        policy,
                        str(len(of)),
                        figure(by_seed(of, "kept_mass").values(), "{:.3f}"),
                        figure(by_seed(of, "psnr").values(), "{:.2f}"),
                        figure(by_seed(of, "ssim").values(), "{:.4f}"),
                        share_cell(seen, "all", None),
                        change(d, points),
                    ],
                )
            )
    s.lines += [
        "Kept mass: block probability that the plans keep, which windows alone do not measure; PSNR: of the pooled error. "
        "Points against dense on the same prompts and noise:",
        "",
    ]
    s.lines += table(
        ["sparsity, %", "policy", "seeds", "kept mass", "PSNR", "SSIM", "all right, %", "- dense"],
        [r for _, r in sorted(rows, key=lambda r: r[0])],
    )
    s.lines += between(curves)
    if good:
        sparsity, policy, d = max(good, key=lambda g: g[0])
        s.short = (
            f"the sparsest policy whose interval over prompts does not lie below dense's prompts all right: {policy}, {100 * sparsity:.1f} % "
            f"sparse ({points(d.value)} points {interval(d, points)})."
        )
    else:
        s.short = (
            "every policy of the grids is below dense in prompts all right at 95 %." if rows else "no figures yet."
        )
    curves = {label: of for label, of in curves.items() if of}
    if curves:
        s.plots.append(
            Plot(
                "sparsity_curves",
                (curves,),
                "zero-shot",
                "quality of the dense model over the sparsity of the policy "
                "it is run with; bars: 95 % for shares, else the range over seeds",
            )
        )
    s.plots += maps(evidence, s.lines)
    return s


def between(curves):
    """Sentences: the grids beside each other at the same sparsity, straight between their points."""
    lines = []
    for label in ("PSNR against dense, dB", "all right, %"):
        for sparsity in (0.8, 0.9):
            found = {
                name: at_sparsity([p[:2] for p in of], sparsity) for name, of in curves[label].items() if name != "sta"
            }
            found = {name: v for name, v in found.items() if v is not None}
            if found:
                order = sorted(found, key=lambda n: -found[n])
                lines.append(
                    f"- {label}, at {100 * sparsity:.0f} %: " + ", ".join(f"{n} {found[n]:.1f}" for n in order) + "."
                )
    return [*lines, ""]


def maps(evidence, lines):
    """The policy with maps that is nearest to 80 % sparse, NABLA alone: where its plans keep how much."""
    near = None
    for policy, of in grids(evidence).get("nabla", {}).items():
        sparsity = list(by_seed(of, "sparsity").values())
        found = evidence.maps(policy)
        if sparsity and found and (near is None or abs(mean(sparsity) - 0.8) < abs(near[0] - 0.8)):
            near = (mean(sparsity), policy, found)
    if not near:
        return []
    sparsity, policy, found = near
    density, mass, heads = mean_map(found, "density"), mean_map(found, "kept_mass"), head_map(found)
    by_layer, by_step = [mean(row) for row in density], [mean(column) for column in zip(*density)]
    lines.append(
        f"Where {policy} ({100 * sparsity:.1f} % sparse over all) keeps how much: by layer "
        f"{100 * min(by_layer):.1f} to {100 * max(by_layer):.1f} % of the blocks (layer {by_layer.index(min(by_layer))} least, "
        f"{by_layer.index(max(by_layer))} most, counted from 0), by step (from 1) {100 * min(by_step):.1f} to {100 * max(by_step):.1f} %, by head of a layer "
        f"{100 * min(map(min, heads)):.1f} to {100 * max(map(max, heads)):.1f} %; mean over {plural(len(found), 'seed')}."
    )
    panels = [(f"{policy}: density", "step", "layer", density, 1)]
    if mass:
        panels.append(("kept mass", "step", "layer", mass, 1))
    panels.append(("density", "head", "layer", heads, 0))
    return [Plot("heat_maps", (panels,), "map", f"what the plans of {policy} keep, by layer, step and head")]
