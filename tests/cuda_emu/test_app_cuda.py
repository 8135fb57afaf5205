#!/usr/bin/env python3
"""test_app_cuda.py PLUMB WORLD - the whole program on device: cuda, its GPU an emulated one: SFT, a
reward model and an iteration of PSLE follow the CPU's, the log-probs of sampling and training are
the same bits, and the order of threads changes no byte."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402
import test_plan  # noqa: E402


def small(bench, device, order):
    """The three runs on one device; returns their folders."""
    env = {"PLUMB_EMU_SEED": str(order)}
    name = f"{device}-{order}"
    sft, reward, psle = (bench.folder / f"{name}-{k}" for k in ("sft", "reward", "psle"))
    few = [f"device={device}", "global_batch_size=4", "micro_batch_size=2", "log_every=1"]
    bench.good(*bench.sft_args(sft, *few, steps=2), env=env, timeout=200)
    bench.good(*bench.reward_args(reward, sft / "latest", *few, steps=1), env=env, timeout=200)
    args = bench.align_args(psle, sft / "latest", f"reward.model={reward / 'latest'}",
                            f"device={device}", iterations=1, prompts=2, group=2)
    bench.good(*args, "max_new_tokens=6", "slots=4", "global_batch_size=2", env=env, timeout=200)
    return sft, reward, psle


def test(bench):
    cpu, first, second = small(bench, "cpu", 1), small(bench, "cuda", 1), small(bench, "cuda", 2)
    for a, b in zip(first, second):
        bench.same(a / "latest/model.safetensors", b / "latest/model.safetensors", "two orders:")
    # the other states name the folders that they began with
    bench.same(first[0] / "latest/trainer_state.h5", second[0] / "latest/trainer_state.h5", "sft:")
    for a, b in zip(cpu[:2], first[:2]):
        x, y = common.metrics(a), common.metrics(b)
        bench.check(len(x) == len(y) > 0, "rows of metrics", len(x), len(y))
        for p, q in zip(x, y):
            for key in ("loss", "grad_norm"):
                bench.check(abs(p[key] - q[key]) <= 1e-4 * abs(p[key]) + 1e-6, key, "on the CPU",
                            p[key], "and on the GPU", q[key])
    rows = common.metrics(first[2])
    gap = [row.get("logprob_max_diff") for row in rows]
    bench.check(gap == [0], "log-probs of sampling and training differ by", gap)
    again = bench.align_args(bench.folder / "planned", cpu[0] / "latest", "device=cuda",
                             f"reward.model={cpu[1] / 'latest'}", iterations=1, prompts=2, group=2)
    test_plan.same_as_run(bench, [*again, "max_new_tokens=6", "slots=4", "global_batch_size=2"])
    refused = bench.run("doctor", "device=cuda", env={"PLUMB_EMU_DEVICES": "0"})
    bench.check(refused.code == 9 and "finds no GPU" in refused.err, "without a GPU:", refused)


common.main(test)
