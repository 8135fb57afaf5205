#!/usr/bin/env python3
"""test_slurm.py PLUMB PLUMB_WORLD - checks launch/slurm.sbatch with a real Slurm of three nodes: runs with the same bytes
as on one rank, a requeue before the time limit, scancel, a node that fails, an array, and nodes with different numbers
of cores."""
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))

import cluster
import common

SCRIPT = common.ROOT / "launch/slurm.sbatch"

# A reward command: the score is the length of the completion. With the variable SLOW, it takes one
# second per completion in the first start of a job, so that the run cannot end before the signal.
REWARD = """import json, os, sys, time
slow = "SLOW" in os.environ and os.environ.get("SLURM_RESTART_COUNT", "0") == "0"
for line in sys.stdin:
    time.sleep(1 if slow else 0)
    print(json.dumps({"score": 0.05 * len(json.loads(line)["completion"])}), flush=True)
"""


class Slurm:
    def __init__(self, bench):
        self.bench, self.folder = bench, bench.folder
        self.c = cluster.Cluster(bench.folder / "slurm")
        self.c.env.update(PLUMB=str(bench.plumb))
        self.args = {}

    def align(self, name, *more, iterations=3, prompts=16):
        """Returns the arguments of `plumb align` for the run `name`."""
        reward = f"reward.command={sys.executable} {self.folder}/reward.py"
        return self.bench.align_args(self.folder / name, self.bench.base(), reward, *more,
                                     iterations=iterations, prompts=prompts)

    def log(self, number):
        return "".join(p.read_text(errors="replace") for p in sorted(self.folder.glob(f"plumb-{number}*.log")))

    def done(self, number, what, state="COMPLETED", seconds=150):
        return self.bench.check(self.c.wait(number, state, seconds), what, "job", number, "has state",
                                self.c.job(number).JobState, "log:", self.log(number)[-3000:])

    def submit(self, *args):
        return self.c.submit(*args, cwd=self.folder)


def two_nodes(s, whole):
    """Checks a run on two nodes, the script under `sbatch --wrap`, and the variable PLUMB_SRUN_MPI."""
    job = s.submit("--nodes=2", "--ntasks-per-node=2", "--nodelist=sn1,sn2", SCRIPT, *s.align("two"))
    if not s.done(job, "two nodes with two ranks each"):
        return
    s.bench.same_run(whole, s.folder / "two", "two nodes with two ranks each and one rank")
    s.bench.check("4 ranks" in s.log(job), "two nodes, log:", s.log(job)[-2000:])
    hosts = set(re.findall(r"sn\d", (s.folder / "two/run.json").read_text()))
    s.bench.check("sn1" in hosts, "run.json names no node:", hosts)


def requeue_start(s):
    """Submits the job for the requeue test. This job sleeps most of the time, so other tests run
    meanwhile."""
    s.c.env["SLOW"] = "1"
    job = s.submit("--nodes=2", "--ntasks-per-node=2", "--nodelist=sn1,sn2", "--time=2", "--signal=USR1@75",
                   SCRIPT, *s.align("requeued", "reward.timeout=100"))
    del s.c.env["SLOW"]
    return job


def requeue_end(s, whole, job):
    if not s.done(job, "a run with a time limit", seconds=180):
        return
    log = s.log(job)
    s.bench.check("ended with code 99" in log and "start 1 on sn[1-2]" in log, "requeue, log:", log[-3000:])
    s.bench.check("stopped by a signal" in log and "TIME LIMIT" not in log and "started again" not in log,
                  "USR1 before the time limit, log:", log[-3000:])
    s.bench.same_run(whole, s.folder / "requeued", "a run that was requeued and the uninterrupted one")


def cancelled(s, whole):
    s.c.env["SLOW"] = "1"
    job = s.submit("--ntasks=2", "--nodelist=sn1", SCRIPT, *s.align("cancelled", "reward.timeout=100"))
    del s.c.env["SLOW"]
    s.c.until(lambda: (s.folder / "cancelled/train.log").exists(), 60, "the run to cancel")
    s.c.tool("scancel", job)
    s.done(job, "scancel", state="CANCELLED", seconds=60)
    s.bench.check(list((s.folder / "cancelled").glob("checkpoint-*-pause-*")), "scancel left no checkpoint:",
                  s.log(job)[-2000:])
    again = s.submit("--ntasks=2", "--nodelist=sn1", SCRIPT, *s.align("cancelled", "reward.timeout=100"))
    if not s.done(again, "the run after scancel"):
        return
    s.bench.same_run(whole, s.folder / "cancelled", "a run that was cancelled and continued")


def in_rollout(s, name, node, spare, timeout):
    """Submits a run on two nodes other than `spare`. When its second rollout begins, stops its ranks on
    `node` (SIGSTOP), so that they stay in the rollout. Returns (job, process ids of these ranks)."""
    s.c.tool("scontrol", "update", f"nodename={spare}", "state=drain", "reason=spare")
    job = s.submit("--nodes=2", "--ntasks-per-node=2", SCRIPT,
                   *s.align(name, *LONG, f"comm.timeout={timeout}", iterations=2, prompts=64))
    s.c.until(lambda: (s.folder / name / "latest").exists(), 120, "the second rollout")
    ranks = s.c.processes(node, "plumb")
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    s.bench.check(len(ranks) == 2, name, "ranks on", node, ranks)
    s.c.tool("scontrol", "update", f"nodename={spare}", "state=resume")
    return job, ranks


