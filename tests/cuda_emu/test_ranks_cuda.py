#!/usr/bin/env python3
"""test_ranks_cuda.py PLUMB WORLD - several ranks on device: cuda, each with an emulated GPU or two
on one: SFT and an iteration of PSLE write the same bytes for every rank count."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402

QUIET = {"ASAN_OPTIONS": "detect_leaks=0"}  # MPI's own


def gpus(n, **more):
    return {"PLUMB_EMU_DEVICES": str(n), **QUIET, **more}


def sft(bench, name, ranks, devices, *more):
    """Two leaves a step: on four ranks two bring nothing to the sum."""
    out = bench.folder / f"sft-{name}-{ranks}"
    few = ["device=cuda", "global_batch_size=4", "micro_batch_size=2", "log_every=1", *more]
    bench.good(*bench.sft_args(out, *few, steps=2), env=gpus(devices), ranks=ranks, timeout=100)
    return out


def psle(bench, model, name, ranks, devices, *more):
    out = bench.folder / f"psle-{name}-{ranks}"
    args = bench.align_args(out, model, "device=cuda", "reward.functions=[{name: length, target: 3}]",
                            *more, iterations=1, prompts=4, group=2)
    bench.good(*args, "max_new_tokens=6", "slots=4", "global_batch_size=4", "micro_batch_size=1",
               env=gpus(devices), ranks=ranks, timeout=100)
    return out


def rollouts(out):
    return common.rollout_records(next(p for p in out.glob("rollouts/*") if "rank" not in p.name))


def check_world_sizes(bench, exchange, devices):
    """The same bytes over this way, on as many GPUs, as from one rank alone."""
    one = sft(bench, "alone", 1, 1) / "latest"
    alone = psle(bench, one, "alone", 1, 1)
    how = f"comm.exchange={exchange}"
    for ranks in (2, 4):
        what = f"{exchange}, {ranks} ranks:"
        other = sft(bench, exchange, ranks, devices, how) / "latest"
        for name in ("model.safetensors", "trainer_state.h5"):
            bench.same(one / name, other / name, what)
        other = psle(bench, one, exchange, ranks, devices, how)
        bench.same(alone / "latest/model.safetensors", other / "latest/model.safetensors", what)
        bench.check(rollouts(alone) == rollouts(other), what, "other rollouts")


def check_refusal(bench):
    refused = bench.run("doctor", "device=cuda", ranks=3, env=gpus(2))
    bench.check(refused.code == 9 and "3 ranks on this host, which has 2 GPUs" in refused.err and
                "comm.exchange: mpi" in refused.err, "too many ranks:", refused)


def test(bench):
    check_world_sizes(bench, "mpi", 2)
    check_refusal(bench)


common.main(test, needs_mpi=True)
