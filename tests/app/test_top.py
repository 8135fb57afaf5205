#!/usr/bin/env python3
"""test_top.py: checks `plumb top` on runs that are finished, running, killed and damaged, and on folders without
a run. In a terminal it must refresh its page until the run ends."""
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
    """Returns the rows that `plumb top` prints, as {name of the row: text}."""
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
    # The save of the last step comes after the last line of metrics, and must be counted.
    session = json.loads((out / "run.json").read_text())["sessions"][-1]
    share = re.search(r"saving took ([\d.]+) %", page(bench, out)[0]["saved"])
    want = 100 * session["save_seconds"] / max(session["seconds"], 0.1)
    bench.check(session["save_seconds"] > last["time/checkpoints"], "the last save", session, last)
    bench.check(share and abs(float(share.group(1)) - min(want, 100)) < 0.06, "share of saves", share, want)
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
    except OSError as e: # there may be no /dev/pts
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
    try: # reads until the page shows the killed run
        while select.select([fd], [], [], 60)[0] and (more := os.read(fd, 65536)):
            text += more
    except OSError:
        pass
    _, status = os.waitpid(pid, 0)
    bench.check(status == 0 and b"killed" in text.split(b"\x1b[2J")[-1], "the end of the run", status, text[-800:])
    got, r = page(bench, out)
    bench.check(got["state"].startswith("killed"), "killed", r.out)


def quiet(bench):
    """Checks the page of a finished sft: it shows steps and speed. It does so also if the last line of
    metrics is older than the last checkpoint, as after a kill between two lines."""
    out = bench.folder / "quiet"
    bench.good(*bench.sft_args(out, steps=8))
    for lines in (3, 1): # metrics.jsonl has lines for the steps 1, 5 and 8
        text = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
        bench.check(len(text) == 3, "lines", len(text))
        (out / "metrics.jsonl").write_text("".join(text[:lines]))
        got, r = page(bench, out)
        bench.check(got["progress"] == "[##############################] 100 %  step 8/8" and got["state"] == "finished", "progress of", lines, "lines", r.out)
        bench.check(re.fullmatch(rf"[\d.e-]+ s a step in the last {lines} lines?", got["speed"]), "speed of", lines, "lines", r.out)
        bench.check(re.search(r" quiet +sft +finished +step 8/8", bench.good("top", bench.folder, threads=None).out), "the line of", lines, "lines")
        rows = common.metrics(out)
        before = [0, *(row["num_tokens"] for row in rows)]
        seconds = sum((row["num_tokens"] - b) / row["tokens_per_second"] for row, b in zip(rows, before))
        speed = float(got["speed"].split()[0])
        bench.check(abs(speed - seconds / rows[-1]["step"]) < 0.01 * speed, "speed", speed, seconds)


def set_up(bench):
    """Checks that the first line of metrics counts only messages and waits after the set-up: no more messages than
    the second line, and no longer waits than the line's time."""
    if not bench.mpirun:
        return
    out = bench.folder / "set-up"
    bench.good(*bench.sft_args(out, "log_every=1", steps=3), ranks=2)
    rows = common.metrics(out)
    sent = [row["comm/messages"] for row in rows]
    bench.check(0 < sent[0] <= sent[1] == sent[2], "messages", sent)
    before = 0
    for row in rows:
        seconds = (row["num_tokens"] - before) / row["tokens_per_second"]
        before = row["num_tokens"]
        bench.check(row["time/wait"] + row["time/exchange"] <= seconds * (1 + 1e-9), "waits of", row["time/wait"], row["time/exchange"], "in", seconds, "s")
    got, r = page(bench, out)
    bench.check(sum(float(x) for x in re.findall(r"([\d.]+) %", got["rank 0"])) <= 100.1, "shares of rank 0", r.out)


def ranks(bench, base):
    if not bench.mpirun:
        return
    out = bench.folder / "two"
    bench.good(*bench.align_args(out, base, RULE, method="raft", iterations=1), ranks=2)
    got, r = page(bench, out)
    tokens = sum(len(a["ids"]) for a in common.rollout_answers(out, 1))
    m = re.match(r"rank (\d) on \S+ generated (\d+) tokens in iteration 1, ([\d.]+) x the mean of 2 ranks", got.get("most work", ""))
    bench.check(m and abs(float(m.group(3)) - 2 * int(m.group(2)) / tokens) < 0.006, "most work", tokens, r.out)
    idle = re.fullmatch(r"rollout ([\d.]+) % \(rank \d: ([\d.]+) %\), reward .*, reference .*, train ([\d.]+) % .* of the phase", got.get("idle", ""))
    row = common.metrics(out)[-1]
    bench.check(idle and abs(float(idle.group(1)) - 100 * row["comm/idle_rollout"]) < 0.06 and float(idle.group(2)) >= float(idle.group(1))
                and abs(float(idle.group(3)) - 100 * row["comm/idle_train"]) < 0.06, "idle", r.out, row)
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
    bench.check("100 %  step 8/8" in got["progress"] and got["last line"].startswith("none yet"), "no metrics", r.out)
    run = json.loads((out / "run.json").read_text())
    run["sessions"][-1].update(weights={}, result=None)
    (out / "run.json").write_text(json.dumps(run))
    got, r = page(bench, out)
    bench.check(got["progress"] == "no line of metrics yet", "no metrics and no checkpoint", r.out)
    (out / "load.jsonl").write_text('{"step": 1, "iteration": 1, "idle/rollout": [1, 0]}\n')
    r = bench.run("top", out, threads=None)
    bench.check(r.code not in (0, None) and "load.jsonl" in r.err, "a broken load.jsonl", r)
    (out / "load.jsonl").unlink()
    (out / "run.json").write_text('{"sessions": [{"hosts": 5, "world_size": -3, "weights": [1], "start": 7}]}')
    bench.check(bench.run("top", out, threads=None).code == 0, "an odd run.json")
    (out / "run.json").write_text('{"sessions": [')
    r = bench.run("top", out, threads=None)
    bench.check(r.code not in (0, None) and "run.json" in r.err, "a broken run.json", r)


def test(bench):
    base = bench.base()
    finished(bench, base)
    quiet(bench)
    killed(bench)
    set_up(bench)
    ranks(bench, base)
    broken(bench)


signal.signal(signal.SIGHUP, signal.SIG_IGN)
common.main(test)
