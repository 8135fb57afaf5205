#!/usr/bin/env python3
"""test_monitor.py: checks report.to in whole runs. The outputs have the steps of metrics.jsonl, also after
kills and resumes and on several ranks. Unknown outputs are refused. A monitor that fails does not end
the run."""
import json
import re
import shutil
import struct
import time

import common

ALL = "report.to=tensorboard,prometheus,mlperf"
RULE = "reward.functions=[{name: length, target: 6}]"


def events(out):
    """Reads the TensorBoard event file of a run with own code. Returns a list of (step, {tag:
    value}). Fails if there are several files."""
    files = list((out / "tensorboard").iterdir())
    assert len(files) == 1, files
    raw, at, found = files[0].read_bytes(), 0, []
    while at < len(raw):
        n = struct.unpack_from("<Q", raw, at)[0]
        data = raw[at + 12:at + 12 + n]
        at += n + 16
        i, step, tags = 9, 0, {}
        if data[i] == 0x10:
            i, shift = i + 1, 0
            while True:
                step |= (data[i] & 127) << shift
                i, shift = i + 1, shift + 7
                if data[i - 1] < 128:
                    break
        if data[i] == 0x1A:
            continue  # the file version, not a step
        for m in re.finditer(rb"\x0a(.)([a-z_/A-Z0-9]+)\x15(....)", data[i:], re.S):
            if m.group(1)[0] == len(m.group(2)):
                tags[m.group(2).decode()] = struct.unpack("<f", m.group(3))[0]
        found.append((step, tags))
    assert at == len(raw)
    return found


def check(bench, out, what, status="success"):
    """Checks the outputs against metrics.jsonl."""
    rows, seen = common.metrics(out), events(out)
    bench.check([r["step"] for r in rows] == [s for s, _ in seen], what, "steps", [s for s, _ in seen])
    for row, (_, tags) in zip(rows, seen):
        want = {k: v for k, v in row.items() if k not in ("step", "iteration", "weights") and v is not None}
        good = set(want) <= set(tags) and all(abs(tags[k] - v) <= 1e-6 * abs(v) + 1e-30 for k, v in want.items())
        bench.check(good, what, "values", want, tags)
    prom = (out / "metrics.prom").read_text()
    values = {m.group(1): float(m.group(2)) for m in re.finditer(r"^plumb_(\w+)\{[^}]*\} (\S+)$", prom, re.M)}
    bench.check(values["step"] == rows[-1]["step"] and values["running"] == 0, what, "metrics.prom", values)
    bench.check(abs(values["loss"] - rows[-1]["loss"]) < 1e-12, what, "loss in metrics.prom", values)
    lines = (out / "mlperf.log").read_text().splitlines()
    log = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
    bench.check(all(line.startswith(":::MLLOG {") for line in lines), what, "mlperf.log", lines)
    bench.check(log[-1]["key"] == "run_stop" and log[-1]["metadata"]["status"] == status, what, "run_stop", log[-1])
    values = {x["key"]: x["value"] for x in log}
    bench.check(values["max_steps"] >= rows[-1]["step"] and values["train_samples"] > 0, what, "sizes in mlperf.log", values)
    if "num_prompts_per_step" in values: # only align writes this member
        bench.check(values["global_batch_size"] == values["num_prompts_per_step"] * values["num_generations_per_prompt"] == 32, what, "batch", values)
    bench.check(all(x["metadata"]["samples_count"] == x["metadata"]["step"] * values["global_batch_size"] for x in log if "step" in x["metadata"]), what, "samples_count")
    bench.check([x["time_ms"] for x in log] == sorted(x["time_ms"] for x in log), what, "times")


