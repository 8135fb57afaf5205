#!/usr/bin/env python3
"""Checks `plumb compare`: means, intervals and differences over seeds against Python's statistics. Runs that
cannot be compared are refused with the reason, and are compared if compare.allow names it. Two ranks print the
same bytes as one."""
import json
import math
import re
import shutil
import statistics

import common

SEEDS = (1, 2, 3)
T = {1: 12.706, 2: 4.303}  # {degrees of freedom: 97.5 % quantile of Student's t}
FIGURES = ("reward", "win_rate", "lc_win_rate", "kl", "mean_length", "distinct_1", "distinct_2", "self_repetition")


def make(bench, start, reward, name, seed, *more, method="dpo"):
    out = bench.folder / "runs" / f"{name}{seed}"
    bench.good(*bench.align_args(out, start, f"reward.model={reward}", f"seed={seed}", "checkpoint.every=0", "samples=0",
                                 "report.html=false", *more, method=method, prompts=8))
    bench.good("eval", f"data.eval={bench.world}/eval.jsonl", "data.limit=12", f"reward.model={reward}", "max_new_tokens=12",
               f"eval.models=start={start},{name}={out}/latest", f"output_dir={out}/eval", f"seed={seed}", "report.html=false",
               "eval.bootstrap=10")
    return out


def evaluated(run):
    return json.loads((run / "eval/eval.json").read_text())["models"][1]


def check_means(bench, found, runs):
    for method in found["methods"]:
        mine = runs[method["name"]]
        bench.check(method["runs"] == [str(r) for r in mine] and len(method["seeds"]) == len(mine), "runs of", method["name"], method)
        for key in FIGURES:
            values = [evaluated(r)[key] for r in mine]
            got = method[key]
            want = statistics.mean(values), statistics.stdev(values), T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
            bench.check(all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in
                            zip((got["mean"], got["std"], got["half_width"]), want)), method["name"], key, got, want)
            bench.check(got["values"] == values and got["n"] == len(values), method["name"], key, "values", got)
        tokens = [sum(8 * 4 * r["completions/mean_length"] for r in common.metrics(run)) for run in mine]
        bench.check(method["generated_tokens"]["values"] == tokens, "generated tokens", method["generated_tokens"], tokens)
        last = [common.metrics(run)[-1]["reward" if "psle" not in method["name"] else "psle/reward_plain"] for run in mine]
        bench.check(method["last_reward"]["values"] == last, "last reward", method["last_reward"], last)


def figures(bench, runs):
    folders = [str(r) for rs in runs.values() for r in rs]
    out = bench.folder / "compare"
    shown = bench.good("compare", *folders, f"output_dir={out}", threads=None).out
    text = (out / "compare.json").read_bytes()
    check_means(bench, json.loads(text), runs)
    markdown, page = (out / "compare.md").read_text(), (out / "report.html").read_text()
    for name in ("start", *runs):
        bench.check(all(name in t for t in (shown, markdown, page)), "a text lacks", name)
    # a cell is the mean of (row - column) over the seeds
    a, b = ([evaluated(r)["reward"] for r in runs[name]] for name in ("dpo", "psle"))
    gaps = [x - y for x, y in zip(a, b)]
    cell = f"{statistics.mean(gaps):.3f} +- {T[2] * statistics.stdev(gaps) / math.sqrt(3):.3f}"
    row = next(line for line in markdown.split("## Differences")[1].splitlines() if line.startswith("| dpo |"))
    bench.check(cell in row, "difference of dpo and psle:", cell, "not in", row)
    for title in ("Reward, plain prompts", "KL to the start", "Completion length"):
        curves = page.split("<h2>Curves</h2>")[1]
        figure = curves[curves.index(f"<b>{title}</b>"):].split("</figure>")[0]
        bench.check(figure.count('class="band"') == len(runs), "bands of", title, figure.count('class="band"'))
    ends = page.split("<h2>At the end</h2>")[1].split("<h2>")[0]
    bench.check(ends.count('class="dot"') == 4 * len(runs) and ends.count('class="ring"') == 4 * 8, "intervals at the end",
                ends.count('class="dot"'), ends.count('class="ring"'))
    order = sorted(runs, key=lambda name: -statistics.mean(evaluated(r)["reward"] for r in runs[name]))
    methods = page.split("<h2>Methods</h2>")[1]
    bench.check(re.findall(r"<tr[^>]*><td>([^<]+)</td>", methods)[:1 + len(order)] == ["start", *order], "rows are not in order of the reward", order)
    settings = page.split("<summary>Settings</summary>")[1].split("</table>")[0]
    bench.check(all(f"<td>{v}</td>" in settings for v in ("psle", "0.003")), "settings", settings)
    bench.check(all(f"<td>{r}</td>" in page for rs in runs.values() for r in rs), "a run is not named")
    # the commit is "unknown" in a build without git
    commit = json.loads((runs["dpo"][0] / "run.json").read_text())["commit"]
    bench.check(f"commit of the runs</dt><dd>{commit}<" in page, "the page does not name the commit", commit)
    bench.check(not re.search(r"\bnan\b|\binf\b", page), "the page shows a number that is none")
    if bench.mpirun:
        bench.good("compare", *folders, f"output_dir={out}2", threads=None, ranks=2)
        for name in ("compare.json", "compare.md", "report.html"):
            bench.same(out / name, bench.folder / "compare2" / name, "compare on 2 ranks")
    named = ",".join(f"{n}={r}" for n, rs in (("A", runs["dpo"]), ("B", runs["psle"])) for r in rs)
    bench.check("A" in bench.good("compare", f"compare.runs={named}", threads=None).out.split(), "names of rows")


