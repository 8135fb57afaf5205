#!/usr/bin/env python3
"""test_lines.py: checks commands that write JSON lines. The lines are in the order of the input on any number of
ranks, and are written as soon as possible. With resume=auto the command continues after the lines that a killed
command has written."""
import contextlib
import heapq
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import common

# A reward command that prints scores. For a prompt with "wait" it waits until the file that WAIT_FOR
# names exists.
SCORER = """import json, os, sys, time
for line in sys.stdin:
    record = json.loads(line)
    while "wait" in record["prompt"] and not os.path.exists(os.environ["WAIT_FOR"]):
        time.sleep(0.01)
    print(json.dumps({"score": len(record["completion"])}), flush=True)
"""


def write_lines(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def note_of(out):
    return out.with_name(out.name + ".run.json")


def whole_lines(path):
    return path.read_text().count("\n") if path.exists() else 0


def rank_counts(bench):
    return (1, 2, 3, 4) if bench.mpirun else (1,)


class Generate:
    """A model, prompts and options of `plumb generate`, and its output on one rank, with which
    others are compared."""

    def __init__(self, bench, n=30, group=3):
        self.bench, self.n, self.group = bench, n, group
        records = [json.loads(x) for x in (bench.world / "prompts.jsonl").read_text().splitlines()[:n]]
        self.prompts = write_lines(bench.folder / "p.jsonl", [{"prompt": r["prompt"]} for r in records])
        self.args = ["generate", f"model={bench.base()}", f"prompts={self.prompts}", f"group_size={group}", "max_new_tokens=24", "seed=3"]
        self.whole = bench.folder / "whole.jsonl"
        self.result = bench.good(*self.args, "slots=4", f"output={self.whole}", env={"PLUMB_PROGRESS": "plain:0"})
        self.lines = [json.loads(x) for x in self.whole.read_text().splitlines()]


# ---- generate: order, slots, progress -----------------------------------------------------------

def fewest_steps(lengths, slots):
    """Returns the number of decode steps if each slot takes the next sequence as soon as it is free. Each step makes
    one token per slot."""
    free = [0] * slots
    for n in lengths:
        heapq.heappush(free, heapq.heappop(free) + n)
    return max(free)


def same_on_any_ranks(bench, g):
    for ranks in rank_counts(bench):
        for slots in (1, 5, 64):
            out = bench.folder / f"g-{ranks}-{slots}.jsonl"
            bench.good(*g.args, f"slots={slots}", f"output={out}", ranks=ranks)
            bench.same(g.whole, out, f"generate on {ranks} ranks with {slots} slots")
            bench.check(not note_of(out).exists(), "a finished output leaves", note_of(out))
    bench.check([(x["prompt_id"], x["sample"]) for x in g.lines] == [(p, s) for p in range(g.n) for s in range(g.group)], "order of lines")


def slots_are_refilled(bench, g):
    """Checks that slots are refilled over the whole input: no slot waits for the longest answer of a
    part of the input."""
    lengths = [len(x["completion_ids"]) for x in g.lines]
    bench.check(max(lengths) > 2 * min(lengths), "the answers are of about one length:", sorted(lengths))
    said = re.search(r"generate: (\d+) completions, (\d+) tokens in .* per decode step \((\d+) steps of all ranks, 4 slots per rank\)", g.result.err)
    if bench.check(said, "no counts at the end of", g.result.err[-500:]):
        n, tokens, steps = map(int, said.groups())
        bench.check((n, tokens) == (len(lengths), sum(lengths)), "counts", n, tokens, "of", len(lengths), sum(lengths))
        bench.check(steps <= fewest_steps(lengths, 4), "decode steps:", steps, "of at most", fewest_steps(lengths, 4))


def progress(bench, g):
    total = g.n * g.group
    seen = re.findall(rf"^generate: (\d+)/{total} sequences, .* (\d+) running, (\d+) tokens, [\d.]+ tokens/s$", g.result.err, re.M)
    bench.check(len(seen) > total // 4, "progress lines:", len(seen))
    done, running, tokens = ([int(x[k]) for x in seen] for k in range(3))
    bench.check(done == sorted(done) and tokens == sorted(tokens), "progress goes back")
    bench.check(max(running) == 4, "running:", sorted(set(running)))
    first = tokens[done.index(0)] if 0 in done else None
    bench.check(first, "no progress before the first sequence ends:", seen[:3])
    bench.check(re.search(r"sequences, .*\d+ s left", g.result.err), "no time left is said")


def progress_of_align(bench):
    r = bench.good(*bench.align_args(bench.folder / "align", bench.base(), "reward.functions=[{name: length, target: 5}]", iterations=1),
                   env={"PLUMB_PROGRESS": "plain:0"})
    seen = re.findall(r"^generate: (\d+)/64 completions, .* (\d+) running, (\d+) tokens$", r.err, re.M)
    bench.check(seen and int(seen[0][0]) == 0 and max(int(x[1]) for x in seen) == 16, "progress of align's answers:", seen[:3])


# ---- resume ----------------------------------------------------------------------------------------

def cut(g, out, size, noted=0):
    """Makes an output file as a killed command leaves it: its first `size` bytes, and the note
    file with the length at an earlier time."""
    out.write_bytes(g.whole.read_bytes()[:size])
    note = json.loads(note_of(out).read_text())
    if noted == 0:
        note.update(lines=0, hash="0" * 16)
    note_of(out).write_text(json.dumps(note))


def resumes(bench, g):
    out = bench.folder / "resumed.jsonl"
    args = [*g.args, "slots=4", f"output={out}", "resume=auto"]
    bench.good(*args)
    bench.same(g.whole, out, "resume=auto without an output")
    note = note_of(out).read_text()
    again = bench.good(*args)
    bench.check(f"has all of its {len(g.lines)} lines" in again.err, "a complete output:", again.err)
    bench.same(g.whole, out, "resume=auto of a complete output")
    size = g.whole.stat().st_size
    ends = [i + 1 for i, c in enumerate(g.whole.read_bytes()) if c == 10]
    for k, at in enumerate((0, 1, ends[0] - 1, ends[0], ends[1], ends[4] + 7, ends[-2], size - 1)):
        note_of(out).write_text(note)
        cut(g, out, at)
        bench.good(*args, ranks=rank_counts(bench)[k % len(rank_counts(bench))])
        bench.same(g.whole, out, f"resume=auto behind byte {at}")
    cut(g, out, ends[5])
    with out.open("ab") as f: # zero bytes and a damaged line, as a power failure may leave them
        f.write(b"\0" * 300 + b"\n{}\n")
    bench.good(*args)
    bench.same(g.whole, out, "resume=auto behind damaged lines")
    return args, out


def refusals(bench, g, args, out):
    def refuse(what, more, *words, path=out):
        before = path.read_bytes() if path.exists() else None
        r = bench.run(*[a for a in args if a.split("=")[0] not in {m.split("=")[0] for m in more}], *more)
        bench.check(0 < (r.code or 0) < 99 and all(w in r.err for w in words), what, "expected", words, r)
        bench.check((path.read_bytes() if path.exists() else None) == before, what, "changed", path)
    cut(g, out, g.whole.stat().st_size // 2)
    refuse("another seed", ["seed=4"], "seed", "3", "4", str(out))
    refuse("other sampling", ["temperature=0.5"], "generate.temperature", str(out))
    other = write_lines(bench.folder / "other.jsonl", [{"prompt": "ask: hi."}] * g.n)
    refuse("other prompts", [f"prompts={other}"], "data.prompts", str(out))
    kept = g.prompts.read_text()
    g.prompts.write_text(kept.replace("ask", "tell", 1))
    refuse("other content of the prompts", [], "data.prompts", str(out))
    g.prompts.write_text(kept)
    refuse("standard output", ["output=-"], "resume", "standard output", path=bench.folder / "-")
    refuse("a folder to go on from", ["resume=somewhere"], "resume", "somewhere", "auto")
    note = note_of(out).read_text()
    note_of(out).unlink()
    refuse("no note", [], str(out), ".run.json")
    note_of(out).write_text(note)
    bench.good(*args)
    text = out.read_text()
    out.write_text(text.replace('"sample":1', '"sample":7', 1))
    refuse("an edited line", [], str(out), "lines")
    out.write_text(text)


def replaces(bench, g):
    """Checks that without resume an existing output file is replaced only when the new file is
    complete."""
    out = bench.folder / "replaced.jsonl"
    out.write_text("mine\n")
    bench.good(*g.args, f"output={out}")
    bench.same(g.whole, out, "an output that was there")
    note_of(out).write_text("{}")
    r = bench.good(*g.args, f"output={out}")
    bench.check("resume=auto would go on" in r.err and str(note_of(out)) in r.err, "no word of an interrupted run:", r.err)
    bench.check([p.name for p in bench.folder.glob("replaced*")] == [out.name], "it leaves", list(bench.folder.glob("replaced*")))


# ---- signals to processes ----------------------------------------------------------------------------

class Held:
    """Runs `plumb score` with a reward command that waits at record `at` until a file exists."""

    def __init__(self, bench, name, n=40, at=9):
        self.bench, self.n = bench, n
        self.script, self.go = bench.folder / "scorer.py", bench.folder / f"{name}.go"
        self.script.write_text(SCORER)
        records = [{"prompt": f"{'wait' if i == at else 'say'} {i}", "completion": "x" * i} for i in range(n)]
        self.input = write_lines(bench.folder / f"{name}.jsonl", records)
        self.args = ["score", f"input={self.input}", f"reward.command={sys.executable} {self.script}", "reward.timeout=3600"]
        self.env = {"WAIT_FOR": str(self.go)}
        self.want = "".join(json.dumps({"score": i}, separators=(",", ":")) + "\n" for i in range(n))

    def start(self, *more, ranks=1):
        return self.bench.start([*self.args, *more], ranks=ranks, env=self.env)

    def finish(self, *more, ranks=1):
        self.go.write_text("")
        return self.bench.good(*self.args, *more, ranks=ranks, env=self.env)


def killed(bench):
    held, out = Held(bench, "killed"), bench.folder / "killed.out"
    p = held.start(f"output={out}")
    common.until(p, lambda: whole_lines(out) > 0)
    common.kill_tree(p)
    p.communicate()
    left = out.read_text()
    bench.check(left and left == held.want[:len(left)] and left.endswith("\n") and left != held.want, "a kill left", left)
    r = held.finish(f"output={out}", "resume=auto")
    bench.check(f"has {left.count(chr(10))} of {held.n} lines" in r.err, "going on:", r.err)
    bench.check(out.read_text() == held.want, "after a kill and a resume:", out.read_text())


def signal_ranks(p, number):
    """Sends a signal to every plumb process, as Slurm does. Returns the number of processes."""
    found = 0
    for pid in (p.pid, *common.descendants(p.pid)):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "plumb\n":
                os.kill(pid, number)
                found += 1
    return found


def stopped(bench, number, ranks):
    """Checks that SIGTERM and SIGUSR1 end the command with exit code 99, after it has written the
    finished lines."""
    name = f"stopped-{number}-{ranks}"
    held, out = Held(bench, name, n=400), bench.folder / f"{name}.out"
    p = held.start(f"output={out}", ranks=ranks)
    common.until(p, lambda: whole_lines(out) > 0)
    bench.check(signal_ranks(p, number) == ranks, "there are not", ranks, "ranks to send a signal to")
    held.go.write_text("")
    err = p.communicate(timeout=common.LIMIT)[1].decode()
    left = out.read_text()
    bench.check(p.returncode == 99 and "stopped by a signal" in err and "resume=auto" in err, name, p.returncode, err)
    bench.check(left == held.want[:len(left)] and left != held.want, name, "left", left)
    held.finish(f"output={out}", "resume=auto", ranks=ranks)
    bench.check(out.read_text() == held.want, name, "after a resume:", out.read_text())


def generating(bench):
    """Checks that `generate` says how many lines it has written when a signal ends it. Its answers take far longer than the test."""
    out = bench.folder / "generating.out"
    for ranks in rank_counts(bench)[:2]:
        p = bench.start(["generate", f"model={bench.base()}", f"prompts={bench.world}/prompts.jsonl", f"output={out}", "resume=auto",
                         "group_size=4096", "max_new_tokens=200", "ignore_eos=true", "slots=4"], ranks=ranks)
        common.until(p, lambda: whole_lines(out) > 0)
        signal_ranks(p, signal.SIGUSR1)
        err = p.communicate(timeout=common.LIMIT)[1].decode()
        words = f"stopped by a signal after {whole_lines(out)} of {128 * 4096} lines; resume=auto goes on behind them"
        bench.check(p.returncode == 99 and words in err, "generate ended by a signal:", p.returncode, err[-500:])
        for path in (out, note_of(out)):
            path.unlink()


def failed(bench):
    """Checks that a reward command that ends early ends the run, and that lines scored before stay in the
    output."""
    held, out = Held(bench, "failed", n=100, at=30), bench.folder / "failed.out"
    held.script = bench.folder / "dying.py"
    held.args[2] = f"reward.command={sys.executable} {held.script}"
    held.script.write_text(SCORER.replace("    while", "    if 'wait' in record['prompt'] and not os.path.exists(os.environ['WAIT_FOR']): sys.exit(3)\n    while"))
    for ranks in rank_counts(bench)[:2]:
        r = bench.run(*held.args, "reward.restarts=0", f"output={out}", env=held.env, ranks=ranks)
        left = out.read_text() if out.exists() else ""
        bench.check(r.code == 5 and "dying.py" in r.err, "a command that dies:", r)
        bench.check(left and left == held.want[:len(left)] and left != held.want, "after a failure on", ranks, "ranks:", left)
        r = bench.run(*held.args, "reward.restarts=0", f"output={out}", "resume=auto", env=held.env, ranks=ranks)
        bench.check(r.code == 5 and f"has {left.count(chr(10))} of 100 lines" in r.err, "a resume that fails again:", r)
        bench.check(out.read_text().startswith(left), "a resume that fails lost lines")
        held.finish("reward.restarts=0", f"output={out}", "resume=auto", ranks=ranks)
        bench.check(out.read_text() == held.want, "after a failure and a resume:", out.read_text())
        for path in (out, note_of(out), held.go):
            path.unlink()


def one_writer(bench):
    held, out = Held(bench, "busy"), bench.folder / "busy.out"
    p = held.start(f"output={out}")
    common.until(p, lambda: whole_lines(out) > 0)
    r = bench.run(*held.args, f"output={out}", "resume=auto", env=held.env)
    bench.check(r.code == 13 and "another process" in r.err, "two writers:", r)
    held.go.write_text("")
    bench.check(p.wait(common.LIMIT) == 0 and out.read_text() == held.want, "the first of two writers")
    p.communicate()


# ---- eval --------------------------------------------------------------------------------------------

def evals(bench):
    """Checks that a killed eval keeps each model's answers and scores, and that the resumed eval writes the same figures and
    files."""
    first, held = bench.base(), bench.folder / "held.jsonl"
    other = bench.folder / "other"
    bench.good(*bench.sft_args(other, steps=3))
    texts = [json.loads(x)["prompt"] for x in (bench.world / "prompts.jsonl").read_text().splitlines()[:12]]
    write_lines(held, [{"prompt": ("wait " if i == 5 else "") + t} for i, t in enumerate(texts)])
    script, go = bench.folder / "eval_scorer.py", bench.folder / "eval.go"
    script.write_text(SCORER)
    args = ["eval", f"data.eval={held}", f"eval.models=a={first},b/1={other}/latest", "eval.samples=2", "max_new_tokens=12", "slots=5",
            f"reward.command={sys.executable} {script}", "reward.timeout=3600", "eval.bootstrap=50"]
    env = {"WAIT_FOR": str(go)}
    cut = bench.folder / "eval-cut"
    files = ("answers.a.jsonl", "scores.a.jsonl", "answers.b%2F1.jsonl", "scores.b%2F1.jsonl")
    p = bench.start([*args, f"output_dir={cut}"], env=env)
    common.until(p, lambda: whole_lines(cut / "scores.a.jsonl") > 0)
    common.kill_tree(p)
    p.communicate()
    left = (cut / "scores.a.jsonl").read_text()
    bench.check(whole_lines(cut / "answers.a.jsonl") == 24 and 0 < whole_lines(cut / "scores.a.jsonl") <= 10, "a killed eval left", left)
    go.write_text("")
    whole = bench.folder / "eval-whole"
    shown = bench.good(*args, f"output_dir={whole}", env={**env, "PLUMB_PROGRESS": "plain:0"})
    for unit in ("a: answers", "a: scores", "b/1: answers", "b/1: scores"):
        bench.check(re.search(rf"^{unit}: \d+/24 answers", shown.err, re.M), "no progress of", unit, shown.err[-600:])
    r = bench.good(*args, f"output_dir={cut}", "resume=auto", ranks=rank_counts(bench)[-1], env=env)
    bench.check("answers.a.jsonl has all of its 24 lines" in r.err and f"has {left.count(chr(10))} of 24 lines" in r.err, "going on:", r.err)
    bench.check(r.out == shown.out, "tables of a resumed eval:", r.out)
    for name in (*files, "eval.json", "report.html"):
        bench.same(whole / name, cut / name, "eval after a kill and a resume")
    kept = [json.loads(x) for x in (whole / "answers.a.jsonl").read_text().splitlines()]
    bench.check([(x["prompt_id"], x["sample"]) for x in kept] == [(i // 2, i % 2) for i in range(24)], "order of eval's answers")
    bad = bench.run(*args, f"output_dir={cut}", "resume=auto", "temperature=0.5", env=env)
    bench.check(bad.code == 12 and "temperature" in bad.err, "eval resumed with another temperature:", bad)
    bad = bench.run(*args, "resume=auto", env=env)
    bench.check(bad.code == 12 and "output_dir" in bad.err, "eval resumed without output_dir:", bad)


# ---- pipes -------------------------------------------------------------------------------------------

def streams(bench):
    """Checks that a line is written to a pipe before the next line is generated."""
    held = Held(bench, "stream", at=1)
    p = held.start("output=-")
    first = p.stdout.readline().decode()
    held.go.write_text("")
    rest = p.communicate(timeout=common.LIMIT)[0].decode()
    bench.check(p.returncode == 0 and first + rest == held.want, "through a pipe:", first, rest)


def descriptor(bench):
    """Checks that output=/dev/stdout means standard output, also if standard output is a file."""
    held, out = Held(bench, "descriptor", at=-1), bench.folder / "descriptor.out"
    with out.open("wb") as f:
        f.write(b"before\n")
        f.flush()
        done = subprocess.run([bench.plumb, *held.args, "output=/dev/stdout"], stdout=f, stderr=subprocess.PIPE, timeout=common.LIMIT, check=False)
    bench.check(done.returncode == 0 and out.read_text() == "before\n" + held.want, "/dev/stdout:", out.read_text(), done.stderr.decode())


def reader_gone(bench):
    """Checks that every rank ends with an error if the reader of the pipe ends."""
    texts = write_lines(bench.folder / "many.jsonl", [{"text": "what does the bread cost? " * 20}] * 3000)
    args = ["tokenize", f"model={bench.world}", f"input={texts}"]
    p = subprocess.Popen([bench.plumb, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=bench.folder)
    p.stdout.readline()
    p.stdout.close()
    err = p.stderr.read().decode()
    bench.check(p.wait(common.LIMIT) == 5 and "standard output" in err and "pipe" in err.lower(), "a closed pipe:", p.returncode, err)
    p.stderr.close()
    if not bench.mpirun:
        return
    fifo = bench.folder / "fifo"
    os.mkfifo(fifo)
    p = bench.start([*args, f"output={fifo}"], ranks=2, threads=None)
    with fifo.open("rb") as reader:
        reader.readline()
    err = p.communicate(timeout=common.LIMIT)[1].decode()
    bench.check(0 < p.returncode < 99 and str(fifo) in err and "pipe" in err.lower(), "a closed fifo:", p.returncode, err)


def test(bench):
    g = Generate(bench)
    same_on_any_ranks(bench, g)
    slots_are_refilled(bench, g)
    progress(bench, g)
    progress_of_align(bench)
    args, out = resumes(bench, g)
    refusals(bench, g, args, out)
    replaces(bench, g)
    killed(bench)
    failed(bench)
    generating(bench)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        for ranks in (1, 2) if bench.mpirun else (1,):
            stopped(bench, number, ranks)
    one_writer(bench)
    evals(bench)
    streams(bench)
    descriptor(bench)
    reader_gone(bench)


if __name__ == "__main__":
    common.main(test)
