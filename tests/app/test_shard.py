#!/usr/bin/env python3
"""test_shard.py: checks that train.shard=gradients writes the same bytes as train.shard=optimizer
on 1, 2 and 4 ranks, for training of all weights and of an adapter. Also checks checkpoints,
pauses, replay files and gradients with it, that the bytes sent are those of a formula and the
memory is that of the plan, and the setting auto."""
import json
import re
import shutil
from pathlib import Path

import common

WORLDS = (1, 2, 4)
BLOCK = 4096  # value of PLUMB_SHARD_BLOCK in src/comm/comm.h
TAKEN = re.compile(r"(\d+) bytes planned, (\d+) taken, (\d+) beside the plan, (\d+) allocations")
SHARDED = "train.shard=gradients"
SMALL = "comm.bucket=0"  # makes several buckets, although the model is small


def same(bench, a, b, what):
    """Checks that two runs have the same files in their last checkpoint, and the same metrics."""
    x, y = (common.tree(f"{out}/latest/") for out in (a, b))
    bench.check(x and x == y, what, "differ:", [k for k in x if x[k] != y.get(k)])
    x, y = ([common.timeless(r) for r in common.metrics(out)] for out in (a, b))
    bench.check(x == y, what, "metrics differ:", x, y)
    for master in sorted((Path(a) / "rollouts").glob("iteration-????.h5")):
        x, y = (common.rollout_records(Path(out) / "rollouts" / master.name) for out in (a, b))
        bench.check(x and x == y, what, master.name, "differs")


def jobs(bench):
    """Returns runs whose batches are no multiple of ranks * micro-batch, so that the last round
    of a step is not full: 7 micro-batches, and 6 in the last step."""
    base = bench.base()
    uneven = ["global_batch_size=14", "micro_batch_size=2", "log_every=1"]
    sft = ["sft", f"model={base}", f"data.train={bench.world}/sft.jsonl", "max_steps=5",
           "learning_rate=1e-3", "checkpoint.every=2", *uneven]
    reward = bench.folder / "reward"
    bench.good(*bench.reward_args(reward, base))
    align = ["global_batch_size=10", f"reward.model={reward}/latest"]
    return {
        "sft": lambda out, *more: [*sft, f"output_dir={out}", *more],
        "sft, lora": lambda out, *more: [*sft, f"output_dir={out}", "lora.r=4", *more],
        "psle": lambda out, *more: bench.align_args(out, base, *align, *more, prompts=22),
        "spa, lora": lambda out, *more: bench.align_args(
            out, base, "global_batch_size=10", "lora.r=3", "method.reference=previous", *more,
            method="spa", prompts=12, group=2),
    }


def test_bytes_of_files(bench, job):
    for name, args in job.items():
        whole = bench.folder / name.replace(", ", "-")
        bench.good(*args(whole))
        for ranks in WORLDS:
            out = bench.folder / f"{whole.name}-{ranks}"
            bench.good(*args(out, SHARDED, SMALL), ranks=ranks)
            same(bench, whole, out, f"{name}, gradients on {ranks} ranks:")


def test_sessions(bench, job):
    """Checks runs that are interrupted and resumed on other numbers of ranks, with either value
    of train.shard."""
    for name in ("sft", "psle"):
        whole, out = bench.folder / name, bench.folder / f"{name}-cut"
        setups = [["train.shard=optimizer" if i % 3 == 0 else SHARDED, *[SMALL][:i % 2]] for i in range(6)]
        sessions = bench.in_sessions(*job[name](out), ranks=WORLDS, setups=setups)
        bench.check(sessions[-1].code == 0 and len(sessions) > 1, name, "in", len(sessions), "sessions:", sessions[-1])
        same(bench, whole, out, f"{name} in {len(sessions)} sessions:")


