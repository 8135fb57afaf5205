#!/usr/bin/env python3
"""test_ranks_cuda.py PLUMB WORLD - several ranks on device: cuda, each with an emulated GPU or two
on one: SFT and an iteration of PSLE write the same bytes for every rank count, over host memory
and over an emulated NCCL; a rank that stops inside of an exchange takes the others down."""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402

QUIET = {"ASAN_OPTIONS": "detect_leaks=0"}  # MPI's own


def gpus(n, **more):
    return {"PLUMB_EMU_DEVICES": str(n), **QUIET, **more}


def sft(bench, name, ranks, *more, devices=4):
    """Two leaves a step: on four ranks two bring nothing to the sum."""
    out = bench.folder / f"sft-{name}-{ranks}"
    few = ["device=cuda", "global_batch_size=4", "micro_batch_size=2", "log_every=1", *more]
    said = bench.good(*bench.sft_args(out, *few, steps=2), env=gpus(devices), ranks=ranks).err
    return out, said


def psle(bench, model, name, ranks, *more, devices=4):
    out = bench.folder / f"psle-{name}-{ranks}"
    args = bench.align_args(out, model, "device=cuda", "reward.functions=[{name: length, target: 3}]",
                            *more, iterations=1, prompts=4, group=2)
    bench.good(*args, "max_new_tokens=6", "slots=4", "global_batch_size=4", "micro_batch_size=1",
               env=gpus(devices), ranks=ranks)
    return out


def rollouts(out):
    return common.rollout_records(next(p for p in out.glob("rollouts/*") if "rank" not in p.name))


def check_world_sizes(bench, exchanges):
    """The same bytes over each of these ways as from one rank alone. {way: GPUs}"""
    one, _ = sft(bench, "alone", 1)
    alone = psle(bench, one / "latest", "alone", 1)
    for exchange, devices in exchanges.items():
        for ranks in (2, 4):
            what = f"{exchange}, {ranks} ranks:"
            how = [f"comm.exchange={exchange}", "comm.bucket=0"]  # beside the backward
            other = psle(bench, one / "latest", exchange, ranks, *how, devices=devices)
            bench.same(alone / "latest/model.safetensors", other / "latest/model.safetensors", what)
            bench.check(rollouts(alone) == rollouts(other), what, "other rollouts")
        other, said = sft(bench, exchange, 4, *how, "log_level=debug", devices=devices)
        gone = re.findall(r"(-?\d+) bytes taken by the driver since the plan", said)
        bench.check(gone == ["0"], exchange, "not warmed up before the plan:", gone)
        for name in ("model.safetensors", "trainer_state.h5"):
            bench.same(one / "latest" / name, other / "latest" / name, f"sft over {exchange}:")
    return one


def check_own_order(bench, one):
    """NCCL's own sums: close, and not passed off as the same."""
    other, said = sft(bench, "own", 4, "comm.reduce=nccl")
    bench.check("order of its own" in said, "comm.reduce: nccl is not mentioned:", said)
    rows = zip(common.metrics(one), common.metrics(other))
    for a, b in rows:
        for key in ("loss", "grad_norm"):
            bench.check(abs(a[key] - b[key]) <= 1e-5 * abs(a[key]), key, a[key], "in NCCL's order",
                        b[key])


def check_refusals(bench):
    for args, ranks, code, words in (
            (["device=cuda"], 3, 9, ["ranks 0 and 2 on host", "the same GPU (GPU-01", "comm.exchange: mpi"]),
            (["comm.reduce=nccl"], 1, 12, ["needs device: cuda"]),
            (["device=cuda", "comm.reduce=nccl", "comm.exchange=mpi"], 1, 12, ["leave one"])):
        refused = bench.run("doctor", *args, ranks=ranks, env=gpus(2))
        bench.check(refused.code == code and all(w in refused.err for w in words), *args, refused)


def check_bound(bench):
    """Each rank sees one GPU (srun --gpus-per-task=1): a GPU of its own works, a shared one does not."""
    bound = bench.run("doctor", "device=cuda", ranks=3, env=gpus(3, PLUMB_EMU_BIND="1"))
    bench.check(bound.code == 0 and "nccl" in bound.out, "ranks that see one GPU each:", bound)
    shared = bench.run("doctor", "device=cuda", ranks=3, env=gpus(2, PLUMB_EMU_BIND="1"))
    bench.check(shared.code == 9 and "ranks 0 and 2 on host" in shared.err, "two ranks on one GPU:", shared)
    together = bench.run("doctor", "device=cuda", "comm.exchange=mpi", ranks=3,
                         env=gpus(2, PLUMB_EMU_BIND="1"))
    bench.check(together.code == 0, "two ranks on one GPU over MPI:", together)


def check_stopped(bench, model):
    """A rank that stops inside of an exchange: the others end the run, and say who and where."""
    for timeout in (1, 4, 16): # a machine that is too slow for one may do for the next
        args = bench.sft_args(bench.folder / f"stopped-{timeout}", "device=cuda",
                              "global_batch_size=4", "micro_batch_size=1",
                              f"comm.timeout={timeout}", steps=4)
        run = bench.run(*args, ranks=4, env=gpus(4, PLUMB_EMU_NCCL="2:stop:5"))
        good = run.code not in (0, None) and run.seconds < 20 * timeout and \
            "from rank 2 on" in run.err and "inside reduce_tree" in run.err
        if good:
            break
    bench.check(good, "a rank stopped:", run)


def test(bench):
    one = check_world_sizes(bench, {"mpi": 2, "nccl": 4})
    check_own_order(bench, one)
    check_refusals(bench)
    check_bound(bench)
    check_stopped(bench, one / "latest")


common.main(test, needs_mpi=True)
