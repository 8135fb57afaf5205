#!/usr/bin/env python3
"""test_ranks.py: checks that training writes the same bytes on 1, 2 and 4 ranks and with 1 and 2 threads."""
import shutil

import common

# (ranks, threads); the others are compared with the first
SETUPS = ((1, 1), (2, 1), (1, 2), (4, 1))


def compare(bench, name, first, other, setup, rollouts):
    what = f"{name} with {setup[0]} ranks x {setup[1]} threads:"
    bench.same(first / "latest/model.safetensors", other / "latest/model.safetensors", what)
    bench.same(first / "latest/trainer_state.h5", other / "latest/trainer_state.h5", what)
    a, b = common.metrics(first), common.metrics(other)
    bench.check(len(a) > 0 and len(a) == len(b), what, len(a), "and", len(b), "rows of metrics")
    for x, y in zip(a, b):
        x, y = common.timeless(x), common.timeless(y)
        unlike = {k: (x.get(k), y.get(k)) for k in x.keys() | y.keys() if x.get(k) != y.get(k)}
        bench.check(not unlike, what, "metrics differ:", unlike)
        bench.check(rollouts == 0 or y.get("logprob_max_diff") == 0, what, "logprob_max_diff is",
                    y.get("logprob_max_diff"))
    masters = sorted(p.name for p in (first / "rollouts").glob("*") if "rank" not in p.name) \
        if rollouts else []
    bench.check(len(masters) == rollouts, what, "rollout masters", masters)
    for m in masters:
        x, y = (common.rollout_records(out / "rollouts" / m) for out in (first, other))
        bench.check(len(x) >= 12 and None not in x.values() and "logprob" in x, m, "holds",
                    sorted(x))
        bench.check(x.keys() == y.keys(), what, m, "datasets", sorted(x.keys() ^ y.keys()))
        for k in x.keys() & y.keys():
            bench.check(x[k] == y[k], what, m, k, "differs")


def on_all(bench, name, args_of, setups=SETUPS, rollouts=0):
    outs = []
    for ranks, threads in setups:
        out = bench.folder / f"{name}-{ranks}-{threads}"
        bench.good(*args_of(out), ranks=ranks, threads=threads)
        outs.append(out)
    for out, setup in zip(outs[1:], setups[1:]):
        compare(bench, name, outs[0], out, setup, rollouts)
    return outs[0] / "latest"


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    base = on_all(bench, "sft", bench.sft_args)
    reward = on_all(bench, "reward", lambda out: bench.reward_args(out, base))

    def align(out):
        return bench.align_args(out, base, f"reward.model={reward}")
    aligned = on_all(bench, "align", align, rollouts=2)
    # the reference is the starting policy in every iteration, not the current one
    kl = [row.get("kl") for row in common.metrics(aligned.parent)]
    bench.check(len(kl) == 2 and kl[0] == 0 and kl[1] not in (0, None), "divergence from the start",
                kl)
    for method in ("raft", "context_distillation"):
        def other(out, method=method):
            return bench.align_args(out, base, f"reward.model={reward}", method=method)
        on_all(bench, method, other, SETUPS[:2], rollouts=2)


common.main(test, needs_mpi=True)
