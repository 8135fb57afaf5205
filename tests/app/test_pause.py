#!/usr/bin/env python3
"""test_pause.py: checks pauses. A run that is asked to pause saves its position and ends with exit code
99. It can be resumed on another number of ranks, does no work twice, and ends with the same files as a
run without a pause."""
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import common

LAST = "checkpoint-8" # the run has 2 iterations of 4 steps

# A reward command that is so slow that rollout, reward and training of an iteration take about the
# same time. If the file named by HOLD exists, the command creates a `.held` file and waits until the
# test lets it continue.
REWARD = """import json, os, sys, time
hold = os.environ.get("HOLD", "")
for line in sys.stdin:
    time.sleep(0.004)
    while hold and os.path.exists(hold) and not os.path.exists(os.environ["SCORED"] + ".go"):
        open(os.environ["SCORED"] + ".held", "w").close()
        time.sleep(0.01)
    item = json.loads(line)
    with open(os.environ["SCORED"], "a") as f:
        f.write("%s %s %s\\n" % (item["prompt_id"], item["sample"], item["completion"]))
    print(json.dumps({"score": 0.05 * len(item["completion"])}), flush=True)
"""


class Run:
    """A run in one output folder, over several sessions."""

    def __init__(self, bench, name):
        self.bench, self.out = bench, bench.folder / name
        self.scored = bench.folder / f"{name}.scored"
        self.env = {"SCORED": str(self.scored)}
        self.kept = []

    def args(self, *more):
        return self.bench.align_args(
            self.out, self.bench.base(), f"reward.command={sys.executable} "
            f"{self.bench.folder}/reward.py", "resume=auto", "train.epochs=2", "ignore_eos=true",
            "max_new_tokens=180", "checkpoint.keep_last=1", "train.kl_to_start=true",
            "global_batch_size=16", *more, iterations=2, prompts=32)

    def paused(self):
        return sorted(p.name for p in self.out.glob("checkpoint-*-pause-*"))

    def left(self, code, err, how):
        """Checks that the session ended with a message about the pause, and left one checkpoint."""
        bench, name = self.bench, (self.out / "latest").resolve().name
        if not bench.check(code == 99, how, "exit code", code, err[-1500:]):
            return False
        bench.check("stopped" in err and f"continues from {self.out}/{name}" in err, how,
                    "says", err[-500:])
        bench.check(self.paused() in ([], [name]), how, "pauses:", self.paused(), "latest:", name)
        bench.check(not list(self.out.glob("*.tmp")) and not (self.out / "stop").exists(), how,
                    "leaves", sorted(self.out.iterdir()))
        return True

    def session(self, ranks, delay, how, *more):
        """Starts or resumes the run. `delay` seconds after metrics.jsonl exists, asks it to pause in the way `how`. Returns
        True if the run has finished."""
        bench = self.bench
        if how == "max_time":
            result = bench.run(*self.args(*more, f"max_time={delay:.2f}"), ranks=ranks,
                               env=self.env)
            code, err = result.code, result.err
        else:
            started = (self.out / "run.json").stat().st_mtime if self.out.exists() else 0
            p = bench.start(self.args(*more), ranks=ranks, env=self.env)
            common.until(p, lambda: (self.out / "run.json").exists() and
                         (self.out / "run.json").stat().st_mtime > started)
            time.sleep(delay)
            asked = time.monotonic()
            if how == "file":
                (self.out / "stop").touch()
            elif how == "USR1" and p.poll() is None: # mpirun forwards this signal to every rank
                p.send_signal(signal.SIGUSR1)
            elif how == "TERM":
                # to one rank only: if mpirun gets SIGTERM, it kills the ranks one second later
                common.signal_rank(p, signal.SIGTERM)
            _, err = p.communicate(timeout=common.LIMIT)
            code, err = p.returncode, err.decode()
            if code == -signal.SIGUSR1 and ranks > 1 and (self.out / LAST).exists():
                # the ranks had ended already, so mpirun did not catch the signal and died of it
                code = 0
            if code == 99:
                LATENCY.append(time.monotonic() - asked)
        self.kept += [int(n) for n in re.findall(r"(\d+) tokens kept", err)]
        if code == 0:
            (self.out / "stop").unlink(missing_ok=True) # the run ended before it noticed the file
            return True
        if not self.left(code, err, f"{how} after {delay:.2f} s on {ranks} ranks:"):
            raise SystemExit(1)
        return False

    def compare(self, whole, what, once=True):
        bench = self.bench
        for name in ("model.safetensors", "trainer_state.h5"):
            bench.same(whole.out / "latest" / name, self.out / "latest" / name, what)
        a, b = ([common.timeless(r) for r in common.metrics(x.out)] for x in (whole, self))
        bench.check(a == b, what, "metrics differ:", a, b)
        names = {p.name for p in self.out.iterdir()}
        bench.check({LAST, "latest"} <= names and
                    not [n for n in names if "pause" in n or ".tmp" in n], what, sorted(names))
        for x in sorted((whole.out / "rollouts").glob("iteration-????.h5")):
            bench.check(common.rollout_records(x) ==
                        common.rollout_records(self.out / "rollouts" / x.name),
                        what, x.name, "differs")
        # A session does not score an answer that an earlier session has scored, unless the pause
        # was damaged.
        if not once:
            return
        a, b = (sorted(x.scored.read_text().splitlines()) for x in (whole, self))
        bench.check(a == b, what, len(b), "completions scored, expected", len(a))


