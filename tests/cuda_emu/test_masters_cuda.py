#!/usr/bin/env python3
"""test_masters_cuda.py PLUMB WORLD - checks train.shard=gradients in bfloat16 on emulated GPUs,
where each rank holds a shard of the float32 master weights. On 1, 2 and 4 ranks, a run writes the
same files as with train.shard=optimizer: weights, trainer state, rounded weights, snapshots of
pauses, replay files. It can be resumed on other numbers of ranks and with either value of
train.shard. Other commands read its checkpoints. The memory is that of the plan, and the bytes
sent are those of a formula."""
import json
import shutil
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
import common  # noqa: E402
import test_plan  # noqa: E402

ENV = {"PLUMB_EMU_DEVICES": "4", "ASAN_OPTIONS": "detect_leaks=0"}  # MPI itself leaks memory
GPU = ["device=cuda", "dtype=bfloat16", "report.html=false"]
SHARES = ["train.shard=gradients", "comm.bucket=0"]
BLOCK = 4096  # value of PLUMB_SHARD_BLOCK in src/comm/comm.h


def same(bench, a, b, what):
    """Checks that two runs have the same files in their last checkpoint, and the same metrics."""
    x, y = (common.tree(f"{out}/latest/") for out in (a, b))
    bench.check(x and x == y, what, "differ:", [k for k in x if x[k] != y.get(k)])
    x, y = ([common.timeless(r) for r in common.metrics(out)] for out in (a, b))
    bench.check(x == y, what, "metrics differ:", x, y)


def few(bench, out, *more):
    """Returns the arguments of sft from random weights with three micro-batches per step, so
    that the last round of a step is not full."""
    return [*bench.sft_args(out, *GPU, "global_batch_size=6", "micro_batch_size=2", "log_every=1", *more, steps=2)]


def spa(bench, out, *more):
    """Returns the arguments of one iteration of spa with several steps. Its reference is a
    snapshot of the policy at the start of the iteration."""
    return [*bench.align_args(out, bench.base(), *GPU, "method.reference=previous", "slots=8", *more, method="spa",
                              prompts=8, iterations=1, group=2), "max_new_tokens=4", "global_batch_size=4"]


def jobs_of(bench):
    """Returns {name: (function that maps an output folder and options to arguments, [(ranks, exchange)
    of the runs with train.shard=gradients])}."""
    both = ((2, "mpi"), (4, "nccl"))
    return {"sft": (lambda out, *more: few(bench, out, *more), ((1, "auto"), *both)),
            "rounded": (lambda out, *more: few(bench, out, "checkpoint.dtype=bfloat16", "checkpoint.every=1",
                                                   "checkpoint.keep_last=0", "train.replay=2:1", *more), both),
            "reward": (lambda out, *more: [*bench.reward_args(out, bench.base(), *GPU, *more, steps=2),
                                           "global_batch_size=6", "micro_batch_size=2"], both[1:]),
            "spa": (lambda out, *more: spa(bench, out, *more), ((1, "auto"), *both))}


def check_bytes(bench, jobs):
    seconds = {}
    for name, (args, worlds) in jobs.items():
        whole = bench.folder / name
        bench.good(*args(whole), env=ENV)
        for ranks, exchange in worlds:
            out = bench.folder / f"{name}-{ranks}"
            ran = bench.good(*args(out, *SHARES, f"comm.exchange={exchange}"), ranks=ranks, env=ENV)
            seconds[name, ranks] = ran.seconds
            same(bench, whole, out, f"{name}, shares on {ranks} ranks:")
    return seconds


def check_moved(bench, args, whole, shared):
    """Checks resumes of a sharded run of 4 ranks on one rank without shards, and of an unsharded run
    of one rank on 2 ranks with shards. whole, shared: the uninterrupted runs on one rank and on 4
    ranks."""
    for start, ranks, how in ((shared, 1, ["train.shard=optimizer"]), (whole, 2, SHARES)):
        out = common.rewind(start, bench.folder / f"{start.name}-on-{ranks}", 1)
        bench.good(*args(out, "resume=auto", *how), ranks=ranks, env=ENV)
        same(bench, whole, out, f"{start.name}, resumed on {ranks} ranks:")


