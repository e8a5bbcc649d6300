#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Human side-by-side judgement, as the paper's Table 3: a page for people to vote on, and the sum of their votes.

    bench/evidence/votes.py make A B [-o votes.html] [--pairs 12] [--seed 0]
    bench/evidence/votes.py sum VOTES.csv... [--baseline dense]

A and B are folders of clips with the same names, such as two of bench/results/evidence/clips-0. The page is one file that
needs no server and no network; which model is on which side is shuffled and not shown. Each person opens it in a browser,
answers, saves a CSV and sends it back. Only Python's own library is needed.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import sys

import ballots
from data import BadInput, variant

PLACE = '<script id="data" type="application/json">{}</script>'


def clips_of(folder):
    """{name without its ending: path}"""
    try:
        names = sorted(os.listdir(folder))
    except OSError as err:
        raise BadInput(f"{folder}: {err.strerror}: give a folder of .mp4 clips") from None
    return {os.path.splitext(n)[0]: os.path.join(folder, n) for n in names if n.endswith(".mp4")}


def caption_of(name, path, lines):
    """A line of the captions by the clip's number, or of the text beside the clip."""
    if lines:
        if name.isdigit() and 0 < int(name) <= len(lines):
            return lines[int(name) - 1]
        raise BadInput(f"clip {name} has no line among the {len(lines)} captions: clips are numbered from 1")
    beside = os.path.splitext(path)[0] + ".txt"
    if os.path.exists(beside):
        with open(beside, encoding="utf-8") as file:
            return file.read().strip()
    raise BadInput(f"no caption for {path}: give --captions FILE, a line a clip, or {beside}")


def caption_lines(path, folder):
    """Those of the file, or of captions.txt beside the folder."""
    if not path:
        path = os.path.join(os.path.dirname(os.path.abspath(folder)), "captions.txt")
        if not os.path.exists(path):
            return []
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def name_of(folder):
    """The policy of a folder that measure.sh made, else the folder's name."""
    name = os.path.basename(os.path.abspath(folder))
    parts = name.split("-", 2)
    if len(parts) < 3 or not parts[1].isdigit():
        return name
    return parts[2] if parts[1] == "0" else f"{parts[0]} {variant(parts[2])} at {parts[1]} %"


def data_of(folders, names, most, seed, lines):
    """What the page holds: pairs in a shuffled order, half of them with the first folder on the left."""
    clips = [clips_of(folder) for folder in folders]
    common = sorted(set(clips[0]) & set(clips[1]))
    if not common:
        raise BadInput(f"{folders[0]} and {folders[1]} have no clip of the same name")
    if names[0] == names[1]:
        raise BadInput(f"both models are called {names[0]}: tell them apart by --names A,B")
    draw = random.Random(seed)
    chosen = draw.sample(common, min(most, len(common)))
    sides = [i % 2 for i in range(len(chosen))]
    draw.shuffle(sides)
    videos, pairs = [], []
    for name, first in zip(chosen, sides):
        pair = {"pair": name, "caption": caption_of(name, clips[0][name], lines)}
        for side, which in (("left", first), ("right", 1 - first)):
            with open(clips[which][name], "rb") as file:
                videos.append(base64.b64encode(file.read()).decode())
            pair[side + "_clip"] = len(videos) - 1
            pair[side + "_name"] = base64.b64encode(names[which].encode()).decode()
        pairs.append(pair)
    data = {"pairs": pairs, "clips": videos}
    data["page"] = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]
    return data


def make(args):
    names = args.names.split(",") if args.names else [name_of(f) for f in (args.a, args.b)]
    if len(names) != 2 or not all(n.isascii() and n for n in names) or args.pairs < 1:
        raise BadInput("--names takes two names in ASCII joined by a comma, --pairs a number from 1 on")
    data = data_of([args.a, args.b], names, args.pairs, args.seed, caption_lines(args.captions, args.a))
    with open(
        os.path.join(os.path.dirname(os.path.abspath(__file__)), "votes.html"), encoding="utf-8"
    ) as file:
        page = file.read()
    # "<" could end the script that the data lie in
    text = page.replace(PLACE, PLACE.replace("{}", json.dumps(data).replace("<", "\\u003c")))
    with open(args.output + ".tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(args.output + ".tmp", args.output)
    print(f"{args.output}: {len(data['pairs'])} pairs of {names[0]} and {names[1]}, {len(text.encode()) / 1e6:.2f} MB")


def add_up(args):
    votes, models = ballots.read(args.votes)
    baseline = args.baseline or next((m for m in models if "dense" in m), models[0])
    if baseline not in models:
        raise BadInput(f"--baseline {baseline} is none of the models: {', '.join(models)}")
    other = next(m for m in models if m != baseline)
    print(ballots.table(votes, baseline, other))
    print(
        f"\n{ballots.verdict(votes, baseline, other)}\nShares in percent, intervals at 95 % by resampling people "
        "and pairs, no narrower than if\nevery vote were another person's on another pair."
    )


def main():
    parser = argparse.ArgumentParser(description="human side-by-side judgement of two models' clips")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("make", help="a page to vote on")
    one.add_argument("a", help="folder of clips")
    one.add_argument("b", help="another, with clips of the same names")
    one.add_argument("-o", "--output", default="votes.html", help="[%(default)s]")
    one.add_argument("--pairs", type=int, default=12, help="at most so many [%(default)s]")
    one.add_argument("--seed", type=int, default=0, help="of order and sides [%(default)s]")
    one.add_argument("--names", help="A,B: the models' names in the CSV [of the folders]")
    one.add_argument(
        "--captions", help="a caption a line [captions.txt beside the folder, or NAME.txt beside each clip]"
    )
    one.set_defaults(run=make)
    two = verbs.add_parser("sum", help="the votes of several people, as the paper's Table 3")
    two.add_argument("votes", nargs="+", help="CSVs that the page saved")
    two.add_argument("--baseline", help="the model that is the measure [the dense one, or the first by name]")
    two.set_defaults(run=add_up)
    args = parser.parse_args()
    try:
        args.run(args)
    except (BadInput, OSError, UnicodeDecodeError) as err:
        return f"votes.py: {err}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
