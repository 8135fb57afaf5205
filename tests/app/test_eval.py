#!/usr/bin/env python3
"""Compares every figure of `plumb eval` with the same figure computed from the output of other commands: rewards,
wins, lengths, distinct-n, repetition, KL divergence, perplexity. Also checks several kinds of judges (fair, with a
preference for a position, without an answer, ending early) and several ranks."""
import json
import math
import re
import statistics
import sys

import common

LIMIT, SAMPLES, REPLICATES = 24, 2, 200

# A judge that prefers the longer answer. Its argument may name a fault that it shows instead.
JUDGE = """
import json, sys
kind = sys.argv[1]
for i, line in enumerate(sys.stdin):
    d = json.loads(line)
    assert {"id", "prompt", "a", "b"} <= set(d) and d["prompt"]
    a, b = len(d["a"]), len(d["b"])
    out = {"winner": "a" if a > b else "b" if b > a else "tie"}
    if kind == "score":
        out = {"score": 0.9 if a > b else 0.2 if b > a else 0.5, "id": d["id"]}
    elif kind == "place":
        out = {"winner": "a"}
    elif kind == "silent" and len(d["prompt"]) % 2:
        out = {"winner": None}
    elif kind == "rude":
        out = {"winner": "neither"}
    elif kind == "others":
        out["id"] = d["id"] + 1
    print(json.dumps(out), flush=True)
    if kind == "twice":
        print(json.dumps(out), flush=True)
"""


def evaluate(bench, models, *more, ranks=1):
    out = bench.folder / f"eval{ranks}"
    bench.good("eval", f"data.eval={bench.folder}/held.jsonl", f"eval.samples={SAMPLES}", "max_new_tokens=12",
               "eval.models=" + ",".join(f"{n}={p}" for n, p in models.items()), f"output_dir={out}", "seed=5", *more, ranks=ranks)
    return (out / "eval.json").read_bytes()