def check_adapter(bench):
    """Checks training of an adapter on the weights that rank 0 gathered from the shards of 4
    ranks."""
    base = bench.folder / "sft-4/latest"

    def args(out, *more):
        return few(bench, out, f"model={base}", "train.init=checkpoint", "lora.r=2", "checkpoint.every=1",
                   "checkpoint.keep_last=0", *more)
    whole, shared = bench.folder / "adapter", bench.folder / "adapter-4"
    bench.good(*args(whole), env=ENV)
    bench.good(*args(shared, *SHARES), ranks=4, env=ENV)
    same(bench, whole, shared, "adapter, shares on 4 ranks:")
    check_moved(bench, args, whole, shared)


def check_readers(bench):
    """Checks that merge, generate, score and eval can read the checkpoints of sharded runs."""
    merged, prompts, answers = (bench.folder / name for name in ("merged", "few.jsonl", "answers.jsonl"))
    prompts.write_text("".join(f'{{"prompt": "ask: {word}."}}\n' for word in ("hi", "why")))
    bench.good("merge", f"model={bench.folder}/adapter-4/latest", f"output={merged}")
    models = {"whole": bench.folder / "sft/latest", "shares": bench.folder / "sft-4/latest",
              "rounded": bench.folder / "rounded-4/latest", "merged": merged}
    said = bench.good("generate", f"model={models['shares']}", f"prompts={prompts}", "max_new_tokens=4")
    answers.write_text(said.out)
    scores = bench.good("score", f"model={bench.folder}/reward-4/latest", f"input={answers}").lines()
    bench.check(len(scores) == 2 and all("score" in line for line in scores), "score:", scores)
    bench.good("eval", "eval.models=" + ",".join(f"{name}={model}" for name, model in models.items()), f"data.eval={prompts}",
               f"reward.model={bench.folder}/reward-4/latest", "max_new_tokens=4", f"output_dir={bench.folder}/eval")
    rows = {row["name"]: row for row in json.loads((bench.folder / "eval/eval.json").read_text())["models"]}
    bench.check(rows.keys() == models.keys() and rows["whole"]["reward"] == rows["shares"]["reward"], "eval:", rows)
    changed = weights(merged) != weights(models["shares"])
    bench.check(changed and weights(models["whole"]) == weights(models["shares"]), "the adapter changed nothing")


def weights(model):
    return common.digest(model / "model.safetensors")


def check_replay(bench):
    """Checks train.replay, which gathers the weights from all ranks: the replay file, the weights beside it,
    and that replay gives the same bits."""
    for ranks in (2, 4):
        for name in ("replay-2-1.h5", "replay-2"):
            a, b = (bench.folder / run / name for run in ("rounded", f"rounded-{ranks}"))
            bench.check(a.exists() and b.exists(), name, "is missing")
            bench.check(common.tree(a) == common.tree(b) if a.is_dir() else common.digest(a) == common.digest(b), name,
                        "differs on", ranks, "ranks")
    r = bench.good("replay", bench.folder / "rounded-4/replay-2-1.h5", *GPU[:2], env=ENV)
    bench.check([line["same_bits"] for line in r.lines() if "same_bits" in line] == [True] * 4, "replayed:", r)


def check_resumed(bench, jobs, seconds):
    """Checks resumes on other numbers of ranks: from checkpoints with rounded weights (and separate
    masters), and from pauses within an iteration, whose files contain the snapshot of the policy."""
    check_moved(bench, jobs["rounded"][0], bench.folder / "rounded", bench.folder / "rounded-4")
    args, out = jobs["spa"][0], bench.folder / "spa-cut"
    for share, ranks in ((0.5, 2), (0.7, 4), (0.9, 2)):
        r = bench.run(*args(out, "resume=auto", *SHARES, f"train.max_time={share * seconds['spa', ranks]:.3f}"), ranks=ranks,
                      env=ENV)
        bench.check(r.code in (0, 99), "spa, a session:", r)
    bench.good(*args(out, "resume=auto", "train.shard=optimizer"), env=ENV)
    same(bench, bench.folder / "spa", out, "spa in sessions:")