LATENCY = []
STOPS = int(os.environ.get("PLUMB_STOPS", "3")) # largest number of pauses of a run


def moments(bench, whole, ranks_of, seed, hows, longest):
    """Asks the run to pause at random moments, then lets it finish and compares it with `whole`."""
    rng = random.Random(seed)
    run = Run(bench, f"stopped-{seed}")
    for i in range(STOPS):
        ranks = ranks_of[i % len(ranks_of)]
        if run.session(ranks, rng.uniform(0.01, longest), hows[i % len(hows)], f"slots={3 + i}"):
            break
    else:
        i += 1
        bench.good(*run.args(), ranks=ranks_of[-1], env=run.env)
    run.compare(whole, f"stopped {i} times, seed {seed}:")
    return i, run.kept


def interval(bench, whole, seconds):
    """Checks checkpoint.interval: a save during an iteration, after which the run continues. Halves
    the interval until the run takes longer than two intervals, because the machine may be faster
    now than when `seconds` was measured."""
    for number in range(12):
        run = Run(bench, f"interval-{number}")
        result = bench.good(*run.args(f"checkpoint.interval={seconds / 2**number:.6f}"), ranks=2,
                            env=run.env)
        saved = re.findall(r"saved (checkpoint-\d+-pause-\d+) after [0-9.]+ s", result.err)
        if len(saved) >= 2:
            break
    bench.check(len(saved) >= 2 and len(set(saved)) == len(saved), "saves:", saved, result.err)
    run.compare(whole, "checkpoint.interval:")


def damaged(bench, whole):
    """Checks that a damaged pause is not used; the run continues from the checkpoint before it."""
    run = Run(bench, "damaged")
    p = bench.start(run.args(), env={**run.env, "HOLD": str(run.out / "checkpoint-4")})
    common.until(p, run.scored.with_suffix(".scored.held").exists)
    p.send_signal(signal.SIGTERM)
    run.scored.with_suffix(".scored.go").touch()
    _, err = p.communicate(timeout=common.LIMIT)
    if not run.left(p.returncode, err.decode(), "for damage:"):
        return
    bench.check(len(run.paused()) == 1 and (run.out / "checkpoint-4").exists(), "no pause")
    path = run.out / run.paused()[0] / "answers.rank-0.h5"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    result = bench.good(*run.args(), env=run.env)
    bench.check("passed over" in result.err and "answers.rank-0.h5: damaged" in result.err and
                "checkpoint-4" in result.err, "no warning of damage:", result.err)
    run.compare(whole, "after a damaged pause:", once=False)


