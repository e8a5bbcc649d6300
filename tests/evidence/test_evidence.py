# SPDX-License-Identifier: Apache-2.0
"""The arithmetic behind docs/evidence.md and the votes, without plots: python3 tests/evidence/test_evidence.py"""

import base64
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import unittest

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "evidence")
sys.path.insert(0, TOOLS)

import ballots  # noqa: E402
import data  # noqa: E402
import figures  # noqa: E402
import objects  # noqa: E402
import questions  # noqa: E402
import report  # noqa: E402
import section  # noqa: E402
import zero_shot  # noqa: E402

GOOD = data.COLOUR | data.SHAPE | data.MOTION | data.COUNT


class Intervals(unittest.TestCase):
    def test_wilson(self):  # of 0 and 5 in 10: Newcombe 1998's formula by hand
        for hits, low, high in [(0, 0.0, 0.277533), (5, 0.236593, 0.763407), (10, 0.722467, 1.0)]:
            found = figures.wilson(hits, 10)
            self.assertAlmostEqual(found[0], low, 5)
            self.assertAlmostEqual(found[1], high, 5)

    def test_student(self):
        value, low, high = figures.student([1.0, 2.0, 3.0])
        self.assertAlmostEqual(value, 2.0)
        self.assertAlmostEqual(high - 2.0, 4.3027 / math.sqrt(3), 6)
        self.assertAlmostEqual(2.0 - low, high - 2.0)
        self.assertEqual(figures.student([1.5]), (1.5, -math.inf, math.inf))

    def test_paired_is_that_of_nabla_eval(self):  # 3 gained, 1 lost of 10, as nabla_eval_compare
        before = [0, 0, 0, 8, 8, 8, 8, 8, 0, 0]
        after = [8, 8, 8, 0, 8, 8, 8, 8, 0, 0]
        d = figures.paired_prompts({0: before}, {0: after}, "count")
        self.assertAlmostEqual(d.value, 0.2)
        self.assertAlmostEqual(d.low, 2 / 12 - 0.352838, 5)
        self.assertAlmostEqual(d.high, 2 / 12 + 0.352838, 5)
        self.assertEqual((d.n, d.verdict()), (10, 0))

    def test_same_prompts_of_more_seeds_are_no_more_prompts(self):
        before, after = [0] * 6 + [8] * 14, [8] * 6 + [8] * 14
        one = figures.paired_prompts({0: before}, {0: after}, "count")
        three = figures.paired_prompts({s: before for s in range(3)}, {s: after for s in range(3)}, "count")
        self.assertEqual((one.low, one.high), (three.low, three.high))
        self.assertEqual(list(three.seeds), [0, 1, 2])

    def test_covers(self):
        """Prompts of their own difficulty, three seeds, no true difference: about 95 of 100 intervals hold 0."""
        draw, held, tries = random.Random(3), 0, 400
        for _ in range(tries):
            ease = [draw.betavariate(4, 1) for _ in range(64)]
            answers = [{s: [8 * (draw.random() < e) for e in ease] for s in range(3)} for _ in range(2)]
            d = figures.paired_prompts(*answers, "count")
            held += d.low <= 0 <= d.high
        self.assertGreater(held, 0.92 * tries)
        self.assertLess(held, tries)

    def test_a_verdict_wants_both_intervals(self):
        d = figures.Difference(0.2, 0.1, 0.3, 99, {0: 0.5, 1: 0.1, 2: 0.0})  # of three seeds Student's holds 0
        self.assertEqual((d.settled(), d.verdict()), (False, 0))
        d.seeds = {0: 0.21, 1: 0.2, 2: 0.19}
        self.assertEqual((d.settled(), d.verdict()), (True, 1))
        d.seeds = {0: 0.2}  # one seed tells nothing of others: the verdict is of its models
        self.assertEqual(d.verdict(), 1)
        d.low = -0.1
        self.assertEqual(d.verdict(), 0)

    def test_further(self):  # by hand: half-widths 0.03 and 0.04 join to 0.05
        one = figures.Difference(-0.1, -0.13, -0.07, 50, {0: -0.1, 1: -0.1})
        other = figures.Difference(-0.3, -0.34, -0.26, 50, {0: -0.2, 1: -0.4})
        d = figures.further(one, other)
        self.assertAlmostEqual(d.value, -0.2)
        self.assertAlmostEqual(d.low, -0.25)
        self.assertAlmostEqual(d.high, -0.15)
        self.assertAlmostEqual(d.seeds[1], -0.3)
        self.assertIsNone(figures.further(one, None))

    def test_shares_count_a_prompt_once(self):
        prompts = [8] * 6 + [0] * 14
        one, three = figures.share_interval({0: prompts}, "count"), figures.share_interval({s: prompts for s in range(3)}, "count")
        for a, b in zip(one, three):
            self.assertAlmostEqual(a, b)
        for a, b in zip(one, figures.wilson(6, 20)):
            self.assertAlmostEqual(a, b, 1)
        self.assertAlmostEqual(figures.share_interval({s: [0] * 20 for s in range(3)}, "count")[1], figures.wilson(0, 20)[1])
        # seeds that have nothing to do with each other are as many answers
        mixed = figures.share_interval({s: [8 * ((i + s) % 3 == 0) for i in range(60)] for s in range(3)}, "count")
        self.assertAlmostEqual(mixed[1], figures.wilson(60, 180)[1])

    def test_ratio(self):
        d = figures.paired_ratios({0: 100.0, 1: 200.0, 2: 50.0}, {0: 150.0, 1: 300.0})
        self.assertAlmostEqual(d.value, 1.5)
        self.assertEqual(d.n, 2)
        self.assertEqual(d.verdict(), 1)
        self.assertEqual(figures.paired_ratios({0: 2.0, 1: 3.0}, {0: 2.1, 1: 2.9}).verdict(), 0)
        self.assertAlmostEqual(figures.paired_relative({0: 2.0, 1: 4.0}, {0: 2.2, 1: 4.4}).value, 0.1)

    def test_between_points(self):
        self.assertAlmostEqual(figures.at_sparsity([(0.9, 20.0), (0.5, 30.0), (0.7, 26.0)], 0.8), 23.0)
        self.assertIsNone(figures.at_sparsity([(0.5, 30.0), (0.7, 26.0)], 0.8))

    def test_a_comparison_is_tallied_once(self):
        tally, d = section.Tally(), figures.Difference(0.2, 0.1, 0.3, 99, {0: 0.2})
        for of in ("count", "count", "more"):
            self.assertIs(tally.add(d, "scratch", 80, of), d)
        self.assertEqual((tally.made(), tally.different()), (2, 2))


