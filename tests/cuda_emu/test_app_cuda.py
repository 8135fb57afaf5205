#!/usr/bin/env python3
"""test_app_cuda.py PLUMB WORLD - checks the program with device: cuda on an emulated GPU. SFT, a
reward model and an iteration of PSLE agree with the CPU; in bfloat16, they agree up to its
rounding. The log-probs of sampling and training have the same bits. The order of threads changes
no byte. The memory is that of the plan."""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402
import test_plan  # noqa: E402


def psle_args(bench, out, sft, reward, *more):
    args = bench.align_args(out, sft / "latest", f"reward.model={reward / 'latest'}", *more,
                            iterations=1, prompts=2, group=2)
    return [*args, "max_new_tokens=6", "slots=4", "global_batch_size=2"]


def small(bench, device, order, dtype="float32"):
    """Runs SFT, reward model and PSLE on one device, with `order` as seed of the emulator.
    Returns the output folders."""
    env = {"PLUMB_EMU_SEED": str(order)}
    name = f"{device}-{dtype}-{order}"
    sft, reward, psle = (bench.folder / f"{name}-{k}" for k in ("sft", "reward", "psle"))
    few = [f"device={device}", f"dtype={dtype}", "global_batch_size=4", "micro_batch_size=2", "log_every=1"]
    bench.good(*bench.sft_args(sft, *few, steps=2), env=env)
    bench.good(*bench.reward_args(reward, sft / "latest", *few, steps=1), env=env)
    args = psle_args(bench, psle, sft, reward, f"device={device}", f"dtype={dtype}")
    bench.good(*args, env=env)
    return sft, reward, psle


def follows(bench, a, b, what, within):
    """Checks that loss and gradient norm of run b agree with those of run a within the relative tolerance
    `within`. Returns the largest relative difference."""
    x, y = common.metrics(a), common.metrics(b)
    bench.check(len(x) == len(y) > 0, "rows of metrics", len(x), len(y))
    far = [abs(p[key] - q[key]) / abs(p[key]) for p, q in zip(x, y) for key in ("loss", "grad_norm")]
    bench.check(max(far) <= within, what, "is away from the CPU by", far)
    return max(far)


def test_bfloat16(bench, cpu):
    runs = small(bench, "cuda", 3, "bfloat16")
    for a, b in zip(cpu[:2], runs):
        far = follows(bench, a, b, "bfloat16", 2e-2)
        bench.check(far > 1e-4, "that was float32:", far)
    gap = [row.get("logprob_max_diff") for row in common.metrics(runs[2])]
    bench.check(gap == [0], "bfloat16: log-probs of sampling and training differ by", gap)
    again = bench.folder / "bfloat16-again"
    args = psle_args(bench, again, runs[0], runs[1], "device=cuda", "dtype=bfloat16")
    test_plan.same_as_run(bench, args, env={"PLUMB_EMU_SEED": "4"})
    bench.same(runs[2] / "latest/model.safetensors", again / "latest/model.safetensors",
               "bfloat16, two orders:")
    refused = bench.run("doctor", "device=cpu", "dtype=bfloat16")
    bench.check(refused.code != 0 and "is not supported on device: cpu; use device: cuda" in
                refused.err, "bfloat16 on the CPU:", refused)


def classes_of(run):
    return json.loads((run / "run.json").read_text())["sessions"][-1]["gemm_classes"]


