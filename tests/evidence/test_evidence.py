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
import section  # noqa: E402
import questions  # noqa: E402

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

    def test_a_seed_that_disagrees_settles_nothing(self):
        d = figures.Difference(0.2, 0.1, 0.3, 99, {0: 0.5, 1: -0.1})
        self.assertEqual(d.verdict(), 0)
        self.assertIn("not settled", figures.told([("x", d)], "All", "dense", figures.points)[0])
        d.seeds[1] = 0.1
        self.assertEqual(d.verdict(), 1)

    def test_told_turns_the_interval(self):
        d = figures.Difference(-0.012, -0.028, 0.004, 256, {0: -0.012})
        text = figures.told([("NABLA", d)], "All right", "dense", figures.points, " points")
        self.assertEqual(text, ["- All right, no difference to dense at 95 %: NABLA is 1.2 points [-0.4, 2.8] below."])

    def test_ratio(self):
        d = figures.paired_ratios({0: 100.0, 1: 200.0, 2: 50.0}, {0: 150.0, 1: 300.0})
        self.assertAlmostEqual(d.value, 1.5)
        self.assertEqual(d.n, 2)

    def test_between_points(self):
        self.assertAlmostEqual(figures.at_sparsity([(0.9, 20.0), (0.5, 30.0), (0.7, 26.0)], 0.8), 23.0)
        self.assertIsNone(figures.at_sparsity([(0.5, 30.0), (0.7, 26.0)], 0.8))


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

    def asked(self, *args):
        with tempfile.TemporaryDirectory() as folder:
            evidence = written(folder, *args)
            return {question.__name__: question(evidence, section.Tally()) for question in questions.QUESTIONS}

    def test_what_holds_and_what_fails(self):
        held = self.asked(range(3), self.models(95, 0.5))
        self.assertIn('none of 2 models is worse', held["from_scratch"].short)
        self.assertRegex(held["from_scratch"].short, r"a loss of up to \d\.\d points is not ruled out")
        self.assertNotIn("fails", held["from_scratch"].short)
        self.assertIn("1 lose most in count or relation", held["objects"].short)
        self.assertIn("1 of 1 model with STA alone", held["objects"].short)
        self.assertIn("0 of 1 model with NABLA alone", held["objects"].short)
        failed = self.asked(range(3), self.models(70, 0.7))
        self.assertIn('"losses at or below full\'s" fails for nabla at 80 %', failed["from_scratch"].short)
        self.assertIn('(of which dense has 95.0 %) fails for nabla at 80 %', failed["from_scratch"].short)

    def test_one_seed_is_no_chance(self):
        found = self.asked([0], self.models(95, 0.7))
        self.assertIn("one seed tells nothing", found["from_scratch"].short)
        self.assertIn("one seed tells nothing", found["borders"].short)

    def test_distilled(self):
        found = self.asked(range(2), self.models(40, 0.5), "distilled")
        self.assertIn("fails for nabla at 80 %", found["distilled"].short)
        self.assertIn("STA's students lose: sta-3-3-3 at 80 %", found["distilled"].short)

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