def fixed_records(bench):
    """Checks pauses of sft: the current step is computed again; keep_best works; after a failed start, the run can
    be started again."""
    def args(out, *more):
        return bench.sft_args(out, "log_every=1", "checkpoint.every=7", "checkpoint.keep_last=1",
                              "checkpoint.keep_best=1", "epochs=3", *more, steps=60)
    whole, out = bench.folder / "sft-whole", bench.folder / "sft"
    bench.good(*args(whole))
    at = [r for r in common.metrics(whole) if r["step"] % 7 == 0 or r["step"] == 60]
    best = min(at, key=lambda r: r["loss"])["step"]
    bench.check((whole / "best").resolve().name == f"checkpoint-{best}" and
                sorted(p.name for p in whole.glob("checkpoint-*")) ==
                sorted({f"checkpoint-{best}", "checkpoint-60"}), "keep_best:",
                sorted(p.name for p in whole.iterdir()), "best", best)
    for _ in range(10): # repeats until the signal reaches the run before its end
        shutil.rmtree(out, ignore_errors=True)
        p = bench.start(args(out, "resume=auto"), ranks=2)
        common.until(p, (out / "checkpoint-7").exists)
        p.send_signal(signal.SIGUSR1)
        _, err = p.communicate(timeout=common.LIMIT)
        if not (out / "checkpoint-60").exists():
            break
    bench.check(p.returncode == 99 and "resume=auto" in err.decode(), "sft asked to leave:",
                p.returncode, err.decode()[-500:])
    bench.good(*args(out, "resume=auto"))
    for name in ("model.safetensors", "trainer_state.h5"):
        bench.same(whole / "latest" / name, out / "latest" / name, "sft stopped:")
    bench.check([common.timeless(r) for r in common.metrics(whole)] ==
                [common.timeless(r) for r in common.metrics(out)], "sft stopped: metrics differ")
    bench.check(sorted(p.name for p in out.glob("checkpoint-*")) ==
                sorted(p.name for p in whole.glob("checkpoint-*")), "sft stopped:",
                sorted(p.name for p in out.iterdir()))
    result = bench.run(*args(bench.folder / "no", "best_metric=rewards"))
    bench.check(result.code == 12 and "best_metric" in result.err and "loss" in result.err,
                "unknown best_metric:", result)

    failed = bench.folder / "failed"
    bad = bench.align_args(failed, bench.base(), "reward.command=cat", iterations=1)
    bench.check(bench.run(*bad).code not in (0, None), "a reward command that is none was taken")
    good = bench.align_args(failed, bench.base(), "functions=[{name: length, target: 20}]",
                            iterations=1)
    bench.good(*good)
    bench.check(bench.run(*good).code == 13, "resume=never over a run that is there")


def early(bench):
    """Checks that a run saves and ends with 99 if the signal comes before the run has read its options: it reads them
    from a pipe, which the test fills, so that the run has begun, but closes after the signal."""
    options = ("#" * 4095 + "\n") * 64 # more than a pipe holds
    for number in (signal.SIGUSR1, signal.SIGTERM):
        out = bench.folder / f"early-{number}"
        args = bench.sft_args(out)
        p = bench.start([args[0], "/dev/stdin", *args[1:]], stdin=subprocess.PIPE)
        p.stdin.write(options.encode())
        p.stdin.flush()
        p.send_signal(number)
        err = p.communicate(timeout=common.LIMIT)[1].decode()
        bench.check(p.returncode == 99 and "stopped by a signal at step 0" in err, "a signal at the start:", p.returncode, err[-500:])
        bench.good(*args, "resume=auto")
        bench.same(bench.base() / "model.safetensors", out / "latest" / "model.safetensors", "after a signal at the start")


def no_terms(bench):
    """Checks iterations without an optimizer step: each of them is saved, and none overwrites
    another one."""
    out = bench.folder / "no-terms"
    args = bench.align_args(out, bench.base(), "functions=[{name: length, target: 20}]", "tau=1e6",
                            "weighted_loss=none", "resume=auto", iterations=3)
    bench.good(*args)
    rows = common.metrics(out)
    bench.check([(r["iteration"], r["step"]) for r in rows] == [(1, 0), (2, 0), (3, 0)],
                "iterations without steps:", rows)
    bench.check((out / "latest").resolve().name == "checkpoint-0-pause-2", "latest of no steps:",
                sorted(p.name for p in out.iterdir()))
    bench.good(*args)
    bench.check(common.metrics(out) == rows, "a finished run without steps went on")


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    (bench.folder / "reward.py").write_text(REWARD)
    whole = Run(bench, "whole")
    seconds = bench.good(*whole.args(), env=whole.env).seconds
    hows = ["USR1", "file", "max_time", "TERM"]
    stops, kept = 0, []
    for seed, ranks_of in enumerate(((1,), (2, 1), (1, 4, 2))):
        n, k = moments(bench, whole, ranks_of, seed, hows[seed:] + hows[:seed],
                       0.6 * seconds)
        stops += n
        kept += k
    interval(bench, whole, seconds / 5)
    damaged(bench, whole)
    fixed_records(bench)
    no_terms(bench)
    early(bench)
    if bench.check(LATENCY, "no run was stopped before its end"):
        LATENCY.sort()
        print(f"{stops} stops; from request to exit: median {LATENCY[len(LATENCY) // 2]:.2f} s, "
              f"most {LATENCY[-1]:.2f} s; tokens kept: {kept}")


common.main(test, needs_mpi=True)