def test_pins(bench):
    """Checks the file of selected GEMM algorithms (option pins). It is read, and written again with the
    same bytes. A damaged file is not used. A resumed run selects the algorithm classes of its
    checkpoint, or names the products for which it cannot."""
    pins, few = bench.folder / "pins.txt", ["device=cuda", "global_batch_size=2", "micro_batch_size=2",
                                            "checkpoint.every=1"]
    runs = [bench.folder / f"pins-{i}" for i in range(5)]

    def sft(i, *more, **env):
        return bench.good(*bench.sft_args(runs[i], *few, *more, steps=2), env=env)
    sft(0, f"pins={pins}")
    text = pins.read_text()
    sft(1, f"pins={pins}")
    bench.check(text.startswith("plumb pins 2") and text == pins.read_text(), "pins:", text)
    pins.write_text(text[:len(text) // 2])
    damaged = bench.good("doctor", "device=cuda", f"pins={pins}")
    bench.check("is not used: the file is damaged" in damaged.err, "no warning:", damaged)
    bench.same(runs[0] / "latest/model.safetensors", runs[1] / "latest/model.safetensors", "pins:")

    first, resume = classes_of(runs[0]), f"resume={runs[0]}/checkpoint-1"
    bench.check(any(c.startswith("forward, float32 to float32, ") for c in first), "classes:", first)
    state = (runs[0] / "latest/trainer_state.h5").read_bytes()
    bench.check(all(c.encode() in state for c in first), "the checkpoint has no classes")
    # the emulated times then make another class of algorithms the fastest
    other = {"PLUMB_EMU_GEMM": "other"}
    sft(2, f"pins={bench.folder}/pins-2.txt", **other)
    bench.check(classes_of(runs[2]) != first, "the emulator's times change no class")
    sft(3, f"pins={bench.folder}/pins-2.txt", resume, **other)
    bench.check(classes_of(runs[3]) == first, "resumed:", classes_of(runs[3]), "expected", first)
    bench.same(runs[0] / "latest/model.safetensors", runs[3] / "latest/model.safetensors", "resumed:")
    alone = sft(4, f"pins={bench.folder}/pins-4.txt", resume, PLUMB_EMU_GEMM="alone")
    bench.check("gives the bits of the checkpoint for the product 'forward, float32" in alone.err,
                "no warning of other bits:", alone)


def test_offload(bench, sft):
    """Checks train.offload_moments: it needs less device memory, and the files have the same bytes, also after
    a resume."""
    few = ["device=cuda", "global_batch_size=4", "micro_batch_size=2", "log_every=1"]
    more = ["offload_moments=true", "checkpoint.every=1"]
    there, resumed = bench.folder / "offloaded", bench.folder / "offloaded-resumed"
    less = test_plan.same_as_run(bench, bench.sft_args(there, *few, *more, steps=2))
    args = bench.sft_args(resumed, *few, *more, f"resume={there}/checkpoint-1", steps=2)
    bench.good(*args)
    for run in (there, resumed):
        for name in ("model.safetensors", "trainer_state.h5"):
            bench.same(run / "latest" / name, sft / "latest" / name, "moments on the host:")
    here = test_plan.plan(bench, bench.sft_args(there, *few))
    moments = test_plan.held(here, "first moments") + test_plan.held(here, "second moments")
    pieces = test_plan.held(less, "piece of the moments")
    bench.check(less["bytes"] == here["bytes"] - moments + pieces, "planned:", less, here)


def test_8b(bench):
    """Checks that two unchanged files of configs/8b fit into GPUs of 141 GB and compute in bfloat16."""
    for name in ("psle", "prefer_dpo"):
        p = test_plan.plan_8b(bench, name, "plan.memory=141GB")
        bench.check(p["fits"] and p["largest_micro_batch_size"] >= 8, name, "does not fit:", p["bytes"],
                    "largest micro-batch", p["largest_micro_batch_size"])
        packed, weights = (test_plan.held(p, what, "policy") for what in ("packed weights", "weights"))
        if name == "psle": # psle trains an adapter, so its base model has no float32 matrices
            bench.check(weights < packed / 100, name, "has float32 matrices:", p["rows"])
        else:
            bench.check(0.9 * weights < 2 * packed < weights, name, "is not in bfloat16:", p["rows"])


def test(bench):
    cpu, first, second = small(bench, "cpu", 1), small(bench, "cuda", 1), small(bench, "cuda", 2)
    for a, b in zip(first, second):
        bench.same(a / "latest/model.safetensors", b / "latest/model.safetensors", "two orders:")
    # the trainer states of the other runs contain paths, which differ
    bench.same(first[0] / "latest/trainer_state.h5", second[0] / "latest/trainer_state.h5", "sft:")
    for a, b in zip(cpu[:2], first):
        follows(bench, a, b, "the GPU", 1e-4)
    test_bfloat16(bench, cpu)
    rows = common.metrics(first[2])
    gap = [row.get("logprob_max_diff") for row in rows]
    bench.check(gap == [0], "log-probs of sampling and training differ by", gap)
    test_offload(bench, first[0])
    test_pins(bench)
    test_8b(bench)
    refused = bench.run("doctor", "device=cuda", env={"PLUMB_EMU_DEVICES": "0"})
    bench.check(refused.code == 9 and "finds no GPU" in refused.err, "without a GPU:", refused)


common.main(test)
