#!/usr/bin/env python3
"""test_top.py: plumb top, on runs that are finished, running, killed and broken, and on folders that hold none; in a
terminal it shows the run again until it ends."""
import json
import os
import pty
import re
import select
import shutil
import signal
import time

import common

RULE = "reward.functions=[{name: length, target: 6}]"


def rows(text):
    """The rows of the page by their names."""
    return {m.group(1): m.group(2) for m in re.finditer(r"^  (\S.{10}) (.*)$", text, re.M) for m in [re.match(r"  (.{11}) (.*)", m.group(0))]}


def page(bench, out, *more):
    r = bench.good("top", out, *more, threads=None)
    return {k.strip(): v for k, v in rows(r.out).items()}, r


def finished(bench, base):
    out = bench.folder / "run"
    bench.good(*bench.align_args(out, base, RULE, method="raft", iterations=4))
    got, r = page(bench, out)
    bench.check(got["state"] == "finished" and "[##############################] 100 %  step 8/8, iteration 4/4" == got["progress"], "finished", r.out)
    shares = [float(x) for x in re.findall(r"([\d.]+) %", got["phases"])]
    bench.check(abs(sum(shares) - 100) < 0.5 and "rollout" in got["phases"] and "train" in got["phases"], "phases", got["phases"])
    bench.check("left" not in got and "checkpoint-8" in got["saved"] and "loss" in got["metrics"] and got["ranks"].startswith("1 ("), "rows", r.out)
    last = common.metrics(out)[-1]
    want = 100 * sum(x["time/train"] for x in common.metrics(out)) / sum(x["time/iteration"] for x in common.metrics(out))
    train = float(re.search(r"train ([\d.]+) %", got["phases"]).group(1))
    bench.check(abs(train - want) < 0.11, "share of train", train, want)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    late = [{**json.loads(x), "time/late": 2.5, "comm/late_rank": 0} for x in lines]
    copy = bench.folder / "late"
    shutil.copytree(out, copy, symlinks=True)
    (copy / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in late))
    got, r = page(bench, copy)
    bench.check("rank 0 on " in got["slowest"] and "waited 10 s for it in the last 4 lines" in got["slowest"], "slowest", r.out)
    got, r = page(bench, bench.folder)
    bench.check("a folder of runs" in r.out and re.search(r"run +align +finished +step 8/8", r.out), "folder of runs", r.out)
    bench.check(last["step"] == 8, "steps")


def killed(bench):
    out = bench.folder / "killed"
    p = bench.start(bench.sft_args(out, "epochs=100000", "log_every=1", steps=1000000))
    bench.check(common.until(p, lambda: (out / "metrics.jsonl").is_file() and (out / "metrics.jsonl").read_text().count("\n") > 3), "no metrics")
    got, r = page(bench, out)
    bench.check(got["state"].startswith("running, last heartbeat") and "s a step" in got["left"] and "/1000000" in got["progress"], "running", r.out)
    bench.check("steps 100.0 %" == got["phases"], "phases of sft", r.out)
    try:
        pid, fd = pty.fork()
    except OSError as e: # a root without /dev/pts
        print("skipped: the page in a terminal,", e)
        common.kill_tree(p)
        p.wait()
        return
    if pid == 0:
        os.execv(bench.plumb, [str(bench.plumb), "top", str(out), "refresh=0.1"])
    text = b""
    end = time.monotonic() + 60
    while text.count(b"\x1b[2J") < 3 and time.monotonic() < end:
        if select.select([fd], [], [], 1)[0]:
            text += os.read(fd, 65536)
    bench.check(text.count(b"\x1b[2J") >= 3 and b"again every 0.1 s" in text, "a terminal", text)
    common.kill_tree(p)
    p.wait()
    try: # the page of the killed run is the last one
        while select.select([fd], [], [], 60)[0] and (more := os.read(fd, 65536)):
            text += more
    except OSError:
        pass
    _, status = os.waitpid(pid, 0)
    bench.check(status == 0 and b"killed" in text.split(b"\x1b[2J")[-1], "the end of the run", status, text[-800:])
    got, r = page(bench, out)
    bench.check(got["state"].startswith("killed"), "killed", r.out)


def ranks(bench, base):
    if not bench.mpirun:
        return
    out = bench.folder / "two"
    bench.good(*bench.align_args(out, base, RULE, method="raft", iterations=1), ranks=2)
    got, r = page(bench, out)
    tokens = sum(len(a["ids"]) for a in common.rollout_answers(out, 1))
    m = re.match(r"rank (\d) on \S+ generated (\d+) tokens in iteration 1, ([\d.]+) x the mean of 2 ranks", got.get("most work", ""))
    bench.check(m and abs(float(m.group(3)) - 2 * int(m.group(2)) / tokens) < 0.006, "most work", tokens, r.out)
    bench.check(got["ranks"].startswith("2 (mpi)") and got["ranks"].endswith("(2)"), "ranks", r.out)


def broken(bench):
    for args, code, *words in ((["top"], 12, "plumb top DIR"), (["top", "nothere"], 5, "no such folder"), (["top", bench.world], 5, "no run.json"),
                               (["top", bench.folder / "run", "refresh=-1"], 12, "refresh")):
        r = bench.run(*args, threads=None)
        bench.check(r.code == code and all(w in r.err for w in words), args, "lacks", words, r)
    out = bench.folder / "broken"
    shutil.copytree(bench.folder / "run", out, symlinks=True)
    (out / "metrics.jsonl").write_text("")
    got, r = page(bench, out)
    bench.check(got["progress"] == "no line of metrics yet", "no metrics", r.out)
    (out / "run.json").write_text('{"sessions": [{"hosts": 5, "world_size": -3, "weights": [1], "start": 7}]}')
    bench.check(bench.run("top", out, threads=None).code == 0, "an odd run.json")
    (out / "run.json").write_text('{"sessions": [')
    r = bench.run("top", out, threads=None)
    bench.check(r.code not in (0, None) and "run.json" in r.err, "a broken run.json", r)


def test(bench):
    base = bench.base()
    finished(bench, base)
    killed(bench)
    ranks(bench, base)
    broken(bench)


signal.signal(signal.SIGHUP, signal.SIG_IGN)
common.main(test)
