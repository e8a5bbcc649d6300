# SPDX-License-Identifier: Apache-2.0
"""What bench/evidence/measure.sh left in its CSVs, read and checked: rows by what they are of."""

import csv
import glob
import os
import re

TRAITS = ["colour", "shape", "motion", "count", "relation", "all"]
COLOUR, SHAPE, MOTION, COUNT, RELATION, RELATION_ASKED, MORE, FEWER = (1 << bit for bit in range(8))
BITS = {"colour": COLOUR, "shape": SHAPE, "motion": MOTION, "count": COUNT, "relation": RELATION}
FAMILIES = ["dense", "sta", "nabla", "union"]
NAMES = {"dense": "dense", "sta": "STA alone", "nabla": "NABLA alone", "union": "NABLA with STA"}

COLUMNS = {
    "train": "kind sparsity_class policy seed steps batch loss sparsity samples_per_second seconds",
    "loss": "kind sparsity_class policy seed step loss",
    "eval": "kind sparsity_class policy seed run_with prompts colour shape motion count relation all sparsity psnr ssim "
    "kept_mass border seconds",
    "outcomes": "kind sparsity_class policy seed run_with outcomes",
    "threshold": "sparsity_class seed windows policy sparsity",
    "machines": "kind seed card",
    "cards": "kind sparsity_class policy seed card outcomes",
    "captions": "prompt caption",
    "true": "seed clips border",
}
TEXTS = {"kind", "policy", "run_with", "outcomes", "windows", "card", "caption"}
WHOLE = {"sparsity_class", "seed", "steps", "step", "batch", "prompts", "layer", "head", "prompt", "clips"}


class BadInput(Exception):
    """A sentence that says what is wrong with which file."""


def family(policy):
    """Which of the four kinds of policy it is."""
    rules = [part.split("-")[0] for part in policy.split("_")]
    nabla, sta = "nabla" in rules, "sta" in rules
    if policy != "dense" and not nabla and not sta:
        raise BadInput(f"policy '{policy}' is none of dense, sta-..., nabla-... and their union")
    return "union" if nabla and sta else "nabla" if nabla else "sta" if sta else "dense"


def sees_no_neighbour(policy):
    """Whether it is windows that hold no neighbouring tile of a frame: sta-T-1-1."""
    return family(policy) == "sta" and policy.endswith("-1-1")


def variant(policy):
    """The policy without its threshold, which differs from seed to seed: what seeds are pooled by."""
    return re.sub(r"nabla-[0-9.]+", "nabla", policy)


def number(text, column, where):
    if column in TEXTS:
        return text
    if column == "sparsity_class" and not text.isdigit():
        return text  # of the dense model run with a grid: the grid's name
    if text in ("", "nan", "inf"):
        return None
    try:
        return int(text) if column in WHOLE else float(text)
    except ValueError:
        raise BadInput(f"{where}: {column} is '{text}', which is no number: repair or delete that row") from None


def read_csv(path, columns):
    """Rows with numbers in place of text; None where there is nothing to tell."""
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        missing = [c for c in columns if c not in header]
        if missing:
            raise BadInput(f"{path}: no column {', '.join(missing)}: it is not of this measure.sh")
        rows = []
        for line in lines:
            where = f"{path}, line {lines.line_num}"
            if len(line) != len(header):
                raise BadInput(
                    f"{where}: {len(line)} fields, and its header has {len(header)}: repair or delete that row"
                )
            rows.append({c: number(v, c, where) for c, v in zip(header, line)})
    return rows


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def decode(text):
    """Two hexadecimal digits a prompt -> a number of bits a prompt."""
    if len(text) % 2 or not re.fullmatch("[0-9a-fA-F]*", text):
        raise BadInput(f"outcomes '{text[:20]}' are not two hexadecimal digits a prompt")
    return list(bytes.fromhex(text))


def right(bits, trait):
    """1.0 or 0.0; None where the prompt asks for no such thing."""
    if trait in ("relation", "placed") and not bits & RELATION_ASKED:
        return None
    if trait == "placed":
        return float(bits & (RELATION | COUNT) == RELATION | COUNT)
    if trait == "all":
        wanted = COLOUR | SHAPE | MOTION | COUNT | (RELATION if bits & RELATION_ASKED else 0)
        return float(bits & wanted == wanted)
    if trait == "described":  # what a checker of one object judges, too
        return float(bits & (COLOUR | SHAPE | MOTION) == COLOUR | SHAPE | MOTION)
    if trait == "more":
        return float(bits & MORE != 0)
    return float(bits & BITS[trait] != 0)


