#!/usr/bin/env python3
"""kills.py PLUMB PLUMB_WORLD - kills and resumes alignment runs, and compares their files.

Kills a random rank at a random moment of each phase, again and again, and each time resumes the run
on another number of ranks. Also stops ranks (SIGSTOP). The run must write the files of an
uninterrupted run."""
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time

import exact
import where
from exact import common

PHASES = tuple(where.PHASES)
# ways to ask a run to pause; such requests are mixed with the kills
WAYS_OUT = ("USR1", "TERM", "stop file")

REWARD = """import json, sys, time
for line in sys.stdin:
    time.sleep(0.002)
    print(json.dumps({"score": 0.05 * len(json.loads(line)["completion"])}), flush=True)
"""


class Story:
    """Runs that are killed and resumed until they end, and counts of what happened."""

    def __init__(self, bench, where_, rng, args, whole, seconds):
        self.bench, self.where, self.rng, self.args = bench, where_, rng, args
        self.whole, self.seconds = whole, seconds
        # a tuple per kill: (phase, way, number of ranks, seconds until the job had ended, exit
        # code)
        self.kills = []
        # largest share of a run's duration that passes before the script looks for the phase
        self.latest = 0.6
        # number of runs since the last kill that ended before the kill; each makes the next kill
        # come earlier
        self.misses = 0
        self.resumes = self.orphans = self.shared = self.finished = 0

    def start(self, out, ranks, *more):
        """Starts or resumes the run. Returns when the run has written its first file, which is
        before its work begins."""
        before = exact.started(out)
        p = self.bench.start([*self.args(out), "resume=auto", *more], ranks)
        common.until(p, lambda: exact.started(out) != before)
        return p

    def victim(self, p, phase):
        """Stops a random rank that is in this phase (None: in any phase). Returns (rank, {rank:
        process id}, phase), or None if the run has ended."""
        end = time.monotonic() + common.LIMIT
        ranks = {}
        while p.poll() is None and time.monotonic() < end:
            ranks = ranks or exact.processes(p, self.bench.plumb)
            if not ranks:
                continue
            rank = self.rng.choice(sorted(ranks))
            found = self.where.stop(ranks[rank])
            if found is None and not exact.alive(ranks[rank]):
                return None
            if found is None or found == phase or phase is None:
                return rank, ranks, found or "unknown"
            exact.send(ranks[rank], signal.SIGCONT)
            time.sleep(self.rng.uniform(0.0002, 0.0003 + 0.0027 * 0.8**self.misses))
        return None

    def wait(self, ranks):
        """Waits for a random part of the duration of a run."""
        time.sleep(self.rng.uniform(0, self.latest * 0.8**self.misses) * self.seconds[ranks])

    def ended(self, p, pids, shared, what, launcher=False):
        """Waits for the end of the job. Checks that no process and no shared memory is left. If the
        launcher itself was killed, Open MPI's shared memory may be left; it is counted and removed.
        Returns (exit code, standard error, seconds)."""
        began = time.monotonic()
        code, err = exact.end_of(p)
        took = time.monotonic() - began
        self.bench.check(code is not None, what, "the job hangs:", err[-2000:])
        late = exact.outlive(pids)
        self.orphans += len(late)
        self.bench.check(not late, what, "processes outlive the job:", late)
        left = [f for f in shared if exact.stamp(exact.Path(f))]
        self.bench.check(not left or launcher, what, "leaves", left)
        self.shared += len(left)
        for f in left:
            os.unlink(f)
        return code, err, took

    def hit(self, p, out, phase, way):
        """Kills a rank, or asks the run to pause, in the given way. Returns False if the run
        ended before."""
        got = self.victim(p, phase)
        if got is None:
            return False
        rank, ranks, found = got
        pids = [p.pid, *common.descendants(p.pid)]
        shared = exact.shared_files(ranks.values())
        self.least = max(exact.checkpoints(out), default=0)
        what = f"{way} of rank {rank} of {len(ranks)} in {found}:"
        if way == "KILL":
            exact.send(ranks[rank], signal.SIGKILL)
        elif way == "launcher":
            exact.send(ranks[rank], signal.SIGCONT)
            exact.send(p.pid, signal.SIGKILL)
        elif way == "stop file":
            (out / "stop").touch()
            exact.send(ranks[rank], signal.SIGCONT)
        else:
            exact.send(ranks[rank], getattr(signal, "SIG" + way))
            exact.send(ranks[rank], signal.SIGCONT)
        code, err, took = self.ended(p, pids, shared, what, way == "launcher")
        with contextlib.suppress(FileNotFoundError):
            (out / "stop").unlink()
        if code == 0 and found == "unknown": # the job was already ending when the rank was stopped
            return False
        if way in ("KILL", "launcher"):
            self.bench.check(code != 0, what, "the job ends with 0", err[-500:])
        elif code == 0:
            return False
        else:
            self.bench.check(code == 99 or "resume=auto" in err, what, "exit code", code, err[-900:])
        self.kills.append((found, way, len(ranks), took, code))
        return True

    def tell(self, out, plan, worlds):
        """Makes one run from start to end, with the interruptions of plan: [(phase, way)]."""
        ranks, self.least = self.rng.choice(worlds), 0
        while True:
            p = self.start(out, ranks)
            if exact.started(out):
                self.bench.check(exact.resumed_step(out) >= self.least, "lost work: went on from",
                                 exact.resumed_step(out), "with checkpoint", self.least, "there")
            if plan:
                self.wait(ranks)
                if self.hit(p, out, *plan[0]):
                    plan.pop(0)
                    self.resumes += 1
                    self.misses = 0
                    ranks = self.rng.choice([w for w in worlds if w != ranks])
                    continue
                self.misses += 1
            code, err = exact.end_of(p)
            self.bench.check(code == 0, "the last run fails:", code, err[-2000:])
            break
        got = exact.left_by(out)
        unlike = [k for k in got if got[k] != self.whole[k]]
        self.bench.check(not unlike, "after kills differ:", unlike)
        self.bench.check(not exact.leftovers(out), "leaves", exact.leftovers(out))
        self.finished += 1
        shutil.rmtree(out)


