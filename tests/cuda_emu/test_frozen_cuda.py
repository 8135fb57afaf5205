#!/usr/bin/env python3
"""test_frozen_cuda.py PLUMB WORLD - checks frozen models on emulated GPUs in bfloat16. A run
writes the same bytes with the layers on the device, in page-locked host memory, and sharded
over two ranks with an emulated NCCL. Frozen matrices have no float32 copy. The used memory is
the planned memory. frozen=auto takes the first setting that fits."""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402
import test_plan  # noqa: E402

ENV = {"PLUMB_EMU_DEVICES": "2", "ASAN_OPTIONS": "detect_leaks=0"}  # MPI itself leaks memory


def dpo(bench, name, *more):
    return [*bench.align_args(bench.folder / name, bench.base(), f"reward.model={bench.folder}/reward/latest",
                              "device=cuda", "dtype=bfloat16", "slots=8", "report.html=false", *more, method="dpo",
                              prompts=4, iterations=1, group=2), "max_new_tokens=4"]


def test(bench):
    bench.good(*bench.reward_args(bench.folder / "reward", bench.base(), "micro_batch_size=2", steps=1))
    whole = bench.folder / "resident" / "latest/model.safetensors"
    needs = {}
    for mode, ranks in (("resident", 1), ("offload", 1), ("sharded", 2)):
        args = dpo(bench, mode, f"frozen={mode}")
        needs[mode] = test_plan.same_as_run(bench, args, ranks=ranks if bench.mpirun else 1, env=ENV)
        bench.same(whole, bench.folder / mode / "latest/model.safetensors", f"frozen: {mode}")
        bench.check(common.metrics(bench.folder / mode)[0]["logprob_max_diff"] == 0, mode, "gap")
    for owner in ("reference models", "reward model"):
        wide, packed = (test_plan.held(needs["resident"], what, owner) for what in ("weights", "packed weights"))
        bench.check(wide < packed / 10, owner, "has float32 matrices:", wide, packed)
    # the forward passes of prefer, and generation with a reference
    for mode, ranks in (("resident", 1), ("sharded", 2)):
        pairs = [*bench.prefer_args(bench.folder / f"prefer-{mode}", bench.base(), "device=cuda", "dtype=bfloat16",
                                    "method.name=dpo", "global_batch_size=6", "micro_batch_size=2", "data.limit=6",
                                    f"frozen={mode}", steps=1)]
        test_plan.same_as_run(bench, pairs, ranks=ranks if bench.mpirun else 1, env=ENV)
        greedy = dpo(bench, f"selm-{mode}", "method.name=selm", f"frozen={mode}")
        test_plan.same_as_run(bench, greedy, ranks=ranks if bench.mpirun else 1, env=ENV)
        for run in ("prefer", "selm"):
            bench.same(bench.folder / f"{run}-resident" / "latest/model.safetensors",
                       bench.folder / f"{run}-{mode}" / "latest/model.safetensors", f"{run}, frozen: {mode}")
    lora = test_plan.same_as_run(bench, dpo(bench, "lora", "lora.r=2", "frozen=offload"), env=ENV)
    wide, packed = (test_plan.held(lora, what, "policy") for what in ("weights", "packed weights"))
    bench.check(wide < packed / 10, "the base of an adapter has float32 matrices:", wide, packed)
    memory = (needs["resident"]["bytes_with_host"] + needs["offload"]["bytes_with_host"]) // 2
    if needs["offload"]["bytes"] < needs["resident"]["bytes"]:
        r = bench.good(*dpo(bench, "auto"), f"plan.memory={memory}", env=ENV)
        bench.check(re.search(r"frozen models are offload", r.err), "auto:", r)
        bench.same(whole, bench.folder / "auto" / "latest/model.safetensors", "frozen: auto")


if __name__ == "__main__":
    common.main(test)
