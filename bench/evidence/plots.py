# SPDX-License-Identifier: Apache-2.0
"""The plots of docs/evidence.md. A policy has its colour and marker everywhere (Okabe and Ito's colours, which differ
for colour-blind eyes too); white panels, so that they can be read on a dark page as well."""

import os

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from data import NAMES, family  # noqa: E402

COLOURS = {"dense": "#333333", "sta": "#D55E00", "nabla": "#0072B2", "union": "#009E73"}
MARKERS = {"dense": "o", "sta": "s", "nabla": "^", "union": "D"}
LINES = ["-", "--", ":", "-."]

matplotlib.rcParams.update(
    {
        "svg.hashsalt": "nabla",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
        "legend.frameon": False,
        "path.simplify": True,
    }
)


def save(figure, path):
    """Under a temporary name, then renamed; the same bytes for the same figures."""
    temporary = path + ".tmp"
    figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    pyplot.close(figure)
    os.replace(temporary, path)


def style(name):
    return {"color": COLOURS[family(name)], "marker": MARKERS[family(name)]}


def line_style(name, others):
    """Two policies of a kind share its colour, not its line."""
    same = [o for o in others if family(o) == family(name)]
    return {"color": COLOURS[family(name)], "linestyle": LINES[same.index(name) % len(LINES)]}


def common_steps(curves):
    """[(step, [loss of each seed])] of the steps that all seeds have."""
    by_seed = [dict(curve) for curve in curves.values()]
    steps = sorted(set.intersection(*[set(c) for c in by_seed])) if by_seed else []
    return [(step, [c[step] for c in by_seed]) for step in steps]


def mean_and_range(axis, curves, name, others):
    rows = common_steps(curves)
    if not rows:
        return
    steps = [step for step, _ in rows]
    look = line_style(name, others)
    axis.plot(steps, [sum(v) / len(v) for _, v in rows], label=name, linewidth=1.3, **look)
    axis.fill_between(
        steps, [min(v) for _, v in rows], [max(v) for _, v in rows], color=look["color"], alpha=0.15, linewidth=0
    )


def loss_curves(classes, path):
    """classes: {title: {variant: {seed: curve}}}, dense among them."""
    figure, axes = pyplot.subplots(2, len(classes), figsize=(4.6 * len(classes), 5.4), squeeze=False, sharex=True)
    for column, (title, models) in enumerate(classes.items()):
        top, bottom = axes[0][column], axes[1][column]
        for name, curves in models.items():
            mean_and_range(top, curves, name, list(models))
            base = models.get("dense", {})
            if name == "dense" or not base:
                continue
            less = {
                s: [(step, loss - dict(base[s])[step]) for step, loss in curve if step in dict(base[s])]
                for s, curve in curves.items()
                if s in base
            }
            mean_and_range(bottom, less, name, list(models))
        top.set_title(title)
        top.set_ylabel("training loss")
        top.set_yscale("log")
        bottom.legend(*top.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=3)
        bottom.axhline(0, color=COLOURS["dense"], linewidth=1)
        bottom.set_ylabel("loss - dense's, same clips and noise")
        bottom.set_xlabel("step")
    figure.tight_layout()
    save(figure, path)


def forest(classes, labels, unit, path):
    """Differences with intervals. classes: {title: {variant: {label: Difference or None}}}"""
    figure, axes = pyplot.subplots(
        1, len(classes), figsize=(4.6 * len(classes), 0.62 * len(labels) + 1.6), squeeze=False, sharey=True
    )
    for axis, (title, models) in zip(axes[0], classes.items()):
        axis.axvline(0, color=COLOURS["dense"], linewidth=1)
        for i, (name, differences) in enumerate(models.items()):
            look = style(name)
            offset = 0.6 * ((i + 0.5) / len(models) - 0.5)
            fill = look["color"] if [m for m in models if family(m) == family(name)].index(name) == 0 else "white"
            for y, label in enumerate(labels):
                d = differences.get(label)
                if not d:
                    continue
                low, high = max(d.low, -1e9), min(d.high, 1e9)
                if low > -1e9:
                    axis.plot([100 * low, 100 * high], [y + offset] * 2, color=look["color"], linewidth=1.2)
                axis.plot(
                    100 * d.value,
                    y + offset,
                    markersize=5,
                    markerfacecolor=fill,
                    linestyle="none",
                    label=name if label == labels[-1] else None,
                    **look
                )
        axis.set_title(title)
        axis.set_yticks(range(len(labels)), labels)
        axis.set_xlabel(unit)
        axis.grid(axis="y", visible=False)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.6 / (0.62 * len(labels) + 1.2)), ncols=2)
    axes[0][0].invert_yaxis()
    save(figure, path)