class Reading(unittest.TestCase):
    def test_decode(self):
        self.assertEqual(data.decode("0fa080"), [15, 160, 128])
        for bad in ("0", "0g", "0x0f"):
            with self.assertRaises(data.BadInput):
                data.decode(bad)

    def test_all_right(self):
        self.assertEqual(data.right(GOOD, "all"), 1.0)
        self.assertEqual(data.right(GOOD | data.RELATION_ASKED, "all"), 0.0)
        self.assertEqual(data.right(GOOD | data.RELATION_ASKED | data.RELATION, "all"), 1.0)
        self.assertEqual(data.right(GOOD & ~data.MOTION, "all"), 0.0)
        self.assertIsNone(data.right(GOOD, "relation"))
        self.assertEqual(data.right(data.MORE, "more"), 1.0)
        self.assertEqual(data.right(GOOD & ~data.COUNT, "described"), 1.0)
        self.assertEqual(data.right(GOOD & ~data.SHAPE, "described"), 0.0)
        self.assertEqual(figures.share({0: [47, 63, 15]}, "relation"), (1.0, 2))

    def test_policies(self):
        self.assertEqual(data.variant("nabla-0.1234_sta-1-3-3"), "nabla_sta-1-3-3")
        for policy, kind in [
            ("dense", "dense"),
            ("sta-3-3-3", "sta"),
            ("nabla-0.4", "nabla"),
            ("nabla_sta-1-3-3", "union"),
        ]:
            self.assertEqual(data.family(policy), kind)
        with self.assertRaises(data.BadInput):
            data.family("banana")

    def test_bad_files_are_refused(self):
        header = data.COLUMNS["loss"].replace(" ", ",")
        for text in ("step,loss\n", header + "\nscratch,80,dense,0,20\n", header + "\nscratch,80,dense,0,x,0.5\n"):
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "loss.csv"), "w", encoding="utf-8") as file:
                    file.write(text)
                with self.assertRaises(data.BadInput):
                    data.Evidence(folder)


