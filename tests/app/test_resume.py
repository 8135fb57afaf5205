#!/usr/bin/env python3
"""test_resume.py: a run that was killed goes on to the very files of the run that was not."""
import shutil
import signal
import sys
import time

import common

STEPS = (2, 4, 6)  # of the checkpoints: 3 iterations of 16 prompts, 8 to a step

# Slow enough that a kill finds the run in the middle.
REWARD = """import json, sys, time
for line in sys.stdin:
    time.sleep(0.004)
    item = json.loads(line)
    print(json.dumps({"score": 0.05 * len(item["completion"])}), flush=True)
"""


def align_args(bench, out, *more):
    return bench.align_args(out, bench.base(), "checkpoint.keep_last=0",
                            f"reward.command={sys.executable} {bench.folder}/reward.py",
                            *more, iterations=3)


def killed(bench, out, ready, ranks):
    """Starts the run and kills every process of it as soon as ready(out) holds."""
    for _ in range(3):
        shutil.rmtree(out, ignore_errors=True)
        p = bench.start(align_args(bench, out, "resume=auto"), ranks=ranks)
        end = time.monotonic() + 60
        while p.poll() is None and not ready(out) and time.monotonic() < end:
            time.sleep(0.002)
        common.kill_tree(p)
        _, err = p.communicate()
        if p.returncode != 0 and ready(out):
            return True
    return bench.check(False, "the run could not be killed in time:", err.decode()[-500:])


def kills(bench, whole):
    moments = (
        ("before the first checkpoint", lambda o: (o / "metrics.jsonl").exists(), 2, (1,)),
        ("after the first checkpoint", lambda o: (o / "checkpoint-2").exists(), 2, (1, 4)),
        ("after the second checkpoint", lambda o: (o / "checkpoint-4").exists(), 1, (2,)),
    )
    for i, (name, ready, ranks, again) in enumerate(moments):
        out = bench.folder / f"killed-{i}"
        if not killed(bench, out, ready, ranks):
            continue
        bench.check(not (out / "checkpoint-6").exists(), "killed too late")
        for world in again:
            copy = bench.folder / f"killed-{i}-{world}"
            shutil.copytree(out, copy, symlinks=True)
            bench.good(*align_args(bench, copy, "resume=auto"), ranks=world)
            bench.same_run(whole, copy, f"killed {name} on {ranks} ranks, resumed on {world}:")


def asked_to_leave(bench, whole):
    """USR1 (mpirun hands it to the ranks): the run ends after its step and says how to go on."""
    for ranks in (1, 2):
        out = bench.folder / f"asked-{ranks}"
        p = bench.start(align_args(bench, out), ranks=ranks)
        while p.poll() is None and not (out / "checkpoint-2").exists():
            time.sleep(0.002)
        p.send_signal(signal.SIGUSR1)
        _, err = p.communicate(timeout=60)
        err = err.decode()
        bench.check(p.returncode > 0 and "resume=auto" in err, f"USR1 on {ranks} ranks: exit code",
                    p.returncode, err[-1000:])
        bench.check(not (out / "checkpoint-6").exists(), "USR1 came too late or was not heard")
        bench.good(*align_args(bench, out, "resume=auto"), ranks=3 - ranks)
        bench.same_run(whole, out, f"asked to leave on {ranks} ranks:")


def refused(bench, args, out, *named):
    """The run must fail, name these things, and leave every file as it was."""
    before = common.tree(out)
    result = bench.run(*args)
    bench.check(result.code not in (0, None) and result.code > 0, "not refused:", result)
    for word in named:
        bench.check(word in result.err, "the message does not name", word, "in", result)
    bench.check(common.tree(out) == before, "a refused run changed", out)


def refusals(bench, whole):
    half = common.rewind(whole, bench.folder / "half", 4)
    refused(bench, align_args(bench, half, "resume=auto", "learning_rate=2e-3", "tau=0.3"), half,
            "checkpoint-4", "train.learning_rate: 0.001 in the checkpoint, 0.002 now",
            "method.tau: 0.2 in the checkpoint, 0.3 now")
    refused(bench, align_args(bench, half), half, str(half), "resume=auto")
    refused(bench, align_args(bench, half, f"resume={half}/checkpoint-2"), half, "checkpoint-4")
    refused(bench, align_args(bench, half, f"resume={half}/checkpoint-5"), half, "checkpoint-5")
    # what changes no result may change
    bench.good(*align_args(bench, half, "resume=auto", "log_level=error", "slots=5",
                           "recompute=true"), ranks=2, threads=2)
    bench.same_run(whole, half, "resumed with other slots, threads, recompute:")


def damage(bench, whole):
    torn = common.rewind(whole, bench.folder / "torn", 2)
    shutil.copytree(torn / "checkpoint-2", torn / "checkpoint-4.tmp")
    (torn / "checkpoint-4.tmp" / "model.safetensors").write_bytes(b"half")
    bench.good(*align_args(bench, torn, "resume=auto"))
    bench.same_run(whole, torn, "with a half-written checkpoint:")
    for name, how in (("model.safetensors", "flip"), ("trainer_state.h5", "cut"),
                      ("hashes.json", "gone")):
        out = common.rewind(whole, bench.folder / f"damaged-{how}", 4)
        path = out / "checkpoint-4" / name
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(raw if how == "flip" else raw[:len(raw) // 2])
        result = bench.good(*align_args(bench, out, "resume=auto"), ranks=2)
        bench.check("checkpoint-4" in result.err and "passed over" in result.err,
                    "no warning of a damaged checkpoint:", result.err)
        bench.same_run(whole, out, f"with a damaged {name}:")
    out = common.rewind(whole, bench.folder / "all-damaged", 4)
    for step in (2, 4):
        (out / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"")
    refused(bench, align_args(bench, out, "resume=auto"), out, "checkpoint-4", str(out))


def other_commands(bench):
    for name, args in (("sft", lambda out, *more: bench.sft_args(out, *more, steps=8)),
                       ("reward", lambda out, *more: bench.reward_args(out, bench.base(), *more,
                                                                       steps=8))):
        keep = ("checkpoint.every=3", "checkpoint.keep_last=0", "log_every=2")
        whole = bench.folder / f"{name}-whole"
        bench.good(*args(whole, *keep))
        for ranks, step in ((1, 6), (2, 3)):
            out = common.rewind(whole, bench.folder / f"{name}-{ranks}", step)
            bench.good(*args(out, *keep, "resume=auto"), ranks=ranks)
            bench.same_run(whole, out, f"{name} resumed from step {step} on {ranks} ranks:")


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    (bench.folder / "reward.py").write_text(REWARD)
    whole = bench.folder / "whole"
    bench.good(*align_args(bench, whole))
    bench.check([(whole / f"checkpoint-{s}").is_dir() for s in STEPS] == [True] * 3,
                "checkpoints:", sorted(whole.iterdir()))
    kills(bench, whole)
    asked_to_leave(bench, whole)
    refusals(bench, whole)
    damage(bench, whole)
    other_commands(bench)
    # a finished run has nothing left to do
    weights = common.digest(whole / "latest" / "model.safetensors")
    rows = common.metrics(whole)
    bench.good(*align_args(bench, whole, "resume=auto"))
    bench.check(common.digest(whole / "latest" / "model.safetensors") == weights and
                common.metrics(whole) == rows, "resuming a finished run changed it")


common.main(test, needs_mpi=True)
