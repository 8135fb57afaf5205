#!/usr/bin/env python3
"""test_prefer.py: preference training step by step beside TRL's DPOTrainer (the figures are made by
tests/reference/prefer_fixtures.py), over several epochs, and what it refuses."""
import json

import common

FIXTURES = common.ROOT / "tests" / "fixtures" / "prefer"
FIGURES = ("loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected",
           "rewards/margins", "rewards/accuracies")


def args_of(out, method, *more):
    return ["prefer", f"model={FIXTURES}/model", f"output_dir={out}", "data.shuffle=false",
            f"data.train={FIXTURES}/pairs.jsonl", f"method.name={method}", "global_batch_size=6",
            "micro_batch_size=2", "learning_rate=1e-3", "log_every=1", "checkpoint.every=0", *more]


def beside_trl(bench):
    """Both run in float32 with sums in another order: 1e-5 of each figure's size is rounding."""
    for k, run in enumerate(json.loads((FIXTURES / "trl.json").read_text())):
        out = bench.folder / f"trl-{k}"
        beta = run["options"]["beta"]
        bench.good(*args_of(out, "dpo", f"method.beta={beta}"))
        rows = common.metrics(out)
        bench.check(len(rows) == len(run["rows"]), "beta", beta, ":", len(rows), "steps")
        for step, (ours, theirs) in enumerate(zip(rows, run["rows"]), 1):
            for name in FIGURES:
                near = abs(ours[name] - theirs[name]) <= 1e-5 * max(1, abs(theirs[name]))
                bench.check(near, "beta", beta, "step", step, name, ours[name], "TRL has",
                            theirs[name])


def epochs(bench):
    """The reference is computed once per record and rank: where does not matter, nor do breaks."""
    outs = []
    for ranks in (1, 2) if bench.mpirun else (1,):
        out = bench.folder / f"epochs-{ranks}"
        bench.good(*args_of(out, "aps", "data.shuffle=true", "epochs=3"), ranks=ranks)
        outs.append(out)
    bench.same(outs[0] / "latest/model.safetensors", outs[-1] / "latest/model.safetensors",
               "three epochs on 1 and 2 ranks")
    first, last = common.metrics(outs[0])[0], common.metrics(outs[0])[-1]
    bench.check(first["rewards/margins"] == 0, "the first step's margin is", first)
    bench.check(last["rewards/accuracies"] > 0.8, "after three epochs", last)


def refusals(bench):
    for method, word in (("psle", "dpo, ipo, aps"), ("rdo", "score_chosen"),
                         ("vcb", "dpo, ipo, aps"), ("ppo", "unknown method")):
        out = bench.folder / f"refused-{method}"
        r = bench.run(*args_of(out, method))
        bench.check(r.code not in (0, None) and word in r.err, method, "is not refused:", r)
        bench.check(not out.exists(), method, "was refused and left", out)


def test(bench):
    beside_trl(bench)
    epochs(bench)
    refusals(bench)


common.main(test)
