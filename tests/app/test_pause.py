#!/usr/bin/env python3
"""test_pause.py: a run that is asked to leave saves where it is, ends with 99, goes on on another
number of ranks without doing anything twice, and ends with the files of the run that was not."""
import os
import random
import re
import shutil
import signal
import sys
import time

import common

LAST = "checkpoint-8" # 2 iterations of 4 steps

# So slow that rollout, reward and training of an iteration are alike in length.
REWARD = """import json, os, sys, time
for line in sys.stdin:
    time.sleep(0.004)
    item = json.loads(line)
    with open(os.environ["SCORED"], "a") as f:
        f.write("%s %s %s\\n" % (item["prompt_id"], item["sample"], item["completion"]))
    print(json.dumps({"score": 0.05 * len(item["completion"])}), flush=True)
"""


class Run:
    """One run in one folder, over several sessions."""

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
        """The session ended as asked: says so, in one checkpoint."""
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
        """Runs until `how` says stop, `delay` seconds after metrics.jsonl is there. True: finished.
        """
        bench = self.bench
        if how == "max_time":
            result = bench.run(*self.args(*more, f"max_time={delay:.2f}"), ranks=ranks,
                               env=self.env)
            code, err = result.code, result.err
        else:
            started = (self.out / "run.json").stat().st_mtime if self.out.exists() else 0
            p = bench.start(self.args(*more), ranks=ranks, env=self.env)
            end = time.monotonic() + 60
            while (p.poll() is None and time.monotonic() < end and
                   not ((self.out / "run.json").exists() and
                        (self.out / "run.json").stat().st_mtime > started)):
                time.sleep(0.002)
            time.sleep(delay)
            asked = time.monotonic()
            if how == "file":
                (self.out / "stop").touch()
            elif how == "USR1" and p.poll() is None: # mpirun hands it on to every rank
                p.send_signal(signal.SIGUSR1)
            elif how == "TERM": # mpirun would kill the ranks a second later: one rank gets it
                common.signal_rank(p, signal.SIGTERM)
            _, err = p.communicate(timeout=60)
            code, err = p.returncode, err.decode()
            if code == 99:
                LATENCY.append(time.monotonic() - asked)
        self.kept += [int(n) for n in re.findall(r"(\d+) tokens kept", err)]
        if code == 0:
            (self.out / "stop").unlink(missing_ok=True) # it came too late
            return True
        if not self.left(code, err, f"{how} after {delay:.2f} s on {ranks} ranks:"):
            raise SystemExit(1)
        return False

    def compare(self, whole, what):
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
        # nothing is scored twice
        a, b = (sorted(x.scored.read_text().splitlines()) for x in (whole, self))
        bench.check(a == b, what, len(b), "completions scored, expected", len(a))


LATENCY = []
STOPS = int(os.environ.get("PLUMB_STOPS", "3")) # of a run, at most


def moments(bench, whole, ranks_of, seed, hows, longest):
    """Stops at random moments, then lets the run finish."""
    rng = random.Random(seed)
    run = Run(bench, f"stopped-{seed}")
    for i in range(STOPS):
        ranks = ranks_of[i % len(ranks_of)]
        if run.session(ranks, rng.uniform(0.0, longest), hows[i % len(hows)], f"slots={3 + i}"):
            break
    else:
        i += 1
        bench.good(*run.args(), ranks=ranks_of[-1], env=run.env)
    run.compare(whole, f"stopped {i} times, seed {seed}:")
    return i, run.kept


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    (bench.folder / "reward.py").write_text(REWARD)
    whole = Run(bench, "whole")
    bench.good(*whole.args(), env=whole.env)
    hows = ["USR1", "file", "max_time", "TERM"]
    stops, kept = 0, []
    for seed, ranks_of in enumerate(((1,), (2, 1), (1, 4, 2))):
        n, k = moments(bench, whole, ranks_of, seed, hows[seed:] + hows[:seed], 1.2)
        stops += n
        kept += k
    LATENCY.sort()
    print(f"{stops} stops; from request to exit: median {LATENCY[len(LATENCY) // 2]:.2f} s, "
          f"most {LATENCY[-1]:.2f} s; tokens kept: {kept}")


common.main(test, needs_mpi=True)
