# SPDX-License-Identifier: Apache-2.0
"""Whether the rows that `measure.sh base dense scratch one card` left of seed 7 and sta-3-3-3 are whole: measured.py RESULTS"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "evidence"))

import data  # noqa: E402

evidence = data.Evidence(sys.argv[1])
assert evidence.seeds == [7], evidence.seeds
prompts = len(evidence.captions)
assert prompts > 0 and [row["prompt"] for row in evidence.captions] == list(range(1, prompts + 1))
for kind, relation in (("scratch", True), ("one", False), ("two", True)):
    for c, name in ((0, "dense"), (80, "sta-3-3-3")):
        row, seen = evidence.trained("eval", kind, c, name)[7], evidence.seen(kind, c, name)[7]
        assert row["prompts"] == len(seen) == prompts, (kind, name, row, seen)
        assert (row["count"] is not None) == relation, (kind, name, row)
        assert abs(row["sparsity"] - (0.792 if c else 0.0)) < 0.001, (kind, name, row)
        assert (row["border"] is not None) == (kind == "scratch"), (kind, name, row)
    assert evidence.cards_of((kind,), 7) == ["a card"]
assert [(row["card"], len(row["outcomes"])) for row in evidence.cards] == [("a card", prompts)]
# the same model on the same prompts
for c, name in ((0, "dense"), (80, "sta-3-3-3")):
    assert evidence.seen("two", c, name) == evidence.seen("scratch", c, name)
assert {row["policy"] for row in evidence.train} == {"dense", "sta-3-3-3"}
assert len(evidence.threshold) == 4, evidence.threshold