def make_plan(options, rng):
    """Returns a plan [(phase, way)] in random order, with the same number of kills in each phase and some
    requests to pause."""
    plan = [(PHASES[i % len(PHASES)], "KILL") for i in range(options.kills)]
    plan += [(rng.choice(PHASES), WAYS_OUT[i % len(WAYS_OUT)]) for i in range(options.leaves)]
    plan += [(rng.choice(PHASES), "launcher") for _ in range(options.leaves // 4)]
    rng.shuffle(plan)
    return plan


def kills(story, options, report):
    plan, began, number = make_plan(options, story.rng), time.monotonic(), 0
    wanted = len(plan)
    while plan and number < 10 * wanted:
        part = plan[:options.per_run]
        asked = len(part)
        story.tell(story.bench.folder / f"story-{number}", part, options.worlds)
        del plan[:asked - len(part)]
        number += 1
    story.bench.check(not plan, len(plan), "kills found no moment")
    report("| phase | how | times | seconds to the end of the job: median | worst |")
    report("|---|---|---|---|---|")
    for phase in (*PHASES, "unknown"):
        for way in ("KILL", "launcher", *WAYS_OUT):
            took = [k[3] for k in story.kills if k[:2] == (phase, way)]
            if took:
                report(f"| {phase} | {way} | {len(took)} | {exact.median(took):.2f} | "
                       f"{max(took):.2f} |")
    took = [k[3] for k in story.kills if k[1] == "KILL"]
    report()
    polite = [k[4] for k in story.kills if k[1] in WAYS_OUT]
    report(f"{len(took)} kills (SIGKILL of a random rank): median {exact.median(took):.2f} s, "
           f"worst {max(took):.2f} s to the end of the whole job; {len(polite)} requests to leave "
           f"({polite.count(99)} ended with 99); {story.resumes} resumes on another rank count; "
           f"{story.finished} runs came to their end, all with the bytes of the run in one go; "
           f"{story.orphans} orphans, {story.shared} files left in /dev/shm (Open MPI's, by killed "
           f"launchers); "
           f"{time.monotonic() - began:.0f} s.")


def stops(story, options, report):
    """Checks that if some ranks are stopped but not killed, the other ranks detect it within
    comm.timeout. If a run ends before the phase begins, another run is started."""
    took, wrong, rows, number = [], 0, [], 0
    while len(took) < options.stops and number < 10 + 10 * options.stops:
        number += 1
        out = story.bench.folder / f"stop-{number}"
        ranks = story.rng.choice([w for w in options.worlds if w > 1])
        p = story.start(out, ranks, f"comm.timeout={options.timeout}")
        story.wait(ranks)
        got = story.victim(p, story.rng.choice(PHASES))
        if got is None:
            story.misses += 1
            exact.end_of(p)
            shutil.rmtree(out, ignore_errors=True)
            continue
        story.misses = 0
        rank, pids, phase = got
        began = time.monotonic()
        code, err, _ = story.ended(p, [p.pid, *common.descendants(p.pid)],
                                   exact.shared_files(pids.values()), f"stop in {phase}:")
        took.append(time.monotonic() - began)
        named = f"rank {rank}" in err and "phase" in err
        story.bench.check(code != 0 and named, f"rank {rank} of {ranks} stopped in {phase}: code",
                          code, err[-1500:])
        wrong += not named
        rows.append((phase, took[-1]))
        shutil.rmtree(out, ignore_errors=True)
    if not story.bench.check(len(took) == options.stops, len(took), "of", options.stops,
                             "ranks could be stopped") and not took:
        return
    report()
    report("| stopped in | times | seconds to the end of the job: median | worst |")
    report("|---|---|---|---|")
    for phase in sorted({r[0] for r in rows}):
        mine = [r[1] for r in rows if r[0] == phase]
        report(f"| {phase} | {len(mine)} | {exact.median(mine):.2f} | {max(mine):.2f} |")
    report()
    report(f"{len(took)} ranks stopped (SIGSTOP) with comm.timeout={options.timeout:g}: median "
           f"{exact.median(took):.2f} s, worst {max(took):.2f} s to the end of the job; "
           f"{len(took) - wrong} of {len(took)} messages name the rank and the phase.")


def body(bench, options, report):
    bench.make_world()
    config = json.loads((bench.world / "config.json").read_text())
    # a larger model makes the backward longer
    config.update(hidden_size=128, intermediate_size=256, head_dim=32)
    (bench.world / "config.json").write_text(json.dumps(config, indent=1))
    base = bench.base()
    (bench.folder / "reward.py").write_text(REWARD)

    def args(out):
        return bench.align_args(out, base, "method.rank_loss=dpo", "global_batch_size=12",
                                f"reward.command={sys.executable} {bench.folder}/reward.py",
                                iterations=2 if options.quick else 4, prompts=24)
    seconds, whole = {}, None
    for ranks in options.worlds:
        out = bench.folder / f"whole-{ranks}"
        began = time.monotonic()
        p = bench.start(args(out), ranks)
        common.until(p, lambda o=out: exact.started(o))
        ready = time.monotonic()
        code, err = exact.end_of(p)
        if not bench.check(code == 0, "on", ranks, "ranks:", code, err[-2000:]):
            return
        seconds[ranks] = time.monotonic() - ready
        got = exact.left_by(out)
        whole = whole or got
        bench.check(got == whole, "another result on", ranks, "ranks", time.monotonic() - began)
    looker = where.Where(bench.plumb)
    report.head("Killed in every phase, and gone on elsewhere")
    if looker.known() != set(PHASES):
        report(f"Phases that cannot be seen here: {sorted(set(PHASES) - looker.known())}; "
               "their kills are at random moments.")
    report(f"seed {options.seed}; psle with a dpo rank loss and a reward command on "
           f"{', '.join(map(str, options.worlds))} ranks. The phase is where the rank's stack says "
           "it is in the moment of the kill.")
    report()
    story = Story(bench, looker, random.Random(options.seed), args, whole, seconds)
    story.latest = 0.2 if options.quick else 0.6
    kills(story, options, report)
    stops(story, options, report)


def main():
    p = exact.parser(__doc__.splitlines()[0])
    p.add_argument("--kills", type=int, default=100)
    p.add_argument("--leaves", type=int, default=24, help="USR1, TERM or a stop file")
    p.add_argument("--stops", type=int, default=15, help="ranks that are stopped")
    p.add_argument("--per-run", type=int, default=10, help="kills until a run may end")
    options = p.parse_args()
    options.worlds = exact.WORLDS
    # comm.timeout in seconds, for the runs with stopped ranks
    options.timeout = 8.0 if options.quick else 3.0
    if options.quick:
        options.worlds, options.kills, options.leaves, options.stops = (1, 2, 4), 5, 1, 1
    exact.run(body, options)


if __name__ == "__main__":
    main()