def slurmd_fails(s, whole):
    """Checks a job whose slurmd on one node ends during a rollout. Slurm starts the job again on other
    nodes while its old ranks on the lost node still exist. The old ranks continue after the new
    ranks have started."""
    job, ranks = in_rollout(s, "slurmd", "sn2", "sn1", timeout=60)
    s.c.kill_node_daemon("sn2")
    s.c.until(lambda: "start 1 on" in s.log(job), 120, "the second start after slurmd ended")
    for pid in ranks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    if not s.done(job, "a node whose slurmd ends", seconds=180):
        return
    s.bench.check("start 1 on sn[1,3]" in s.log(job), "a node whose slurmd ends, log:", s.log(job)[-3000:])
    s.bench.same_run(whole, s.folder / "slurmd", "a run on a node whose slurmd ended and the uninterrupted one")
    s.c.until(lambda: not s.c.processes("sn2", "plumb"), 150, "the end of the ranks without a job")
    s.c.start_node("sn2")
    s.c.until(lambda: "sn2" in s.c.idle(), 60, "sn2")


def node_fails(s, whole):
    """Checks the failure of a whole node: slurmd, ranks and network. In this test Slurm detects the failure before
    the other ranks do. Otherwise Slurm 22.05 has left a job in state FAILED, when the script asked for a requeue
    while Slurm was detecting the failure."""
    job, _ = in_rollout(s, "node", "sn3", "sn2", timeout=60)
    s.c.kill_node("sn3")
    if not s.done(job, "a node that fails", seconds=180):
        return
    s.bench.check("start 1 on sn[1-2]" in s.log(job), "a node that fails, log:", s.log(job)[-3000:])
    s.bench.same_run(whole, s.folder / "node", "a run whose node has failed and the uninterrupted one")


LONG = ("ignore_eos=true", "max_new_tokens=180")


def array(s):
    """Checks a job array over seeds, and a comparison job that waits for it."""
    job = s.submit("--array=1-2", "--ntasks=2", SCRIPT, *s.align("seed-%a", "seed=%a", iterations=1))
    runs = [s.folder / f"seed-{n}" for n in (1, 2)]
    after = s.submit("--ntasks=1", f"--dependency=afterok:{job}", f"--wrap={SCRIPT} compare {runs[0]} {runs[1]} "
                     "output=table.json")
    if not s.done(job, "an array") or not s.done(after, "compare after an array"):
        return
    for n, run in enumerate(runs, 1):
        s.bench.check(f"seed: {n}\n" in (run / "config.effective.yaml").read_text(), "seed of", run)
    table = (s.folder / "table.json").read_text() if (s.folder / "table.json").exists() else ""
    s.bench.check('"seeds": 2' in table or "seed" in table, "table of compare:", table[:500])


def unequal_cores(s, whole):
    """Checks an interactive job with one rank on a node with all cores and one on a node with a single
    core. Slurm has no default MPI type here, so the script must choose it."""
    s.c.set_mpi_default("none")
    shown = s.c.tool("salloc", "--nodes=2", "--ntasks-per-node=1", "--nodelist=sn1,sn3", str(SCRIPT), "doctor",
                     cwd=s.folder)
    cores = {n: int(t) for n, t in re.findall(r"(sn\d), local rank 0 of 1, (\d+) thread", shown)}
    s.bench.check(cores.get("sn3") == 1 and cores.get("sn1") == len(os.sched_getaffinity(0)), "threads:", shown)
    args = [a for a in s.align("unequal") if not a.startswith("threads=")]
    s.c.tool("salloc", "--nodes=2", "--ntasks-per-node=1", "--nodelist=sn1,sn3", str(SCRIPT), *map(str, args),
             cwd=s.folder)
    s.bench.same_run(whole, s.folder / "unequal", "nodes with unequal cores and one rank")
    s.c.set_mpi_default("pmix")


def refusals(s):
    """Checks that the script fails outside of a job, and with an MPI type with which each process would run alone."""
    alone = subprocess.run([SCRIPT, "doctor"], capture_output=True, text=True, check=False,
                           env={"PATH": os.environ["PATH"]})
    s.bench.check(alone.returncode == 2 and "start it with sbatch" in alone.stderr, "outside of a job:", alone)
    s.c.env["PLUMB_SRUN_MPI"] = "none"
    job = s.submit("--ntasks=2", SCRIPT, "doctor")
    del s.c.env["PLUMB_SRUN_MPI"]
    s.done(job, "an MPI type without ranks", state="FAILED")
    s.bench.check("each would do the whole run" in s.log(job), "an MPI type without ranks:", s.log(job)[-2000:])


def test(bench):
    (bench.folder / "reward.py").write_text(REWARD)
    s = Slurm(bench)
    whole, long = bench.folder / "whole", bench.folder / "long"
    bench.good(*s.align("whole"))
    bench.good(*s.align("long", *LONG, iterations=2, prompts=64))
    s.c.start()
    print("the cluster is up", flush=True)
    limited = requeue_start(s) if not os.environ.get("PLUMB_SLURM_ONLY") else None
    steps = [(refusals,), (array,), (two_nodes, whole), (cancelled, whole), (unequal_cores, whole),
             (requeue_end, whole, limited), (slurmd_fails, long), (node_fails, long)]
    only = os.environ.get("PLUMB_SLURM_ONLY", "")
    steps = [step for step in steps if only in step[0].__name__]
    for step, *more in steps:
        began = time.monotonic()
        step(s, *more)
        print(f"{step.__name__}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    cluster.enter()
    common.main(test, needs_mpi=True)
