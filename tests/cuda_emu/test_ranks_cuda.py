#!/usr/bin/env python3
"""test_ranks_cuda.py PLUMB WORLD - checks several ranks with device: cuda, each on its own emulated
GPU or two on one. SFT and an iteration of PSLE write the same bytes on any number of ranks, with
the exchange through host memory and with an emulated NCCL. If a rank stops during an exchange, the
other ranks end the run."""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402

QUIET = {"ASAN_OPTIONS": "detect_leaks=0"}  # MPI leaks memory


def gpus(n, **more):
    return {"PLUMB_EMU_DEVICES": str(n), **QUIET, **more}


def sft(bench, name, ranks, *more, devices=4):
    """Runs sft with two micro-batches per step, so that on four ranks two ranks have none. Returns
    (output folder, messages)."""
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
    """Checks that every kind of exchange gives the bytes of a run on one rank. exchanges: {value of
    comm.exchange: number of GPUs}."""
    one, _ = sft(bench, "alone", 1)
    alone = psle(bench, one / "latest", "alone", 1)
    for exchange, devices in exchanges.items():
        for ranks in (2, 4):
            what = f"{exchange}, {ranks} ranks:"
            # comm.bucket=0 makes several buckets, which are exchanged during the backward
            how = [f"comm.exchange={exchange}", "comm.bucket=0"]
            other = psle(bench, one / "latest", exchange, ranks, *how, devices=devices)
            bench.same(alone / "latest/model.safetensors", other / "latest/model.safetensors", what)
            bench.check(rollouts(alone) == rollouts(other), what, "other rollouts")
        other, said = sft(bench, exchange, 4, *how, "log_level=debug", devices=devices)
        gone = re.findall(r"(-?\d+) bytes taken by the driver since the plan", said)
        bench.check(gone == ["0"], exchange, "not warmed up before the plan:", gone)
        for name in ("model.safetensors", "trainer_state.h5"):
            bench.same(one / "latest" / name, other / "latest" / name, f"sft over {exchange}:")
    return one


def check_sharded(bench, one):
    """Checks that train.shard=gradients writes the same bytes, in float32 and bfloat16, with the
    exchange over NCCL during the backward. A replay file must have the gradient of its own
    micro-batch."""
    split = ["train.shard=gradients", "comm.bucket=0", "train.replay=2:1", "log_level=debug"]
    want = {dtype: sft(bench, dtype, 1, f"dtype={dtype}", "train.replay=2:1")[0]
            for dtype in ("float32", "bfloat16")}
    for exchange, devices, ranks, dtype in (("nccl", 4, 4, "float32"), ("nccl", 4, 4, "bfloat16"),
                                            ("mpi", 2, 2, "float32")):
        other, said = sft(bench, f"split-{exchange}-{dtype}", ranks, f"comm.exchange={exchange}",
                          f"dtype={dtype}", *split, devices=devices)
        what = f"gradients split, {exchange}, {ranks} ranks, {dtype}:"
        for name in ("latest/model.safetensors", "latest/trainer_state.h5", "replay-2-1.h5"):
            bench.same(want[dtype] / name, other / name, what)
        bench.check("warning: memory" not in said, what, "took more than planned:", said)
    alone = bench.folder / "psle-alone-1"
    other = psle(bench, one / "latest", "split", 4, *split[:2])
    bench.same(alone / "latest/model.safetensors", other / "latest/model.safetensors", "psle, split:")
    bench.check(rollouts(alone) == rollouts(other), "psle, split: other rollouts")


def check_own_order(bench, one):
    """Checks comm.reduce=nccl, in which NCCL chooses the order of additions: the metrics agree
    approximately, and a message says so."""
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
    """Checks ranks that each see a single GPU (as with srun --gpus-per-task=1): it works with different GPUs,
    and is refused if two ranks see the same one."""
    bound = bench.run("doctor", "device=cuda", ranks=3, env=gpus(3, PLUMB_EMU_BIND="1"))
    bench.check(bound.code == 0 and "nccl" in bound.out, "ranks that see one GPU each:", bound)
    shared = bench.run("doctor", "device=cuda", ranks=3, env=gpus(2, PLUMB_EMU_BIND="1"))
    bench.check(shared.code == 9 and "ranks 0 and 2 on host" in shared.err, "two ranks on one GPU:", shared)
    together = bench.run("doctor", "device=cuda", "comm.exchange=mpi", ranks=3,
                         env=gpus(2, PLUMB_EMU_BIND="1"))
    bench.check(together.code == 0, "two ranks on one GPU over MPI:", together)


def check_stopped(bench, model):
    """Checks that if a rank stops during an exchange, the others end the run with a message that names this rank and the
    collective."""
    # a slow machine may exceed a short time-out elsewhere, so the next one is tried
    for timeout in (1, 4, 16):
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
    check_sharded(bench, one)
    check_own_order(bench, one)
    check_refusals(bench)
    check_bound(bench)
    check_stopped(bench, one / "latest")


common.main(test, needs_mpi=True)
