#!/usr/bin/env python3
"""test_resume.py: kills runs and resumes them. They must write the same files as a run that was not
killed."""
import shutil
import signal
import sys

import common

STEPS = (2, 4, 6)  # steps of the checkpoints: 3 iterations of 16 prompts, 8 prompts per step

# A reward command that is so slow that the test can kill the run before it ends.
REWARD = """import json, os, sys, time
for line in sys.stdin:
    time.sleep(float(os.environ.get("PACE", "0.004")))
    item = json.loads(line)
    print(json.dumps({"score": 0.05 * len(item["completion"])}), flush=True)
"""


def align_args(bench, out, *more):
    return bench.align_args(out, bench.base(), "checkpoint.keep_last=0",
                            f"reward.command={sys.executable} {bench.folder}/reward.py",
                            *more, iterations=3)


def ended(bench, out, ready, ranks, how):
    """Starts the run, and calls how(p) to end it as soon as ready(out) is true. If the run ends
    before that, starts it again with a slower reward command. Returns (exit code, messages), or
    None if every try was too late."""
    for pace in (0.004, 0.015, 0.06, 0.25):
        shutil.rmtree(out, ignore_errors=True)
        p = bench.start(align_args(bench, out, "resume=auto"), ranks=ranks, env={"PACE": str(pace)})
        seen = common.until(p, lambda: ready(out))
        how(p)
        _, err = p.communicate(timeout=common.LIMIT)
        if seen and p.returncode != 0 and not (out / "checkpoint-6").exists():
            return p.returncode, err.decode()
    bench.check(False, "the run could not be ended in time:", p.returncode, err.decode()[-500:])
    return None, ""


def kills(bench, whole):
    moments = (
        ("before the first checkpoint", lambda o: (o / "metrics.jsonl").exists(), 2, (1,)),
        ("after the first checkpoint", lambda o: (o / "checkpoint-2").exists(), 2, (1, 4)),
        ("after the second checkpoint", lambda o: (o / "checkpoint-4").exists(), 1, (2,)),
    )
    for i, (name, ready, ranks, again) in enumerate(moments):
        out = bench.folder / f"killed-{i}"
        if ended(bench, out, ready, ranks, common.kill_tree)[0] is None:
            continue
        for world in again:
            copy = bench.folder / f"killed-{i}-{world}"
            shutil.copytree(out, copy, symlinks=True)
            bench.good(*align_args(bench, copy, "resume=auto"), ranks=world)
            bench.same_run(whole, copy, f"killed {name} on {ranks} ranks, resumed on {world}:")


def asked_to_leave(bench, whole):
    """Checks SIGUSR1, which mpirun forwards to the ranks: the run ends after its current step with a message
    that says how to resume."""
    for ranks in (1, 2):
        out = bench.folder / f"asked-{ranks}"
        code, err = ended(bench, out, lambda o: (o / "checkpoint-2").exists(), ranks,
                          lambda p: p.send_signal(signal.SIGUSR1))
        if code is None:
            continue
        bench.check(code > 0 and "resume=auto" in err, f"USR1 on {ranks} ranks: exit code", code,
                    err[-1000:])
        bench.good(*align_args(bench, out, "resume=auto"), ranks=3 - ranks)
        bench.same_run(whole, out, f"asked to leave on {ranks} ranks:")


def refused(bench, args, out, *named):
    """Checks that the run fails with a message that has these texts, and changes no file of
    `out`."""
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
    # Options that do not change the results may have other values after a resume.
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
            r = bench.good(*args(out, *keep, "resume=auto"), ranks=ranks)
            bench.same_run(whole, out, f"{name} resumed from step {step} on {ranks} ranks:")
            bench.check("nothing was left" not in r.err, name, "said that it had nothing to do:", r)
        r = bench.good(*args(whole, *keep, "resume=auto"))
        bench.check("nothing was left to do" in r.err, name, "is finished and does not say so:", r)


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
    # A finished run does nothing if it is started again.
    weights = common.digest(whole / "latest" / "model.safetensors")
    rows = common.metrics(whole)
    again = bench.good(*align_args(bench, whole, "resume=auto"))
    bench.check(common.digest(whole / "latest" / "model.safetensors") == weights and
                common.metrics(whole) == rows, "resuming a finished run changed it")
    bench.check(again.err.count("nothing was left to do") == 1 and "checkpoint-6 is its last checkpoint" in again.err,
                "a finished run does not say that it is finished:", again)
    refused(bench, align_args(bench, whole), whole, "nothing is left to do")


common.main(test, needs_mpi=True)
