#!/usr/bin/env python3
"""test_frozen.py PLUMB WORLD - the option frozen: a run leaves the same bytes wherever the layers of
its references and its reward model are, on any number of ranks, also when it is interrupted; it takes
what was planned; auto takes the first place that fits; what cannot be done is refused by name."""
import json

import common
import test_plan

MODES = ("resident", "sharded", "offload")


def args_of(bench, out, reward, *more, method="dpo", **kw):
    return bench.align_args(out, bench.base(), f"reward.model={reward}", *more, method=method, prompts=8,
                            iterations=2, **kw)


def test_same(bench, reward):
    """DPO with a reference, the divergence from the start, a reward model and held-out prompts."""
    held = [f"data.eval={bench.world}/prompts.jsonl", "eval_every=1", "data.limit=24"]
    whole = bench.folder / "resident-1"
    for mode in MODES:
        for ranks in (1, 2, 4):
            out = bench.folder / f"{mode}-{ranks}"
            args = args_of(bench, out, reward, *held, f"frozen={mode}")
            test_plan.same_as_run(bench, args, ranks=ranks if bench.mpirun else 1)
            bench.same_run(whole, out, f"frozen: {mode} on {ranks} ranks")
            if not bench.mpirun:
                break


def test_pause(bench, reward):
    """max_time ends a run wherever it is; resumed until its end, in other modes, it is the same."""
    out = bench.folder / "paused"
    for i in range(40):
        mode, ranks = MODES[i % 3], (2, 4, 1)[i % 3] if bench.mpirun else 1
        held = [f"data.eval={bench.world}/prompts.jsonl", "eval_every=1", "data.limit=24"]
        r = bench.run(*args_of(bench, out, reward, *held, f"frozen={mode}"), "resume=auto",
                      f"max_time={0.05 + 0.02 * i}", ranks=ranks)
        bench.check(r.code in (0, 99), "paused:", r)
        if r.code != 99:
            break
    bench.check(r.code == 0 and i > 0, "was never interrupted, or has no end:", i, r)
    bench.same_run(bench.folder / "resident-1", out, "interrupted:")


def test_refused(bench, reward):
    """Passes that the ranks do not run together."""
    out = bench.folder / "never"
    pairs = bench.prefer_args(out, bench.base(), "method.name=dpo", "frozen=sharded")
    for args, says in (
            (pairs, "prefer runs the reference in micro-batches"),
            (args_of(bench, out, reward, "frozen=sharded", method="real"), "method.embedder reads"),
            (args_of(bench, out, reward, "frozen=sharded", method="selm"), "selm generates"),
            (bench.align_args(out, bench.base(), "frozen=sharded", "method.decoupling=0.5", method="spa", group=2),
             "method.decoupling mixes")):
        for command in ([], ["plan"]):
            r = bench.run(*command, *args)
            bench.check(r.code == 7 and says in r.err and "frozen=offload" in r.err, "not refused:", r)
    bench.check(not out.exists(), "a refused run left its folder")
    whole, moved = bench.folder / "pairs", bench.folder / "pairs-offload"
    for folder, mode in ((whole, "resident"), (moved, "offload")):
        bench.good(*bench.prefer_args(folder, bench.base(), "method.name=dpo", f"frozen={mode}", steps=3))
    bench.same_run(whole, moved, "prefer, offload:")
    r = bench.run(*bench.sft_args(out, "frozen=offload"))
    bench.check(r.code == 12 and "frozen" in r.err, "sft takes frozen:", r)


def test_auto(bench):
    """Of a model of 8 B on 8 ranks: the first of the three that fits, and the figures of all."""
    def made(memory, *more):
        return test_plan.plan_8b(bench, "dpo", f"plan.memory={memory}", "data.limit=64", "train.shard=optimizer", *more)
    need = {m: made("1TB", f"frozen={m}") for m in MODES}
    bytes_of = {m: need[m]["bytes_with_host"] for m in MODES}
    layers = 32 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336) * 2
    shares = bytes_of["resident"] - bytes_of["sharded"]
    buffers = 2 * 2 * layers // 32 # two layers, for the reference and for the reward model
    bench.check(abs(shares - (2 * layers * 7 // 8 - buffers)) < 2**25, "sharded:", shares, layers)
    bench.check(abs(bytes_of["resident"] - bytes_of["offload"] - (2 * layers - buffers)) < 2**25, "offload:", need)
    hosts = [r["bytes"] for r in need["offload"]["rows"] if r["host"] and r["what"] == "frozen layers"]
    bench.check(hosts == [layers, layers], "in host memory:", hosts)
    narrow = test_plan.held(need["resident"], "weights", "reference models")
    bench.check(narrow < 2**21, "float32 weights of a frozen model:", narrow)
    for i, m in enumerate(MODES):
        p = made(str(bytes_of[m]))
        bench.check(p["frozen"] == m and p["fits"], "auto:", p["frozen"], "expected", m)
        p = made(str(bytes_of[m] - 1))
        bench.check(p["frozen"] == MODES[min(i + 1, 2)] and p["fits"] == (i < 2), "auto, a byte less:", p["frozen"])
    p = test_plan.plan_8b(bench, "prefer_dpo", f"plan.memory=130GB")
    bench.check(p["frozen"] != "sharded", "prefer:", p["frozen"])
    one = made("1TB", "plan.world_size=1")
    bench.check(one["frozen"] == "resident" and json.dumps(one), "one rank:", one["frozen"])


def test(bench):
    reward = bench.folder / "reward" / "latest"
    bench.good(*bench.reward_args(bench.folder / "reward", bench.base(), steps=2))
    test_same(bench, reward)
    test_pause(bench, reward)
    test_refused(bench, reward)
    test_auto(bench)


if __name__ == "__main__":
    common.main(test)
