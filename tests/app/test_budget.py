#!/usr/bin/env python3
"""Checks train.generated_tokens. Methods with answers of different lengths generate the same number of tokens. This number
does not depend on the number of ranks or on a kill. The schedule of a threshold follows the tokens. compare checks the
budget."""
import json
import shutil

import common

TOKENS = 4000
# relative tolerance: half a batch of 8 prompts is 4 % of the budget, and lengths change from
# iteration to iteration
WITHIN = 0.05


def args(bench, out, *more, method="dpo", target=14, tokens=TOKENS, iterations=12):
    return bench.align_args(out, bench.base(), f"reward.functions=[{{name: length, target: {target}}}]", f"generated_tokens={tokens}",
                            "samples=0", "report.html=false", "checkpoint.keep_last=0", *more, method=method, iterations=iterations,
                            prompts=20)


def answered(out, iteration):
    """Returns (number of tokens of an iteration's answers, number of prompts that they answer)."""
    answers = common.rollout_answers(out, iteration)
    return sum(len(a["ids"]) for a in answers), len({a["record"] for a in answers})


def counts(bench, runs):
    """Checks that the tokens in the metrics are those in the rollout files and near the budget, and that the methods have
    different lengths."""
    lengths = {}
    for name, out in runs.items():
        rows = common.metrics(out)
        total, sizes = 0, []
        for row in rows:
            tokens, n = answered(out, row["iteration"])
            total += tokens
            sizes.append(n)
            bench.check(row["generated_tokens"] == total, name, "iteration", row["iteration"], "counts", row["generated_tokens"], "of", total)
        bench.check(abs(total / TOKENS - 1) <= WITHIN, name, "generated", total, "tokens of", TOKENS)
        whole = sizes.count(20)
        bench.check(sizes[:whole] == whole * [20] and whole >= 3 and min(sizes) >= 4, name, "took prompts:", sizes)
        lengths[name] = total / sum(sizes) / 4
    bench.check(max(lengths.values()) > 1.15 * min(lengths.values()), "the methods' answers are alike:", lengths)


def schedule(bench, out):
    """Checks that the quantile of the threshold follows the number of generated tokens, from its start value in
    the first iteration to its end value in the last."""
    bench.good(*args(bench, out, "threshold=quantile", "quantile_start=0", "quantile_end=1", "learning_rate=1e-4", method="psle"))
    rows = common.metrics(out)
    bench.check(len(rows) >= 4 and rows[0]["psle/tau"] < rows[0]["psle/margin_q50"], "the schedule does not begin at 0:", rows[0])
    bench.check(rows[-1]["psle/tau"] > rows[-1]["psle/margin_q50"], "the schedule does not come to its end:", rows[-1])


def renewed(bench, out):
    """Checks that answers that optune uses again are not counted."""
    bench.good(*args(bench, out, "method.renew=0.4", "kl_to_start=false", method="optune", iterations=30))
    rows = common.metrics(out)
    done = [b["generated_tokens"] - a["generated_tokens"] for a, b in zip(rows, rows[1:])]
    bench.check(len(rows) > 6 and max(done) < 0.6 * rows[0]["generated_tokens"], "tokens of optune's iterations:", done)
    bench.check(abs(rows[-1]["generated_tokens"] / TOKENS - 1) <= WITHIN, "optune generated", rows[-1]["generated_tokens"])
    bench.check(all(answered(out, r["iteration"])[1] == 20 for r in rows), "optune's prompts do not stay")


def limits(bench):
    short = bench.folder / "short"
    err = bench.good(*args(bench, short, iterations=2)).err
    bench.check("train.iterations: all 2 are done" in err and "not used up" in err, "an unused budget is not told:", err)
    tiny = bench.folder / "tiny"  # before the first iteration plumb assumes answers of the greatest length
    bench.good(*args(bench, tiny, tokens=300))
    bench.check(answered(tiny, 1)[1] == 300 // (4 * 16) and common.metrics(tiny)[-1]["generated_tokens"] < 400, "a small budget")
    for more, words in ((("lr_schedule=cosine",), "train.lr_schedule"), (("warmup_ratio=0.1",), "train.warmup_ratio"),
                        (("generated_tokens=-1",), "generated_tokens"), (("generated_tokens=many",), "generated_tokens"),
                        (("method.renew=0", "method.name=optune"), "method.renew")):
        result = bench.run(*args(bench, bench.folder / "bad", *more))
        bench.check(result.code == 12 and words in result.err and not (bench.folder / "bad").exists(), more, "is not refused:", result)
    return short


def compared(bench, runs, short):
    shown = bench.good("compare", *(str(r) for r in runs.values()), "compare.allow=reward", f"output_dir={bench.folder}/compare",
                       threads=None).out
    found = json.loads((bench.folder / "compare/compare.json").read_text())
    for method in found["methods"]:
        tokens = common.metrics(runs[method["method"]])[-1]["generated_tokens"]
        bench.check(method["generated_tokens"]["values"] == [tokens] and str(tokens) in shown, "compare says", method["generated_tokens"])
    other = bench.folder / "other"
    bench.good(*args(bench, other, tokens=TOKENS - 100))
    for bad, words in ((short, "generated_tokens is 4000"), (other, "differ in budget: train.generated_tokens")):
        result = bench.run("compare", runs["psle"], bad, threads=None)
        bench.check(result.code == 12 and words in result.err and str(bad) in result.err, bad, "is not refused:", result)
        bench.check(bench.run("compare", runs["psle"], bad, "compare.allow=budget", threads=None).code == 0, "budget cannot be allowed")


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    runs = {"dpo": bench.folder / "dpo", "psle": bench.folder / "psle"}
    bench.good(*args(bench, runs["dpo"], target=2))
    bench.good(*args(bench, runs["psle"], method="psle"))
    counts(bench, runs)
    steps = sorted(int(c.name.split("-")[1]) for c in runs["dpo"].glob("checkpoint-*"))
    for step in (steps[0], steps[-2]):  # kills before the last iterations, and before the last one
        out = common.rewind(runs["dpo"], bench.folder / f"from-{step}", step)
        bench.good(*args(bench, out, "resume=auto", target=2), ranks=2 if bench.mpirun else 1)
        bench.same_run(runs["dpo"], out, f"resumed from step {step}:")
    for ranks in (2, 4) if bench.mpirun else ():
        out = bench.folder / f"dpo-{ranks}"
        bench.good(*args(bench, out, target=2), ranks=ranks)
        bench.same_run(runs["dpo"], out, f"on {ranks} ranks:")
    schedule(bench, bench.folder / "schedule")
    renewed(bench, bench.folder / "optune")
    compared(bench, runs, limits(bench))


common.main(test)
