# SPDX-License-Identifier: Apache-2.0
"""The question of tiles' borders."""

import math

from data import NAMES, family, sees_no_neighbour
from figures import mean, paired_seeds, plural
from section import BORDER, Plot, Section, by_seed, change, figure, name_of, table, trained_models


def borders(evidence, tally):
    s = Section(
        "Does NABLA alone show the borders of its tiles?",
        "NABLA alone can show borders between tiles; its union with STA does not.",
    )
    dense = by_seed(evidence.trained("eval", "scratch", 0, "dense"), "border")
    rows, shown, claims = [], {}, []
    true = [row["border"] for row in evidence.true]
    if dense:
        rows.append(["scratch", "0", "dense", str(len(dense)), figure(dense.values(), "{:.3f}"), ""])
    for kind in ("scratch", "distilled"):
        for c, name in trained_models(evidence, kind):
            own = by_seed(evidence.trained("eval", kind, c, name), "border")
            if not own:
                continue
            d = tally.add(paired_seeds(dense, own), kind, c, name, "border")
            rows.append([kind, str(c), name, str(len(own)), figure(own.values(), "{:.3f}"), change(d, BORDER)])
            title = f"{kind}, about {c} %"
            shown.setdefault(title, {"dense": dense} if dense else {})[name] = own
            if d:
                claims.append((kind, c, name, d))
    s.lines += [
        "Border ratio: energy of the steps across tiles' edges over that across other patches' edges, one ratio over all "
        "of a model's first clips (64 of them). " + true_ratio(evidence.true) + "Differences to the dense model, Student's "
        "interval over seeds; what is not bold is not told apart from dense, which is not the same as none:",
        "",
    ]
    s.lines += table(["trained", "class, %", "policy", "seeds", "border ratio", "- dense"], rows)
    blind = sorted({name for _, _, name, _ in claims if sees_no_neighbour(name)})
    if blind:
        s.lines += [f"By construction {', '.join(blind)} cannot see across an edge of a tile.", ""]

    def bordered(kind_of):
        of = [(name_of(c, name), kind, name, d) for kind, c, name, d in claims if family(name) == kind_of]
        if all(math.isinf(d.high) for *_, d in of):
            return f"{NAMES[kind_of]}: one seed tells nothing of chance" if of else f"{NAMES[kind_of]}: no figures yet"
        yes = [one for one in of if one[3].verdict() > 0]
        text = f"{NAMES[kind_of]} shows them in {len(yes)} of {plural(len(of), 'model')}"
        if 0 < len(yes) < len(of):
            text += f" ({', '.join(f'{kind} {label}' for label, kind, _, _ in yes)})"
        if yes and all(sees_no_neighbour(name) for _, _, name, _ in yes):
            text += ", which see no neighbouring tile of their frame"
        return text

    s.short = "; ".join(bordered(f) for f in ("nabla", "union", "sta")) + "." if claims else "no figures yet."
    if claims and true and dense:
        s.short += f" Dense {mean(list(dense.values())):.2f}, true clips {mean(true):.2f}."
    if shown:
        line = mean(true) if true else 1.0
        says = "border ratio by policy, a mark a seed; dotted: " + ("true clips" if true else "1")
        s.plots.append(Plot("dots", (shown, "border ratio", line), "border", says))
    return s


def true_ratio(rows):
    """What the ratio of true clips is, in a sentence."""
    if not rows:
        return "What true clips have is not measured here (`bench/evidence/true_border.py` does). "
    values = [row["border"] for row in rows]
    return (
        f"Objects lie where they lie, so true clips do not have 1 but {mean(values):.2f} ({min(values):.2f} to "
        f"{max(values):.2f} of {len(rows)} times {rows[0]['clips']} clips, by `bench/evidence/true_border.py`). "
    )