def floats(checkpoint):
    """Returns (padded length of the trained vector, padded length of its one-dimensional
    tensors), in floats."""
    raw = next(Path(checkpoint).glob("*.safetensors")).read_bytes()
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    sizes = [0, 0]
    for t in (v for k, v in header.items() if k != "__metadata__"):
        n = 1
        for d in t["shape"]:
            n *= d
        sizes[0] += -(-n // 64) * 64
        sizes[1] += -(-n // 64) * 64 if len(t["shape"]) == 1 else 0
    return [-(-n // BLOCK) * BLOCK for n in sizes]


def sent(n, ranks):
    """Returns (elements of the reduction, elements of the gather) that rank 0 sends for n
    elements: the reduction halves the vector again and again, the gather doubles it."""
    reduce, gather, left = 0, 0, n // BLOCK
    while ranks > 1:
        keep = -(-left // 2)
        reduce, gather, left, ranks = reduce + left - keep, gather + keep, keep, ranks // 2
    return reduce * BLOCK, gather * BLOCK


def check_memory(bench, jobs):
    """Checks that the planned memory is used, that a rank holds a shard of the masters, and that the
    gather sends weights of 2 bytes. With a single bucket, the shards are those of the whole
    vector."""
    one = ["train.shard=gradients"]
    whole, vectors = floats(bench.folder / "sft/latest")
    for ranks in (2, 4):
        out = bench.folder / f"planned-{ranks}"
        p = test_plan.same_as_run(bench, jobs["sft"][0](out, *one, "checkpoint.every=0"), ranks=ranks, env=ENV)
        masters = test_plan.held(p, "master weights")
        most = -(-whole // BLOCK // ranks) * BLOCK * 4
        bench.check(most <= masters <= most + test_plan.GUARD, ranks, "ranks, masters:", masters, "expected", most)
        bench.check(test_plan.held(p, "weights", "policy") <= 4 * vectors + test_plan.GUARD, "whole float32 weights:", p)
        packed = test_plan.held(p, "packed weights", "policy")
        bench.check(2 * whole <= packed <= 2 * whole + test_plan.GUARD, "bfloat16 weights:", packed)
        (reduce, gather), small = sent(whole, ranks), sum(sent(vectors, ranks))
        want = -(-3 // ranks) * 4 * reduce + 2 * gather + 4 * small
        got = [row["comm/exchange_bytes"] for row in common.metrics(out)]
        # the first step also counts the warm-up
        bench.check(got[1] == want <= got[0], ranks, "ranks sent", got, "expected", want)
    test_plan.same_as_run(bench, jobs["spa"][0](bench.folder / "planned-spa", *SHARES), ranks=2, env=ENV)
    need = {how: test_plan.plan(bench, jobs["sft"][0](bench.folder / "unused", f"train.shard={how}"), "plan.world_size=2",
                                env=ENV)["bytes_with_host"] for how in ("optimizer", "gradients")}
    memory = sum(need.values()) // 2
    r = bench.good(*jobs["sft"][0](bench.folder / "auto", "train.shard=auto", f"plan.memory={memory / 1000}kB"), ranks=2,
                   env=ENV)
    bench.check("train.shard: auto takes gradients" in r.err, "auto:", r)
    same(bench, bench.folder / "sft", bench.folder / "auto", "auto:")


def broken(bench):
    """Returns a copy of the base model in which one weight is not finite."""
    model, name = bench.folder / "broken", "model.layers.1.mlp.up_proj.weight"
    shutil.copytree(bench.base(), model)
    path = model / "model.safetensors"
    raw = bytearray(path.read_bytes())
    size = int.from_bytes(raw[:8], "little")
    at = 8 + size + json.loads(raw[8:8 + size])[name]["data_offsets"][0]
    raw[at:at + 4] = struct.pack("<f", float("inf"))
    path.write_bytes(raw)
    return model


def check_failure(bench):
    """Checks a loss that is not finite: the replay file, and the weights beside it, which are
    gathered from all ranks."""
    model, out = broken(bench), {}
    for ranks, how in ((1, ["train.shard=optimizer"]), (2, SHARES)):
        out[ranks] = bench.folder / f"failed-{ranks}"
        r = bench.run(*bench.reward_args(out[ranks], model, *GPU, *how, steps=1), "global_batch_size=6",
                      "micro_batch_size=2", ranks=ranks, env=ENV)
        bench.check(r.code != 0 and "replay-1-0.h5" in r.err, "failed:", r)
    for name in ("replay-1-0.h5", "replay-1"):
        a, b = out[1] / name, out[2] / name
        bench.check(a.exists() and b.exists(), name, "is missing")
        bench.check(common.tree(a) == common.tree(b) if a.is_dir() else common.digest(a) == common.digest(b), name,
                    "differs")


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    jobs = jobs_of(bench)
    seconds = check_bytes(bench, jobs)
    check_memory(bench, jobs)
    check_failure(bench)
    check_replay(bench)
    check_adapter(bench)
    check_readers(bench)
    check_resumed(bench, jobs, seconds)


common.main(test, needs_mpi=True)
