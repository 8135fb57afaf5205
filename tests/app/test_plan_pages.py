#!/usr/bin/env python3
"""test_plan_pages.py: checks benchmarks/results/plan-8b and plan-70b. Each page is what plan.py writes from the JSON file
beside it; some figures in this file are what `plumb plan` computes; the formulas of plan_beyond.py agree with a computation
by hand."""
import json
import sys

import common

sys.path.insert(0, str(common.ROOT / "benchmarks"))
import plan  # noqa: E402
import plan_beyond  # noqa: E402

RESULTS = common.ROOT / "benchmarks/results"


def near(a, b):
    return abs(a - b) <= 1e-5 * abs(b)


def pages(bench):
    for name, page in plan.PAGES.items():
        made = json.loads((RESULTS / f"plan-{name}.json").read_text())
        bench.check(plan.table(page, made) == (RESULTS / f"plan-{name}.md").read_text(),
                    f"plan-{name}.md is not what plan.py writes from plan-{name}.json")


def figures(bench):
    """Checks that `plumb plan` still gives the figures of some cases in the JSON file."""
    made = json.loads((RESULTS / "plan-70b.json").read_text())
    page, where = plan.PAGES["70b"], bench.folder / "plans"
    where.mkdir()
    models = plan.folders(where)
    jobs = {j.name: j for j in page.jobs(None)}
    for name, trained, memory in (("sft", "full", "141GB"), ("psle, reward 8 B", "LoRA", "80GB")):
        found = plan.row(plan.plan(bench.plumb, page, jobs[name], where, models, 8, memory, plan.TRAINED[trained]), jobs[name],
                         trained, 8, memory)
        want = next(r for r in made["rows"] if (r["config"], r["trained"], r["world_size"], r["memory"]) == (name, trained, 8, memory))
        bench.check(near(found["needs"], want["needs"]) and near(found["seconds"], want["seconds"]), name, found, want)
        bench.check({k: found[k] for k in ("fits", "frozen", "shard", "units")} == {k: want[k] for k in ("fits", "frozen", "shard", "units")},
                    name, found, want)


def formulas(bench):
    s = plan_beyond.Shape(plan.SHAPES["70b"])
    bench.check(s.parameters == 70_553_706_496 and plan_beyond.Shape(plan.SHAPES["8b"]).parameters == 8_030_261_248, s.parameters)
    bench.check(s.layer == 855_638_016 and s.kv == 327_680, s.layer, s.kv)
    rates = {"flops": 4e14, "bandwidth": 2e12, "host_link": 3e11, "link": 3e10}
    layers = 2 * 80 * 855_638_016
    bench.check(near(plan_beyond.gather(s, 8, rates), layers * 7 / 8 / 3e11), "a host gathers")
    bench.check(near(plan_beyond.gather(s, 64, rates), layers * 7 / 8 / 3e11 + layers * (1 / 8 - 1 / 64) / 3e10), "64 ranks gather")
    whole = plan_beyond.step(s, 1, "whole", 1, rates)
    bench.check(near(whole["seconds"], (layers + 2 * 128256 * 8192 + 327_680 * 768) / 2e12) and whole["sent"] == 0, whole)
    logits = 64 * 4 * 128256 / 8 * 7 / 8
    for design, each in (("partial sums", 12 * 8192), ("inputs", 2 * (3 * 8192 + 28672))):
        sliced = plan_beyond.step(s, 8, design, 8, rates)
        bench.check(near(sliced["sent"], 80 * 64 * each * 7 / 8 + logits) and sliced["messages"] == 80 * 4 * 3 + 3, design, sliced)
        bench.check(near(sliced["held"], (layers + 2 * 128256 * 8192) / 8), design, sliced)
    part = {"config": "x", "needs": 500e9, "packed": {"policy": layers + 10, "reward model": layers}, "reward": "70b"}
    bench.check(near(plan_beyond.needs(part, {"70b": s}, 8), 500e9 - 2 * layers * 7 / 8 + 8 * s.layer), "shares of two models")
    local = {"command": "align", "config": "psle, reward 70 B", "reward": "70b", "world_size": 8, "trained": "full",
             "estimate": {"phases": {"reference": {"flops": 0}, "reward": {}}}}
    bench.check(plan_beyond.passes(local, 1024) == {"prefill": (16, "70b"), "comparison": (1, "70b"), "update": (32, "70b"),
                                                    "reward": (64, "70b")}, plan_beyond.passes(local, 1024))


def test(bench):
    pages(bench)
    figures(bench)
    formulas(bench)


if __name__ == "__main__":
    common.main(test)