def by_other_commands(bench, models, reward):
    """Returns for each model its answers, their rewards, and their log-probs under this model and under the first model,
    from the commands generate, score and logprob."""
    found = {}
    for name, path in models.items():
        answers = bench.good("generate", f"model={path}", f"prompts={bench.folder}/held.jsonl", f"group_size={SAMPLES}",
                             "max_new_tokens=12", "seed=5").lines()
        texts = "".join(json.dumps({"prompt": bench.held[i // SAMPLES]["prompt"], "completion": a["text"]}) + "\n"
                        for i, a in enumerate(answers))
        scores = bench.good("score", f"reward.model={reward}", "input=-", stdin=texts).lines()
        ids = "".join(json.dumps({"ids": a["prompt_ids"] + a["completion_ids"], "prompt_tokens": len(a["prompt_ids"])}) + "\n"
                      for a in answers)
        start = bench.good("logprob", f"model={next(iter(models.values()))}", "input=-", stdin=ids).lines()
        found[name] = {"ids": [a["completion_ids"] for a in answers], "text": [a["text"] for a in answers],
                       "reward": [s["score"] for s in scores], "own": [sum(a["logprobs"]) for a in answers],
                       "start": [s["sum"] for s in start]}
    return found


def distinct(answers, n):
    grams = [tuple(a[i:i + n]) for a in answers for i in range(len(a) - n + 1)]
    return len(set(grams)) / len(grams)


def repetition(answer, n=4):
    grams = [tuple(answer[i:i + n]) for i in range(len(answer) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0


def mean(values):
    return sum(values) / len(values)


def uniform(seed, replicate, position):
    """Returns the uniform random number in [0, 1) that plumb draws for (seed, bootstrap
    replicate, position): Philox4x32-10 with purpose 6."""
    c, k, low = [position, 0, replicate, 6 << 24], [seed, 0], 0xffffffff
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & low, p >> 32 ^ c[3] ^ k[1], p & low]
        k = [k[0] + 0x9E3779B9 & low, k[1] + 0xBB67AE85 & low]
    return ((c[0] << 32 | c[1]) >> 11) * 2.0 ** -53


def interval(values, seed):
    """Returns the bootstrap interval of the mean. Each replicate draws as many prompts as there are, with
    replacement, and takes all answers of a drawn prompt."""
    means = []
    for b in range(REPLICATES):
        drawn = [int(uniform(seed, b, j) * LIMIT) for j in range(LIMIT)]
        means.append(mean([mean(values[i * SAMPLES:(i + 1) * SAMPLES]) for i in drawn]))
    return [statistics.quantiles(means, n=40, method="inclusive")[i] for i in (0, -1)]


def figures(bench, models, reward):
    args = [f"reward.model={reward}", f"eval.bootstrap={REPLICATES}"]
    got = {m["name"]: m for m in json.loads(evaluate(bench, models, *args))["models"]}
    want, first = by_other_commands(bench, models, reward), next(iter(models))
    for name, w in want.items():
        g, base = got[name], want[first]
        gaps = [a - b for a, b in zip(w["reward"], base["reward"])]
        expected = {"answers": LIMIT * SAMPLES, "missing": 0, "reward": mean(w["reward"]), "mean_length": mean([len(a) for a in w["ids"]]),
                    "max_length": max(len(a) for a in w["ids"]), "mean_characters": mean([len(t) for t in w["text"]]),
                    "distinct_1": distinct(w["ids"], 1), "distinct_2": distinct(w["ids"], 2),
                    "self_repetition": mean([repetition(a) for a in w["ids"]])}
        if name != first:
            expected |= {"win": sum(x > 0 for x in gaps), "lose": sum(x < 0 for x in gaps), "tie": sum(x == 0 for x in gaps),
                         "win_rate": mean([.5 + .5 * ((x > 0) - (x < 0)) for x in gaps]),
                         "kl": mean([a - b for a, b in zip(w["own"], w["start"])])}
        for key, value in expected.items():
            bench.check(math.isclose(g[key], value, rel_tol=1e-6, abs_tol=1e-6), f"{name}: {key} is", g[key], "expected", value)
        wins = [.5 + .5 * ((x > 0) - (x < 0)) for x in gaps]
        for key, values in (("reward", w["reward"]), ("win_rate", wins))[:1 if name == first else 2]:
            pairs = zip(g[f"{key}_interval"], interval(values, 5))
            bench.check(all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6) for a, b in pairs), f"{name}: {key}",
                        g[f"{key}_interval"], "expected", interval(values, 5))
    other = got[list(models)[1]]
    bench.check(all(0 <= got[name]["bleu"] <= 100 for name in models), "BLEU", got)
    bench.check(other["kl"] > 0 and 0 < other["lc_win_rate"] < 1, "kl and lc of another model:", other["kl"], other["lc_win_rate"])
    bench.check(got[first]["kl"] is None and got[first]["win_rate"] is None, "the first model is compared with itself")
    return want


def margins(bench, models, reward, answers):
    """Checks eval.win_margin: two rewards that differ by at most this margin are a tie, which counts as half a win."""
    a, b = (answers[name]["reward"] for name in models)
    gaps = sorted(y - x for x, y in zip(a, b))
    margin = sorted(map(abs, gaps))[len(gaps) // 2] * 1.000001
    g = json.loads(evaluate(bench, models, f"reward.model={reward}", f"eval.win_margin={margin!r}"))["models"][1]
    want = {"win": sum(x > margin for x in gaps), "lose": sum(x < -margin for x in gaps)}
    want["tie"] = len(gaps) - want["win"] - want["lose"]
    bench.check(all(g[k] == n and n > 0 for k, n in want.items()), "win_margin", margin, g, "expected", want)
    bench.check(math.isclose(g["win_rate"], (want["win"] + want["tie"] / 2) / len(gaps)), "win rate with ties", g)


def perplexity(bench, models, reward):
    """Checks that perplexity includes the end token of the reference answer: `plumb logprob` of ids with the end
    token gives the same value."""
    name, path = next(iter(models.items()))
    records = bench.good("tokenize", f"model={path}", f"input={bench.folder}/sft.jsonl").lines()
    prompts = bench.good("tokenize", f"model={path}", f"input={bench.folder}/only.jsonl").lines()
    eos = json.loads((path / "config.json").read_text())["eos_token_id"]
    ids = "".join(json.dumps({"ids": r["ids"] + [eos], "prompt_tokens": len(p["ids"])}) + "\n" for r, p in zip(records, prompts))
    lines = bench.good("logprob", f"model={path}", "input=-", stdin=ids).lines()
    want = math.exp(-sum(x["sum"] for x in lines) / sum(len(x["logprobs"]) for x in lines))
    got = json.loads(evaluate(bench, {name: path}, f"reward.model={reward}"))["models"][0]["perplexity"]
    bench.check(math.isclose(got, want, rel_tol=1e-6), "perplexity", got, "expected", want)


def judges(bench, models, answers):
    first, second = list(models)
    judge = bench.folder / "judge.py"
    judge.write_text(JUDGE)
    lengths = [(len(a), len(b)) for a, b in zip(answers[second]["text"], answers[first]["text"])]
    want = {"win": sum(a > b for a, b in lengths), "tie": sum(a == b for a, b in lengths), "lose": sum(a < b for a, b in lengths)}
    for kind in ("winner", "score", "place", "silent"):
        found = json.loads(evaluate(bench, models, f"eval.judge={sys.executable} {judge} {kind}", "reward.max_missing=0.9"))
        m = found["models"][1]
        bench.check(found["win_by"] == "judge" and m["reward"] is None, kind, "rewards appeared")
        counts = {k: m[k] for k in want}
        if kind == "place":
            bench.check(m["tie"] == m["judge_disagreed"] == LIMIT * SAMPLES, "a judge that favours a place:", m)
        elif kind == "silent":
            silent = SAMPLES * sum(len(r["prompt"]) % 2 for r in bench.held)
            bench.check(m["not_judged"] == silent and sum(counts.values()) == LIMIT * SAMPLES - silent, "a silent judge:", m, silent)
        else:
            bench.check(counts == want and m["judge_disagreed"] == 0, kind, "of the longer answer:", counts, want)
    for command, words in ((f"{sys.executable} {judge} rude", None), (f"{sys.executable} {judge} twice", "more lines than it was sent"),
                           (f"{sys.executable} {judge} others", "no verdict"), ("exit 3", "judge"), ("no-such-judge", "judge")):
        args = ("eval", f"data.eval={bench.folder}/held.jsonl", "max_new_tokens=4", f"eval.judge={command}", "data.limit=2",
                f"eval.models=a={models[first]},b={models[second]}", "reward.restarts=0")
        result = bench.run(*args)
        if words:
            bench.check(result.code not in (0, None) and words in result.err, "a judge that fails:", result)
        else:
            bench.check(result.code == 8 and "no verdict" in result.err and "reward.max_missing" in result.err,
                        "a judge that says neither:", result)
    alone = bench.run("eval", f"data.eval={bench.folder}/held.jsonl", f"eval.models=a={models[first]}", "eval.judge=cat")
    bench.check(alone.code == 12 and "eval.judge" in alone.err, "a judge without a second model:", alone)


def missing(bench, models):
    """Checks that missing rewards are counted and left out of the means, and that too many of them
    are an error."""
    command = bench.folder / "reward.py"
    command.write_text("import json, sys\nfor line in sys.stdin:\n    d = json.loads(line)\n"
                       "    print(json.dumps({'score': None if d['prompt_id'] % 3 == 0 else len(d['completion'])}), flush=True)\n")
    args = [f"reward.command={sys.executable} {command}"]
    for m in json.loads(evaluate(bench, models, *args))["models"]:
        bench.check(m["missing"] == SAMPLES * LIMIT // 3, "missing rewards", m["missing"])
        bench.check(m["win"] + m["tie"] + m["lose"] == (0 if m["kl"] is None else SAMPLES * LIMIT * 2 // 3), "wins with missing rewards", m)
    many = bench.run("eval", f"data.eval={bench.folder}/held.jsonl", "max_new_tokens=4", *args, "reward.max_missing=0.2",
                     f"eval.models=a={next(iter(models.values()))}")
    bench.check(many.code == 8 and "reward.max_missing" in many.err, "too many missing rewards:", many)


def ranks(bench, models, reward):
    judge = bench.folder / "judge.py"
    for more in ([f"reward.model={reward}"], [f"eval.judge={sys.executable} {judge} winner"]):
        one = evaluate(bench, models, *more)
        for n in (2, 3) if bench.mpirun else ():
            bench.check(evaluate(bench, models, *more, ranks=n) == one, f"eval.json differs on {n} ranks", more)
    page = (bench.folder / "eval1" / "report.html").read_text()
    for word in ("Held-out prompts", "LC win rate", "distinct-2", "perplexity", "BLEU"):
        bench.check(word in page, "report.html lacks", word)
    heads = re.findall(r"<th>([^<]+)</th>", page.split('<table class="samples">')[1].split("</tr>")[0])
    bench.check(heads == ["prompt", *models], "the sample table leaves models out:", heads)


def test(bench):
    model = bench.base()
    more = bench.folder / "more"
    bench.good(*bench.sft_args(more, f"model={model}", "train.init=checkpoint"))
    reward = bench.folder / "reward"
    bench.good(*bench.reward_args(reward, model))
    records = [json.loads(line) for line in (bench.world / "sft.jsonl").read_text().splitlines()[:LIMIT]]
    bench.held = records
    for name, lines in (("held", records), ("sft", [{"text": r["prompt"] + r["completion"]} for r in records]),
                        ("only", [{"text": r["prompt"]} for r in records])):
        (bench.folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    models = {"start": model, "more": more / "latest"}
    answers = figures(bench, models, reward / "latest")
    margins(bench, models, reward / "latest", answers)
    perplexity(bench, models, reward / "latest")
    judges(bench, models, answers)
    missing(bench, models)
    ranks(bench, {**models, "again": model}, reward / "latest")


common.main(test)
