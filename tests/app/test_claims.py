#!/usr/bin/env python3
"""test_claims.py: runs benchmarks/claims.py on a model that is too small to learn. Checks that every seed has every variant
(arm), that the share of wrong labels is the annotator's, that intervals use Student's t, that other settings are
refused, and that finished runs are not repeated."""
import json
import math
import os
import statistics
import subprocess
import sys

import common

sys.path.insert(0, str(common.ROOT / "benchmarks"))
import runs  # noqa: E402


def claims(bench, claim, *more):
    """Returns (results.json, results.md) of a call of claims.py. If the call fails, returns (its
    error message, "")."""
    base = bench.folder / "base/latest"
    command = [sys.executable, common.ROOT / "benchmarks/claims.py", claim, "--world", bench.world, "--start", base,
               "--world-program", bench.world_program, "--out", bench.folder / "claims", "--max-kl", "0", "--eval-set",
               "data.limit=8", "eval.samples=1", "max_new_tokens=8", *more, "--set", "threads=1", *(["max_new_tokens=8"] if claim != "spa" else [])]
    env = {**os.environ, "PLUMB": str(bench.plumb)}
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, env=env, timeout=300, check=False)
    if done.returncode != 0:
        return done.stderr, ""
    folder = bench.folder / "claims" / claim
    return json.loads((folder / "results.json").read_text()), (folder / "results.md").read_text()


def real(bench):
    args = ("--seeds", "1,2", "--rates", "1e-3", "--noise", "0,1", "--flip", "1", "--prompts", "32")
    results, text = claims(bench, "real", *args)
    arms = ["start"] + [f"{n}: {p}" for n in ("noise 0", "noise 1", "flip 1") for p in ("easy", "random", "hard")]
    bench.check(list(results["seeds"]) == ["1", "2"], "seeds", list(results["seeds"]))
    for seed, found in results["seeds"].items():
        bench.check(list(found) == arms, "arms of seed", seed, list(found))
        for pick in ("easy", "random", "hard"):
            true, noisy, flipped = (found[f"{n}: {pick}"] for n in ("noise 0", "noise 1", "flip 1"))
            bench.check(true["asked"] == noisy["asked"] and true["labelled"] <= noisy["labelled"] <= 32, pick, true, noisy)
            bench.check(true["wrong"] == 0 and flipped["wrong"] == 1 and true["no_difference"] == 0, pick, true, flipped)
        bench.check(sum(found[f"noise 1: {p}"]["wrong"] for p in ("easy", "random", "hard")) > 0, "noise 1 errs nowhere")
    a, b = (results["seeds"][s]["noise 1: easy"]["true"] - results["seeds"][s]["noise 1: hard"]["true"] for s in ("1", "2"))
    line = f"noise 1: easy - hard, true score: {(a + b) / 2:.3f} ± {12.706 * abs(a - b) / 2:.3f} ({a:+.3f}, {b:+.3f})"
    bench.check(line in text, line, "is not in", text)
    before = common.tree(bench.folder / "claims/real")
    bench.check(claims(bench, "real", *args)[0] == results, "the second call finds something else")
    bench.check(common.tree(bench.folder / "claims/real") == before, "the second call changes files")
    said, _ = claims(bench, "real", *args, "--tune-seed", "9")
    bench.check("begun with other settings" in said, "other settings:", said)


def vcb(bench):
    results, _ = claims(bench, "vcb", "--seeds", "3", "--rates", "1e-3", "--strengths", "1", "--prompts", "16")
    found = results["seeds"]["3"]
    gaps = [found[f"{shape}: dpo"]["variation"] for shape in ("equal", "natural", "heavy")]
    bench.check(gaps[0] == 0 or math.isnan(gaps[0]), "equal gaps vary", gaps)
    bench.check(gaps[1] < gaps[2], "heavy-tailed gaps vary less than natural ones", gaps)
    bench.check(list(found) == [f"{s}: {a}" for s in ("equal", "natural", "heavy") for a in ("start", "dpo", "vcb", "dpo near")], "arms", found)


def spa(bench):
    bench.good(*bench.reward_args(bench.folder / "reward", bench.base(), steps=4))
    results, text = claims(bench, "spa", "--seeds", "2", "--rates", "1e-3", "--epochs", "1", "--spa-rates", "1e-3", "--reward", bench.folder / "reward/latest")
    found = results["seeds"]["2"]
    bench.check(list(found) == ["start", "dpo", "spa-1", "spa-2", "spa-3"], "arms", list(found))
    alone, stage = (bench.folder / "claims/spa" / run / "latest/model.safetensors" for run in ("tuning/dpo/1@1e-3", "tuning/spa/1e-3/seed"))
    bench.same(alone, stage, "dpo and spa's first stage")
    bench.check(found["start"]["win"] == 0.5 and len({f["kl"] for f in found.values()}) == 5, "figures", found)
    stage = bench.folder / "claims/spa/spa-2/seed/config.effective.yaml"
    bench.check("skip: 120\n" in stage.read_text() and "limit: 120\n" in stage.read_text(), "labels of seed 2")
    bench.check("spa-3 - dpo, true score" in text, text)


def statistics_of_seeds(bench):
    values = [0.3, -1.2, 0.7, 2.5, 0.1]
    mean, half = runs.interval(values)
    want = 2.776 * statistics.stdev(values) / math.sqrt(5)
    bench.check(mean == statistics.mean(values) and math.isclose(half, want), "interval", mean, half, want)
    bench.check(math.isnan(runs.interval([1.0])[1]), "an interval of one value")
    trials = {"a": {"reward": 1, "kl": 9}, "b": {"reward": 3, "kl": 7}, "c": {"reward": 2, "kl": 5}}
    chosen = [runs.choose(trials, most) for most in (0, 6, 7, 1)]
    bench.check(chosen == ["b", "c", "b", "a"], "chosen trials", chosen)


def test(bench):
    bench.make_world(pairs=840, prompts=864)
    bench.base()
    statistics_of_seeds(bench)
    real(bench)
    vcb(bench)
    spa(bench)


if __name__ == "__main__":
    common.main(test)