def sent(n, ranks):
    """Returns (bytes of the reduction, bytes of the gather) that rank 0 sends for n floats: the
    reduction halves the vector again and again, the gather doubles it."""
    reduce, gather, left = 0, 0, n // BLOCK
    while ranks > 1:
        keep = -(-left // 2)
        reduce, gather, left, ranks = reduce + left - keep, gather + keep, keep, ranks // 2
    return reduce * BLOCK * 4, gather * BLOCK * 4


def test_sent(bench, job):
    """Checks comm/exchange_bytes in metrics.jsonl against the formula: one reduction of all
    gradients per round, and one gather of the weights per step."""
    def exchanged(name, ranks, *more):
        out = bench.folder / "sent"
        shutil.rmtree(out, ignore_errors=True)
        bench.good(*job[name](out, "checkpoint.every=0", *more), ranks=ranks)
        return [row["comm/exchange_bytes"] for row in common.metrics(out)]

    for name in ("sft", "sft, lora"):
        for ranks in (2, 4):
            once, rounds = exchanged(name, ranks), exchanged(name, ranks, SHARDED)
            reduce, gather = sent(floats(bench.folder / name.replace(", ", "-") / "latest"), ranks)
            bench.check(once == [reduce + gather] * 5, name, ranks, "ranks, optimizer:", once)
            each = -(-7 // ranks)
            bench.check(rounds == [each * reduce + gather] * 5, name, ranks, "ranks, gradients:",
                        rounds, "expected", each * reduce + gather)


def floats(checkpoint):
    """Returns the length of the trained vector in floats: each tensor begins at a multiple of
    64, and the length is a multiple of 4096."""
    at = 0
    raw = next(Path(checkpoint).glob("*.safetensors")).read_bytes()
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    for name, t in header.items():
        if name != "__metadata__":
            n = 1
            for d in t["shape"]:
                n *= d
            at += -(-n // 64) * 64
    return -(-at // BLOCK) * BLOCK


def plan(bench, args, *more):
    out = bench.folder / "plan.json"
    out.unlink(missing_ok=True)
    r = bench.run("plan", *args, f"output={out}", *more)
    return json.loads(out.read_text()), r


def taken(bench, args, ranks):
    """Runs the job and checks that every rank takes the planned memory. Returns these bytes,
    including those in host memory."""
    out = bench.folder / "planned"
    shutil.rmtree(out, ignore_errors=True)
    p, _ = plan(bench, args(out), f"plan.world_size={ranks}")
    ran = bench.good(*args(out, "log_level=debug"), ranks=ranks)
    rows = TAKEN.findall(ran.err)
    bench.check(len(rows) == 2 and "warning: memory" not in ran.err, ran.command, rows)
    bench.check(all(row[0] == row[1] and row[2] == "0" for row in rows), ran.command, rows)
    bench.check(len({row[3] for row in rows}) == 1, ran.command, "allocates later:", rows)
    bench.check(max(int(row[1]) for row in rows) == p["bytes"], ran.command, "planned", p["bytes"], rows)
    return p["bytes_with_host"]


def test_planned(bench, job):
    """Checks that the planned memory is taken, and that train.shard=auto decides by the plan."""
    for name in ("sft", "psle", "sft, lora"):
        need = {}
        for shard in ("optimizer", "gradients"):
            for ranks in (1, 2):
                need[shard, ranks] = taken(bench, lambda out, *more, s=shard, n=name:
                                           job[n](out, f"train.shard={s}", *more), ranks)
        taken(bench, lambda out, *more, n=name: job[n](out, SHARDED, SMALL, *more), 2)
        if "lora" in name:
            # the gradients of an adapter are smaller than the pages to which the plan rounds
            continue
        bench.check(need["gradients", 2] < need["optimizer", 2], name, "needs", need)
        between = (need["gradients", 2] + need["optimizer", 2]) // 2
        for memory, takes in ((between, "gradients"), (need["optimizer", 2], "optimizer")):
            out = bench.folder / "auto"
            shutil.rmtree(out, ignore_errors=True)
            args = job[name](out, "train.shard=auto", f"plan.memory={memory}B")
            if memory < 10_000_000:
                args[-1] = f"plan.memory={memory / 1000}kB"
            p, r = plan(bench, args, "plan.world_size=2")
            bench.check(p["fits"] and p["bytes_with_host"] == need[takes, 2], name, "auto plans", p, r)
            bench.check(f"train.shard: auto takes {takes}" in r.out, name, "auto says", r.out)
            ran = bench.good(*args, ranks=2)
            bench.check(f"train.shard: auto takes {takes}" in ran.err, name, "auto:", ran)
            same(bench, bench.folder / name.replace(", ", "-"), out, f"{name}, auto on 2 ranks:")
        less, r = plan(bench, job[name](out, f"plan.memory={between / 1000}kB"), "plan.world_size=2")
        bench.check(r.code == 4 and "train.shard=gradients alone needs" in r.out, name, "advice:", r.out)


def test_replay(bench, job):
    """Checks that either value of train.shard writes the same replay file, that replay gives the
    same bits, and that a failure is named."""
    files = []
    for ranks in WORLDS:
        for shard in ("optimizer", "gradients"):
            out = bench.folder / f"replay-{ranks}-{shard}"
            bench.good(*job["sft"](out, f"train.shard={shard}", SMALL, "train.replay=2:5"), ranks=ranks)
            files.append(out / "replay-2-5.h5")
            bench.same(files[0], files[-1], f"replay file of {ranks} ranks, {shard}:")
    r = bench.good("replay", files[-1])
    bench.check("same" in r.out + r.err, "replayed:", r)


def test_gradient(bench):
    base, first = bench.base(), None
    for ranks in WORLDS:
        for shard in ("optimizer", "gradients"):
            out = bench.folder / f"gradient-{ranks}-{shard}.safetensors"
            bench.good("gradient", f"model={base}", f"input={bench.world}/sft.jsonl", "limit=23",
                       f"output={out}", "micro_batch_size=3", f"train.shard={shard}", SMALL, ranks=ranks)
            first = first or out
            bench.same(first, out, f"gradient on {ranks} ranks, {shard}:")


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    job = jobs(bench)
    parts = {"files": lambda: test_bytes_of_files(bench, job),
             "sessions": lambda: test_sessions(bench, job), "sent": lambda: test_sent(bench, job),
             "planned": lambda: test_planned(bench, job), "replay": lambda: test_replay(bench, job),
             "gradient": lambda: test_gradient(bench)}
    for part in parts.values():
        part()


common.main(test, needs_mpi=True)