class Evidence:
    """The tables of a folder. A table or part that is missing is empty: the page then says so."""

    def __init__(self, folder):
        if not os.path.isdir(folder):
            raise BadInput(f"there is no folder {folder}: bench/evidence/measure.sh makes it, or name another")
        self.folder = folder
        for name, columns in COLUMNS.items():
            path = os.path.join(folder, name + ".csv")
            setattr(self, name, read_csv(path, columns.split()) if os.path.exists(path) else [])
        for row in self.outcomes + self.cards:
            row["outcomes"] = decode(row["outcomes"])
        self.seeds = sorted({row["seed"] for row in self.train + self.eval if row["seed"] is not None})

    def variants(self, kind, sparsity_class):
        """Variants that were trained so, STA first."""
        found = {
            variant(r["policy"])
            for r in self.train + self.eval
            if r["kind"] == kind and r["sparsity_class"] == sparsity_class
        }
        return sorted(found, key=lambda name: (FAMILIES.index(family(name)), name))

    @staticmethod
    def _own(table, kind, sparsity_class, name, seed):
        """The row of a model run with its own policy, None where there is none."""
        for row in table:
            if (
                row["kind"] == kind
                and row["sparsity_class"] == sparsity_class
                and row["seed"] == seed
                and variant(row["policy"]) == name
                and row.get("run_with", row["policy"]) == row["policy"]
            ):
                return row
        return None

    def trained(self, table, kind, sparsity_class, name):
        """{seed: row} of a table."""
        rows = {seed: self._own(getattr(self, table), kind, sparsity_class, name, seed) for seed in self.seeds}
        return {seed: row for seed, row in rows.items() if row}

    def curves(self, kind, sparsity_class, name):
        """{seed: [(step, loss)]} in order of steps."""
        result = {}
        for row in self.loss:
            if (row["kind"], row["sparsity_class"], variant(row["policy"])) == (kind, sparsity_class, name):
                if row["loss"] is not None:
                    result.setdefault(row["seed"], []).append((row["step"], row["loss"]))
        return {seed: sorted(curve) for seed, curve in sorted(result.items())}

    def seen(self, kind, sparsity_class, name):
        """{seed: [bits a prompt]}"""
        return {seed: row["outcomes"] for seed, row in self.trained("outcomes", kind, sparsity_class, name).items()}

    def cards_of(self, kinds, seed):
        """The cards that made a seed's rows of these kinds."""
        return sorted({r["card"] for r in self.machines if r["kind"] in kinds and r["seed"] == seed})

    def leaving(self):
        """Whether an object leaves and returns, a prompt; empty where captions are not there."""
        return ["out and back" in row["caption"] for row in sorted(self.captions, key=lambda row: row["prompt"])]

    def zero_shot(self):
        """{policy: {seed: row}} of the dense model run with each policy; dense itself, run beside each grid, once."""
        result = {}
        for row in self.eval:
            if row["kind"] == "zero-shot":
                result.setdefault(row["run_with"], {}).setdefault(row["seed"], row)
        return result

    def zero_shot_seen(self, policy):
        result = {}
        for row in self.outcomes:
            if row["kind"] == "zero-shot" and row["run_with"] == policy:
                result.setdefault(row["seed"], row["outcomes"])
        return result

    def maps(self, policy):
        """{seed: rows of step, layer, head, density, kept_mass}"""
        result = {}
        for seed in self.seeds:
            path = os.path.join(self.folder, f"map-{seed}", policy + ".csv")
            if os.path.exists(path):
                result[seed] = read_csv(path, ["step", "layer", "head", "density", "kept_mass"])
        return result

    def clips(self, kind, sparsity_class, name):
        """The folder with the clips of such a model, and its seed; None where none were kept."""
        for seed in self.seeds:
            for folder in sorted(glob.glob(os.path.join(self.folder, f"clips-{seed}", f"{kind}-{sparsity_class}-*"))):
                policy = os.path.basename(folder)[len(f"{kind}-{sparsity_class}-") :]
                if variant(policy) == name and glob.glob(os.path.join(folder, "*.mp4")):
                    return folder, seed
        return None

    def clip_captions(self, seed):
        path = os.path.join(self.folder, f"clips-{seed}", "captions.txt")
        return read_lines(path) if os.path.exists(path) else []