def resumed(bench, base):
    """Checks that after many interruptions the outputs have each step once."""
    out, held = bench.folder / "cut", bench.folder / "held.jsonl"
    shutil.copy(bench.world / "sft.jsonl", held)
    common.head(held, 40)
    *cuts, r = bench.in_sessions(*bench.sft_args(out, ALL, "log_every=1", f"data.eval={held}", "train.eval_every=4", steps=12))
    bench.check(r.code == 0 and len(cuts) > 1, "sessions", len(cuts), r)
    check(bench, out, "resumed sft")
    starts = (out / "mlperf.log").read_text().count('"key": "run_start"')
    bench.check(starts > 1, "mlperf.log has", starts, "starts")
    whole, back = bench.folder / "whole", bench.folder / "back"
    bench.good(*bench.align_args(whole, base, RULE, ALL, method="raft", iterations=4))
    check(bench, whole, "align")
    bench.check(not (whole / "metrics.prom.tmp").exists() and "plumb_planned_iterations{" in (whole / "metrics.prom").read_text(), "metrics.prom")
    first = events(whole)
    common.rewind(whole, back, common.metrics(whole)[2]["step"])
    bench.good(*bench.align_args(back, base, RULE, ALL, "resume=auto", method="raft", iterations=4))
    check(bench, back, "killed behind its checkpoint")
    bench.check(repr(events(back)[:3]) == repr(first[:3]), "events before the kill changed")
    plain = bench.folder / "plain"
    bench.good(*bench.sft_args(plain, steps=6))
    bench.good(*bench.sft_args(plain, ALL, "resume=auto", steps=6))
    check(bench, plain, "report.to given later")


def refused(bench):
    for more, *words in ((["report.to=tensorbord"], "'tensorbord' is no output", "tensorboard"), (["report.to=none,mlperf"], "none alone"),
                         (["report.to=wandb"], "metrics.jsonl"), (["prometheus_file=x.prom"], "report.to does not name prometheus"),
                         (["report.to=prometheus", "prometheus_file=no/x.prom"], "there is no folder no"), (["report_to=tensorboard"], "report.to")):
        out = bench.folder / "no"
        r = bench.run(*bench.sft_args(out, *more))
        bench.check(r.code not in (0, None) and all(w in r.err for w in words) and not out.exists(), more, "lacks", words, r)
    out, far = bench.folder / "far", bench.folder / "node.prom"
    bench.good(*bench.sft_args(out, "report.to=prometheus", f"prometheus_file={far}"))
    bench.check("plumb_step{" in far.read_text() and not (out / "metrics.prom").exists(), "report.prometheus_file")
    out = bench.folder / "failing"
    r = bench.run(*bench.sft_args(out, "report.to=none"))
    bench.check(r.code == 0 and not (out / "tensorboard").exists() and not (out / "mlperf.log").exists(), "none", r)


def killed(bench):
    """Checks a killed run. It cannot write that it has ended; the time of its last write shows
    it."""
    out = bench.folder / "killed"
    p = bench.start(bench.sft_args(out, "report.to=prometheus", "log_every=1", "epochs=100000", steps=1000000))
    prom = out / "metrics.prom"
    bench.check(common.until(p, lambda: prom.is_file() and (out / "metrics.jsonl").read_text().count("\n") > 2), "no metrics")
    common.kill_tree(p)
    p.wait()
    now, text = time.time(), prom.read_text()
    values = {m.group(1): float(m.group(2)) for m in re.finditer(r"^plumb_(\w+)\{[^}]*\} (\S+)$", text, re.M)}
    bench.check(values["running"] == 1 and now - 600 < values["last_update_timestamp_seconds"] <= now, "metrics.prom of a killed run", values, now)
    bench.check(re.search(r"^# HELP plumb_running .*plumb_last_update_timestamp_seconds", text, re.M), "the help of plumb_running")
    r = bench.run(*bench.sft_args(out, "report.to=prometheus", "log_every=1", "epochs=100000", "resume=auto", "max_time=0.1", steps=1000000))
    bench.check(r.code == 99 and re.search(r"^plumb_running\{.*\} 0$", prom.read_text(), re.M), "after the resumed session")


def ranks(bench):
    if not bench.mpirun:
        return
    one, two = bench.folder / "one", bench.folder / "two"
    for out, n in ((one, 1), (two, 2)):
        bench.good(*bench.sft_args(out, ALL, steps=4), ranks=n)
        check(bench, out, f"{n} ranks")
    bench.same(one / "latest/model.safetensors", two / "latest/model.safetensors", "report.to")
    bench.check('plumb_ranks{' in (two / "metrics.prom").read_text(), "ranks")
    shutil.rmtree(two)


def test(bench):
    base = bench.base()
    resumed(bench, base)
    refused(bench)
    killed(bench)
    ranks(bench)


common.main(test)