def refusals(bench, start, reward, base):
    words = bench.folder / "more"
    bench.good(*bench.sft_args(words, f"model={start}", "train.init=checkpoint", steps=2))
    cases = {
        "start": make(bench, words / "latest", reward, "other", 9),
        "prompts": make(bench, start, reward, "prompts", 9, "data.shuffle=false"),
        "budget": make(bench, start, reward, "budget", 9, "max_new_tokens=8"),
        "reward": make(bench, start, reward, "reward", 9, "reward.append_eos=false"),
    }
    for aspect, run in cases.items():
        result = bench.run("compare", base, run, threads=None)
        bench.check(result.code == 12 and f"differ in {aspect}" in result.err and str(base) in result.err and str(run) in result.err,
                    aspect, "is not refused:", result)
        bench.check(bench.run("compare", base, run, f"compare.allow={aspect}", threads=None).code == 0, aspect, "cannot be allowed")
    # A file counts as the same if its contents are the same, whatever its name.
    pairs = bench.folder / "copy.jsonl"
    shutil.copy(bench.world / "prompts.jsonl", pairs)
    moved = make(bench, start, reward, "moved", 9, f"data.prompts={pairs}")
    bench.good("compare", base, moved, threads=None)
    pairs.write_text("".join(pairs.read_text().splitlines(keepends=True)[::-1]))
    changed = make(bench, start, reward, "changed", 8, f"data.prompts={pairs}")
    result = bench.run("compare", moved, changed, threads=None)
    bench.check(result.code == 12 and "differ in prompts: data.prompts is of one content" in result.err, "other contents:", result)
    # Fewer iterations with more prompts each have the same budget of answers.
    shape = make(bench, start, reward, "shape", 9, "iterations=1", "prompts_per_iteration=16")
    result = bench.good("compare", base, shape, threads=None)
    bench.check("iterations 1" in result.out, "a row is not named by its setting:", result.out)
    broken = bench.folder / "unfinished"
    shutil.copytree(shape, broken, symlinks=True)
    run = json.loads((broken / "run.json").read_text())
    run["sessions"][-1]["result"] = None
    (broken / "run.json").write_text(json.dumps(run))
    evaluation = json.loads((broken / "eval/eval.json").read_text())
    evaluation["models"][1]["path"] = str(broken / "latest")
    (broken / "eval/eval.json").write_text(json.dumps(evaluation))
    result = bench.run("compare", base, broken, threads=None)
    bench.check(result.code == 12 and "has not ended" in result.err, "an unfinished run:", result)
    bench.check(bench.run("compare", base, broken, "compare.allow=unfinished", threads=None).code == 0, "unfinished cannot be allowed")
    foreign = shutil.copytree(base, bench.folder / "foreign", symlinks=True)
    for args, code, text in (((base, base), 12, "are the same run"), ((words,), 7, "a run of sft"), ((bench.world,), 5, "holds no run.json"),
                             ((bench.folder / "nowhere",), 5, "there is no folder"), ((), 12, "name the folders"),
                             ((base, "compare.allow=everything"), 12, "expected start"), ((foreign,), 6, "evaluates no model"),
                             ((base, "compare.evaluation=none"), 0, "")):
        result = bench.run("compare", *args, threads=None)
        bench.check(result.code == code and text in result.err, args, "expected", code, text, "got", result)


def test(bench):
    start = bench.base()
    bench.good(*bench.reward_args(bench.folder / "reward", start))
    reward = bench.folder / "reward" / "latest"
    runs = {"dpo": [make(bench, start, reward, "dpo", s) for s in SEEDS],
            "psle": [make(bench, start, reward, "psle", s, method="psle") for s in SEEDS],
            "dpo, learning_rate 0.003": [make(bench, start, reward, "fast", s, "learning_rate=3e-3") for s in SEEDS[:2]]}
    figures(bench, runs)
    refusals(bench, start, reward, runs["dpo"][0])


common.main(test)