def written(folder, seeds, models, kind="scratch"):
    """CSVs as measure.sh writes them. models: {(class, policy): (loss, bits a prompt)}"""
    rows = {name: [columns.replace(" ", ",")] for name, columns in data.COLUMNS.items()}
    for (c, policy), (loss, bits) in models.items():
        for seed in seeds:
            key = f"{kind if policy != 'dense' else 'scratch'},{c},{policy},{seed}"
            hits = [figures.share({0: bits}, t) for t in data.TRAITS]
            shares = ",".join(str(h / n) if n else "" for h, n in hits)
            rows["train"].append(f"{key},600,64,{loss},0.{c:02d},{100 + c + seed},60")
            rows["loss"] += [f"{key},{step},{loss + 0.0001 * seed}" for step in range(20, 620, 20)]
            rows["eval"].append(f"{key},{policy},{len(bits)},{shares},0.{c:02d},,,,1.02,0.5")
            rows["outcomes"].append(f"{key},{policy},{bytes(bits).hex()}")
    for name, lines in rows.items():
        with open(os.path.join(folder, name + ".csv"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return data.Evidence(folder)


class Sections(unittest.TestCase):
    right, wrong = GOOD | data.RELATION_ASKED | data.RELATION, GOOD & ~data.COUNT | data.RELATION_ASKED | data.MORE

    def models(self, nabla_right, nabla_loss):
        lot = lambda n: [self.right] * n + [self.wrong] * (100 - n)
        return {
            (0, "dense"): (0.5, lot(95)),
            (80, "sta-3-3-3"): (0.6, lot(60)),
            (80, "nabla-0.3"): (nabla_loss, lot(nabla_right)),
            (80, "nabla-0.2_sta-1-3-3"): (0.5, lot(95)),
        }

    def test_one_object_and_two(self):
        lot = lambda n: [GOOD] * n + [GOOD & ~data.MOTION & ~data.COUNT | data.MORE] * (100 - n)
        with tempfile.TemporaryDirectory() as folder:
            evidence = written(folder, range(3), self.models(95, 0.5))
            self.assertIn("not been measured", "".join(objects.one_and_two(evidence, section.Tally())[0]))
            for kind, shares in (("one", (95, 90, 60)), ("two", (90, 85, 10))):
                for c, policy, n in zip((0, 80, 80), ("dense", "nabla-0.3", "sta-3-3-3"), shares):
                    for seed in range(3):
                        key = {"kind": kind, "sparsity_class": c, "policy": policy, "seed": seed}
                        evidence.eval.append({**key, "run_with": policy, "prompts": 100, "sparsity": 0.8})
                        evidence.outcomes.append({**key, "run_with": policy, "outcomes": lot(n)})
            evidence.machines = [{"kind": "one", "seed": s, "card": "A card"} for s in range(3)]
            lines, said = objects.one_and_two(evidence, section.Tally())
        table = [line for line in lines if line.startswith("| 80 |")]
        self.assertEqual(len(table), 2)
        self.assertRegex(table[0], r"\| sta-3-3-3 \| 3 \| 60.0<br>\*\*-35.0 .* \| 10.0<br>\*\*-80.0 .* \| \*\*-45.0 ")
        self.assertRegex(table[1], r"\| nabla \| .* \| [+-]0.0 \[-[^*]* \|$")
        self.assertIn("in 1 of 1 model", said)
        self.assertIn("Seed 0 on A card", "".join(lines))

    def test_students_beside_the_untrained_model(self):
        """Half-way between two policies of the grid, of which one has all right and the other none."""
        with tempfile.TemporaryDirectory() as folder:
            evidence = written(folder, [0, 1], self.models(95, 0.5))
        for seed in (0, 1):
            for t, sparsity, bits in ((0.1, 0.75, self.wrong), (0.3, 0.25, self.right)):
                key = {"kind": "zero-shot", "run_with": f"nabla-{t}", "seed": seed}
                evidence.eval.append({**key, "sparsity_class": "nabla", "policy": "grid", "sparsity": sparsity})
                evidence.outcomes.append({**key, "sparsity_class": "nabla", "policy": "grid", "outcomes": [bits] * 8})
        self.assertEqual(
            zero_shot.untrained(evidence, "nabla", {0: 0.5, 1: 0.375}, "all"),
            {0: [0.5] * 8, 1: [0.75] * 8},
        )
        self.assertEqual(zero_shot.untrained(evidence, "nabla", {0: 0.95}, "all"), {})
        self.assertEqual(zero_shot.untrained(evidence, "sta-3-3-3", {0: 0.8}, "all"), {})

    def test_what_another_card_changes(self):
        with tempfile.TemporaryDirectory() as folder:
            evidence = written(folder, [0], self.models(95, 0.5))
        evidence.machines = [{"kind": "scratch", "seed": 0, "card": "one card"}]
        bits = [self.right] * 90 + [self.wrong] * 10
        key = {"kind": "scratch", "sparsity_class": 0, "policy": "dense", "seed": 0, "outcomes": bits}
        evidence.cards = [{**key, "card": "another"}, {**key, "card": "one card"}]
        lines = [line for line in report.other_cards(evidence, section.Tally()) if line.startswith("- ")]
        self.assertEqual(len(lines), 1)
        self.assertIn("on another: 90.0 % all right against 95.0 on one card, -5.0 points [", lines[0])

    def asked(self, *args):
        with tempfile.TemporaryDirectory() as folder:
            evidence = written(folder, *args)
            return {question.__name__: question(evidence, section.Tally()) for question in questions.QUESTIONS}

    def test_what_holds_and_what_fails(self):
        held = self.asked(range(3), self.models(95, 0.5))
        self.assertIn("none of 2 models is worse", held["from_scratch"].short)
        self.assertRegex(held["from_scratch"].short, r"a loss of up to \d\.\d points of dense's 95.0 is not ruled out")
        self.assertNotIn("fails", held["from_scratch"].short)
        self.assertIn("below dense in 1 of 1 model, and loses most in count (1)", held["objects"].short)
        self.assertIn("STA alone 1 of 1 (+35.0 points)", held["objects"].short)
        self.assertIn("NABLA alone 0 of 1,", held["objects"].short)
        failed = self.asked(range(3), self.models(70, 0.7))
        short = failed["from_scratch"].short
        self.assertIn('full\'s": fails for 1 of 2 models (nabla at 80 %), by 40.0 % of it', short)
        self.assertIn("all right\": fails for 1 of 2 models (nabla at 80 %), by 25.0 points of dense's 95.0", short)
        self.assertIn("more all right than NABLA alone in 1 of 1 at 80 % (+25.0 points)", failed["objects"].short)

    def test_what_seeds_do_not_settle_does_not_stand(self):
        d = figures.Difference(-0.2, -0.3, -0.1, 99, {0: -0.5, 1: -0.1, 2: 0.0})
        text = section.not_worse([("nabla", d, -1)], "claim", figures.points, " points")
        self.assertEqual(text, "claim: not settled, worse over prompts but not over seeds: nabla")

    def test_one_seed_is_no_chance(self):
        found = self.asked([0], self.models(95, 0.7))
        self.assertIn("one seed tells nothing", found["from_scratch"].short)
        self.assertIn("one seed tells nothing", found["borders"].short)

    def test_distilled(self):
        found = self.asked(range(2), self.models(40, 0.5), "distilled")
        self.assertIn("fails for 1 of 2 models (nabla at 80 %)", found["distilled"].short)
        self.assertIn("STA's lose in 1 of 1, by 35.0 points", found["distilled"].short)

    def test_nothing_yet(self):
        with tempfile.TemporaryDirectory() as folder:
            for question in questions.QUESTIONS:
                found = question(data.Evidence(folder), section.Tally())
                self.assertIn("no figures", found.short)
                self.assertEqual(found.plots, [])


class Votes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return path

    def program(self, *args):
        return subprocess.run(
            [sys.executable, os.path.join(TOOLS, "votes.py"), *args], capture_output=True, text=True
        )

    def votes(self, voter, answers):
        lines = [",".join(ballots.COLUMNS)]
        for i, answer in enumerate(answers):
            sides = ("dense", "nabla") if i % 2 else ("nabla", "dense")
            lines.append(f"page,{voter},{i},{sides[0]},{sides[1]},{answer},both good,,{answer}")
        return self.path(voter + ".csv", "\n".join(lines) + "\n")

    def test_sum(self):
        # the dense model is on the right of even pairs
        files = [
            self.votes("ann", ["right", "left", "left", "both bad"]),
            self.votes("bob", ["right", "both good", "right", ""]),
        ]
        found, models = ballots.read(files)
        self.assertEqual(models, ["dense", "nabla"])
        self.assertEqual(len(found["overall"]), 7)
        self.assertEqual(
            [sum(a == x for _, _, a in found["overall"]) for x in ("dense", "nabla", "both good", "both bad")],
            [4, 1, 1, 1],
        )
        share = ballots.share(found["overall"], "dense")
        self.assertAlmostEqual(share[0], 4 / 7)
        self.assertLess(share[1], 4 / 7)
        self.assertGreater(share[2], 4 / 7)
        self.assertAlmostEqual(ballots.preference(found["overall"], "dense", "nabla")[0], -3 / 7)
        self.assertEqual(ballots.share(found["visual"], "both good")[2], 1.0)
        self.assertIsNone(ballots.share(found["motion"], "dense"))
        said = self.program("sum", *files)
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertIn("| overall | 57.1 [", said.stdout)
        self.assertIn("2 voters on 4 pairs", said.stdout)

    def test_unanimous_few_are_still_few(self):
        found, _ = ballots.read([self.votes("ann", ["right"]), self.votes("bob", ["right"])])
        value, low, high = ballots.preference(found["overall"], "nabla", "dense")
        self.assertEqual((value, high), (1.0, 1.0))
        self.assertLess(low, 0.5)

    def test_bad_votes_are_refused(self):
        one = self.votes("ann", ["right"])
        for files in (
            [one, one],
            [self.votes("eve", ["middle"])],
            [self.path("x.csv", "a,b\n")],
            [self.path("y.csv", ",".join(ballots.COLUMNS) + "\npage,ann,1\n")],
            [self.path("none.csv")],
        ):
            said = self.program("sum", *files)
            self.assertEqual(said.returncode, 1)
            self.assertRegex(said.stderr, "^votes.py: [^\n]+\n$")

    def test_page(self):
        for name in ("a", "b"):
            os.mkdir(self.path(name))
            for i in range(1, 9):
                self.path(f"{name}/{i:04d}.mp4", f"</script>{name}{i}")
        self.path("captions.txt", "\n".join(f"caption <{i}>" for i in range(1, 9)))
        pages = []
        for seed in ("1", "1", "2"):
            said = self.program(
                "make", self.path("a"), self.path("b"), "--seed", seed, "--pairs", "6", "-o", self.path("v.html")
            )
            self.assertEqual(said.returncode, 0, said.stderr)
            with open(self.path("v.html"), encoding="utf-8") as file:
                pages.append(file.read())
        self.assertEqual(pages[0], pages[1])
        self.assertNotEqual(pages[0], pages[2])
        text = pages[0].split('<script id="data" type="application/json">')[1].split("</script>")[0]
        page = json.loads(text)
        self.assertEqual(len({p["pair"] for p in page["pairs"]}), 6)
        left = [base64.b64decode(p["left_name"]).decode() for p in page["pairs"]]
        self.assertEqual(sorted(left), ["a"] * 3 + ["b"] * 3)
        for pair, name in zip(page["pairs"], left):
            number = int(pair["pair"])
            self.assertEqual(pair["caption"], f"caption <{number}>")
            self.assertEqual(base64.b64decode(page["clips"][pair["left_clip"]]).decode(), f"</script>{name}{number}")


if __name__ == "__main__":
    unittest.main()
