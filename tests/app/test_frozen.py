#!/usr/bin/env python3
"""test_frozen.py PLUMB WORLD - checks the option frozen. A run writes the same bytes wherever the
layers of its reference and reward models are, on any number of ranks, also after interruptions.
It uses the planned memory. `auto` takes the first setting that fits. Settings that are not
possible are refused."""
import json

import common
import test_plan

MODES = ("resident", "sharded", "offload")


def args_of(bench, out, reward, *more, method="dpo", **kw):
    return bench.align_args(out, bench.base(), f"reward.model={reward}", *more, method=method, prompts=8,
                            iterations=2, **kw)


def test_same(bench, reward):
    """Runs DPO with a reference, the KL divergence from the start, a reward model and held-out
    prompts. All settings of frozen must give the same files."""
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
    """Checks a run that max_time interrupts at arbitrary points and that is resumed with other
    settings of frozen."""
    out = bench.folder / "paused"
    held = [f"data.eval={bench.world}/prompts.jsonl", "eval_every=1", "data.limit=24"]
    sessions = bench.in_sessions(*args_of(bench, out, reward, *held), ranks=(2, 4, 1) if bench.mpirun else (1,),
                                 setups=[[f"frozen={mode}"] for mode in MODES], growth=1.6)
    bench.check(sessions[-1].code == 0 and len(sessions) > 1, "was never interrupted, or has no end:", len(sessions), sessions[-1])
    bench.same_run(bench.folder / "resident-1", out, "interrupted:")


def alone_or_together(bench, name, make, worlds=(2, 4)):
    """Checks that a run writes the same bytes on one rank with frozen=resident and on several ranks with sharded layers,
    and uses the planned memory. With 4 ranks, some steps have only 3 micro-batches, so one rank has no work."""
    whole = bench.folder / f"{name}-resident"
    bench.good(*make(whole), "frozen=resident")
    for ranks in worlds if bench.mpirun else (1,):
        out = bench.folder / f"{name}-{ranks}"
        test_plan.same_as_run(bench, [*make(out), "frozen=sharded"], ranks=ranks)
        bench.same_run(whole, out, f"{name}, shares of {ranks} ranks:")
    return whole


def samples(out):
    """Returns the part of report.html with sampled answers and their rewards."""
    text = (out / "report.html").read_text()
    begin = text.index('<table class="samples">')
    return text[begin:text.index("</table>", begin)]


def test_together(bench, reward):
    """Checks runs whose ranks need a frozen model at different times: `prefer` (in micro-batches and
    on held-out pairs), selm (generates with it), real (takes its embeddings), spa (mixes its
    logits with the policy's in every optimizer step), and an adapter whose reference is a folder."""
    base = bench.base()
    few = ["global_batch_size=8", "micro_batch_size=2", "data.limit=22", "log_every=1"]
    held = [f"data.eval={bench.world}/pairs.jsonl", "eval_every=2"]

    def prefer(*more):
        return lambda out: bench.prefer_args(out, base, *few, *more, steps=5)

    def align(method, *more, group=4):
        return lambda out: bench.align_args(out, base, "report.samples=3", *more, method=method, prompts=6, group=group)
    seed = alone_or_together(bench, "prefer", prefer("method.name=dpo", *held))
    other = f"method.reference={seed}/latest"
    moved = bench.folder / "prefer-offload"
    bench.good(*prefer("method.name=dpo", *held)(moved), "frozen=offload")
    bench.same_run(seed, moved, "prefer, offload:")
    alone_or_together(bench, "prefer-lora", prefer("method.name=ipo", "lora.r=2", other, "train.shard=gradients"), (4,))
    alone_or_together(bench, "prefer-real", prefer("method.name=real", "method.keep=0.5"), (4,))
    scored = f"reward.model={reward}"
    alone_or_together(bench, "real", align("real", scored), (4,))
    whole = alone_or_together(bench, "selm", align("selm", scored))
    alone_or_together(bench, "selm-lora", align("selm", scored, "lora.r=2", other), (2,))
    alone_or_together(bench, "spa", align("spa", other, "method.decoupling=0.5", f"method.judge={seed}/latest", group=2), (4,))
    if bench.mpirun:
        bench.check(samples(whole) == samples(bench.folder / "selm-2"), "report.html: other samples")
    return {"prefer": prefer("method.name=dpo", *held), "selm": align("selm", scored)}


