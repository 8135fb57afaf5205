#!/usr/bin/env python3
"""test_methods_cuda.py PLUMB WORLD [all] - checks, with device: cuda on an emulated GPU, the methods that do more than
score new answers. Answers, rewards, losses and gradients agree with the CPU; the log-probs of sampling and training
have the same bits. Some methods also run on two GPUs with another order of threads, and must write the same bytes.
With the argument `all`, every method runs, and the used memory must be the planned memory."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402
import test_plan  # noqa: E402

ALL = sys.argv[3:] == ["all"]
del sys.argv[3:]

REWARD = "reward.functions=[{name: regex, pattern: '[a-h]', target: 40}]"
# method: (options, number of iterations)
METHODS = {
    "spa": (["method.judge={other}", "method.reference={other}", "noise_start=0", "noise_share=0.3"], 1),
    "real": (["{reward}", "method.reference={other}"], 1),
    "optune": (["{reward}", "method.renew=0.5"], 2),
    "selm": (["{reward}", "method.reference={other}", "optimism=1"], 1),
    "dlma": (["method.principles={kind}", "method.contrary={rude}"], 1),
    "vcb": (["{reward}", "method.reference={other}"], 1),
}
PARTED = METHODS if ALL else ("spa", "selm")
FIGURES = ("loss", "grad_norm", "reward", "rewards/margins", "kl", "spa/share_doubted")


def args_of(bench, name, out, device):
    sets, iterations = METHODS[name]
    few = ["max_new_tokens=4", "slots=8", "global_batch_size=4", "micro_batch_size=2"]
    args = bench.align_args(out, bench.named["base"], f"device={device}", *(s.format(**bench.named) for s in sets), method=name,
                            iterations=iterations, prompts=4, group=3 if name == "real" else 2)
    return [*args, *few]


def near(a, b):
    return a == b or (None not in (a, b) and abs(a - b) <= 1e-4 * max(abs(a), 1e-2))


def follows(bench, name, cpu, gpu):
    rows = list(zip(common.metrics(cpu), common.metrics(gpu)))
    bench.check(len(rows) == METHODS[name][1], name, len(rows), "rows of metrics")
    for a, b in rows:
        unlike = {k: (a.get(k), b.get(k)) for k in FIGURES if not near(a.get(k), b.get(k))}
        bench.check(not unlike, name, "is away from the CPU:", unlike)
        bench.check(b["logprob_max_diff"] == 0, name, "sampling and training differ by", b["logprob_max_diff"])
    bench.check(rows[0][1]["loss"] and rows[0][1]["grad_norm"] > 0, name, "had no term in the loss")
    for iteration in range(1, len(rows) + 1):
        a, b = ([(x["record"], x["ids"]) for x in common.rollout_answers(out, iteration)] for out in (cpu, gpu))
        bench.check(a == b, name, "iteration", iteration, "other answers than the CPU's")


def check_method(bench, name):
    cpu, one, two = (bench.folder / f"{name}-{k}" for k in ("cpu", "one", "two"))
    bench.good(*args_of(bench, name, cpu, "cpu"))
    args, env = args_of(bench, name, one, "cuda"), {"PLUMB_EMU_SEED": "1"}
    if ALL:
        test_plan.same_as_run(bench, args, env=env)
    else:
        bench.good(*args, env=env)
    follows(bench, name, cpu, one)
    if bench.mpirun and name in PARTED:
        # MPI leaks memory
        env = {"PLUMB_EMU_SEED": "2", "PLUMB_EMU_DEVICES": "2", "ASAN_OPTIONS": "detect_leaks=0"}
        bench.good(*args_of(bench, name, two, "cuda"), ranks=2, env=env)
        bench.same(one / "latest/model.safetensors", two / "latest/model.safetensors", f"{name} on 1 and 2 ranks:")
        for master in sorted(p.name for p in (one / "rollouts").glob("iteration-????.h5")):
            a, b = (common.rollout_records(out / "rollouts" / master) for out in (one, two))
            bench.check(a == b, name, master, "differs on 2 ranks:", [k for k in a if a[k] != b[k]])


def test(bench):
    base = bench.base()
    texts = {"kind": "be kind.\n", "rude": "be rude.\n"}
    for name, text in texts.items():
        (bench.folder / name).write_text(text)
    bench.named = {"base": base, "reward": REWARD, **{name: bench.folder / name for name in texts}}
    out = bench.folder / "other"
    bench.good(*bench.sft_args(out, f"model={base}", "train.init=checkpoint", steps=3))
    bench.named["other"] = out / "latest"
    for name in METHODS:
        check_method(bench, name)


common.main(test)