def dots(classes, ylabel, one, path):
    """A mean and a dot a seed. classes: {title: {variant: {seed: figure}}}; `one`: where a dotted line lies."""
    figure, axes = pyplot.subplots(1, len(classes), figsize=(4.6 * len(classes), 3.4), squeeze=False, sharey=True)
    for axis, (title, models) in zip(axes[0], classes.items()):
        for x, (name, values) in enumerate(models.items()):
            values = [v for v in values.values() if v is not None]
            if values:
                axis.plot([x] * len(values), values, linestyle="none", markersize=5, alpha=0.6, **style(name))
                axis.plot(
                    [x - 0.25, x + 0.25], [sum(values) / len(values)] * 2, color=COLOURS[family(name)], linewidth=2
                )
        if one is not None:
            axis.axhline(one, color=COLOURS["dense"], linewidth=0.8, linestyle=":")
        axis.set_xticks(range(len(models)), [name.replace("_", "\n") for name in models])
        axis.grid(axis="x", visible=False)
        axis.set_title(title)
    axes[0][0].set_ylabel(ylabel)
    figure.tight_layout()
    save(figure, path)


def sparsity_curves(panels, path):
    """panels: {ylabel: {grid: [(sparsity, value, low, high)]}}; a grid is named after a variant of its kind."""
    columns = 2
    rows = (len(panels) + columns - 1) // columns
    figure, axes = pyplot.subplots(rows, columns, figsize=(9.2, 3.1 * rows), squeeze=False)
    flat = [axis for row in axes for axis in row]
    for axis, (ylabel, grids) in zip(flat, panels.items()):
        for name, points in grids.items():
            points = sorted(p for p in points if p[0] is not None and p[1] is not None)
            if not points:
                continue
            x, y = [100 * p[0] for p in points], [p[1] for p in points]
            look = {**style(name), **line_style(name, list(grids))}
            if name == "sta":
                look["linestyle"] = "none"  # windows are no row of ever sparser ones
            axis.plot(x, y, markersize=4, linewidth=1.2, label=NAMES[name] if name in NAMES else name, **look)
            axis.vlines(
                x, [p[2] for p in points], [p[3] for p in points], color=look["color"], linewidth=0.8, alpha=0.6
            )
        axis.set_xlabel("sparsity, %")
        axis.set_ylabel(ylabel)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    handles, labels = flat[0].get_legend_handles_labels()
    figure.tight_layout()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, -0.05), ncols=4)
    save(figure, path)


def heat_maps(panels, path):
    """panels: [(title, x label, y label, [rows][columns], first column)]"""
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.1 * len(panels), 3.4), squeeze=False)
    for axis, (title, xlabel, ylabel, cells, first) in zip(axes[0], panels):
        height, width = len(cells), len(cells[0])
        mesh = axis.pcolormesh(range(first, first + width + 1), range(height + 1), cells, cmap="viridis")
        figure.colorbar(mesh, ax=axis)
        step = max(1, width // 6)
        axis.set_xticks([first + i + 0.5 for i in range(0, width, step)], [first + i for i in range(0, width, step)])
        axis.set_yticks([i + 0.5 for i in range(height)], range(height))
        axis.grid(visible=False)
        axis.set_title(title)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
    figure.tight_layout()
    save(figure, path)