def test_stops(bench, jobs):
    """Checks that the same jobs, interrupted by max_time at arbitrary points, write the same
    bytes. Every second session shards the frozen layers."""
    for name, make in jobs.items():
        out = bench.folder / f"{name}-stopped"
        sessions = bench.in_sessions(*make(out), ranks=(2, 1, 4) if bench.mpirun else (1,),
                                     setups=[[f"frozen={mode}"] for mode in (MODES[1], MODES[0])], growth=1.6)
        bench.check(sessions[-1].code == 0 and len(sessions) > 2, name, "was interrupted less than twice, or has no end:",
                    len(sessions), sessions[-1])
        bench.same_run(bench.folder / f"{name}-resident", out, f"{name}, {len(sessions)} sessions:")


def test_refused(bench):
    """Checks that frozen=sharded is refused for a classifier with an adapter, and frozen for a command
    without a frozen model."""
    out, adapter = bench.folder / "never", bench.folder / "reward-lora"
    bench.good(*bench.reward_args(adapter, bench.base(), "lora.r=2", steps=1))
    args = args_of(bench, out, adapter / "latest", "frozen=sharded")
    for command in ([], ["plan"]):
        r = bench.run(*command, *args)
        bench.check(r.code == 7 and "is the adapter of a classifier" in r.err and "frozen=resident" in r.err,
                    "not refused:", r)
    r = bench.run(*bench.sft_args(out, "frozen=offload"))
    bench.check(r.code == 12 and "frozen" in r.err, "sft takes frozen:", r)
    bench.check(not out.exists(), "a refused run left its folder")


def test_auto(bench):
    """Checks frozen=auto in the plan of a model of 8 B parameters on 8 ranks: it takes the first
    setting that fits. Checks the bytes of all settings."""
    def made(memory, *more):
        return test_plan.plan_8b(bench, "dpo", f"plan.memory={memory}", "data.limit=64", "train.shard=optimizer", *more)
    need = {m: made("1TB", f"frozen={m}") for m in MODES}
    bytes_of = {m: need[m]["bytes_with_host"] for m in MODES}
    layers = 32 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336) * 2
    shares = bytes_of["resident"] - bytes_of["sharded"]
    # two layer buffers for each of two models, the reference and the reward model
    buffers = 2 * 2 * layers // 32
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
    full = ["prefer_dpo", "train.shard=gradients"]
    pairs = {m: test_plan.plan_8b(bench, *full, f"frozen={m}")["bytes_with_host"] for m in MODES[:2]}
    p = test_plan.plan_8b(bench, *full, f"plan.memory={pairs['sharded']}")
    bench.check(p["frozen"] == "sharded" and p["fits"], "prefer:", p["frozen"], pairs)
    saved = pairs["resident"] - pairs["sharded"]
    bench.check(abs(saved - (layers * 7 // 8 - buffers // 2)) < 2**25, "prefer, sharded:", saved, layers)
    one = made("1TB", "plan.world_size=1")
    bench.check(one["frozen"] == "resident" and json.dumps(one), "one rank:", one["frozen"])


def test(bench):
    reward = bench.folder / "reward" / "latest"
    bench.good(*bench.reward_args(bench.folder / "reward", bench.base(), steps=2))
    test_same(bench, reward)
    test_pause(bench, reward)
    test_stops(bench, test_together(bench, reward))
    test_refused(bench)
    test_auto(bench)


if __name__ == "__main__":
    common.main(test)
