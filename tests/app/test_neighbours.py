#!/usr/bin/env python3
"""test_neighbours.py: the methods that need more than scores of fresh answers. OPTune keeps the answers
of all but the worst prompts; SELM leaves the reference's greedy answer; DLMA's rewards are those that
`plumb logprob` gives under the two prompts."""
import json

import common
from test_spa import numbers

RULE = "reward.functions=[{name: length, target: 6}]"


def records(out, iteration):
    got = common.rollout_records(out / "rollouts" / f"iteration-{iteration:04d}.h5")
    data = {k: numbers(v) for k, v in got.items() if v and k not in ("weight_fingerprint",)}
    data["fingerprint"] = got["weight_fingerprint"].split(",")
    at, start = ([int(x) for x in data[k]] for k in ("offsets", "completion_start"))
    ids = [int(x) for x in data["tokens"]]
    data["prompts"] = [ids[at[i]:start[i]] for i in range(len(start))]
    data["answers"] = [ids[start[i]:at[i + 1]] for i in range(len(start))]
    return data


def optune(bench, base):
    out, group = bench.folder / "optune", 2
    bench.good(*bench.align_args(out, base, RULE, "method.renew=0.25", method="optune",
                                 iterations=3, prompts=16, group=group))
    for i in (1, 2):
        old, new = records(out, i), records(out, i + 1)
        bench.check(old["prompt_id"] == new["prompt_id"], "the prompts changed")
        mean = [sum(old["reward"][q * group:(q + 1) * group]) for q in range(16)]
        worst = sorted(range(16), key=lambda q: (mean[q], q))[:4]
        kept = [q for q in range(16) if old["fingerprint"][q * group].split(":")[-1].strip() ==
                new["fingerprint"][q * group].split(":")[-1].strip()]
        bench.check(sorted(set(range(16)) - set(worst)) == kept, "iteration", i + 1, "kept", kept,
                    "the worst are", worst)
        same = [q for q in kept if old["answers"][q * group] != new["answers"][q * group] or
                old["reward"][q * group] != new["reward"][q * group]]
        bench.check(not same, "kept answers changed:", same)
    rows = common.metrics(out)
    bench.check(all(r["logprob_max_diff"] == 0 for r in rows), "log-probs of kept answers", rows)
    fresh = [b["num_tokens"] - a["num_tokens"] for a, b in zip(rows, rows[1:])]
    bench.check(fresh[0] < rows[0]["num_tokens"], "kept answers count as generated", fresh)
    (out / "rollouts" / "iteration-0003.h5").unlink()
    r = bench.run(*bench.align_args(out, base, RULE, "method.renew=0.25", "resume=auto",
                                    method="optune", iterations=3, prompts=16, group=group))
    bench.check(r.code == 0, "a finished run needs no rollouts", r)


def selm(bench, base):
    """Without optimism dpo; with much of it, the reference's answers lose their probability."""
    outs = {}
    for name, method, optimism in (("dpo", "dpo", 0), ("none", "selm", 0), ("much", "selm", 5)):
        outs[name] = bench.folder / f"selm-{name}"
        bench.good(*bench.align_args(outs[name], base, RULE, f"method.optimism={optimism}",
                                     method=method, iterations=2))
    a, b = ([r["loss"] for r in common.metrics(outs[k])] for k in ("dpo", "none"))
    bench.check(a == b, "losses of dpo", a, "of selm without optimism", b)
    prompts = bench.folder / "few.jsonl"
    prompts.write_text("".join((bench.world / "prompts.jsonl").read_text()
                               .splitlines(keepends=True)[:16]))
    greedy = bench.good("generate", f"model={base}", f"prompts={prompts}", "temperature=0",
                        "max_new_tokens=16").lines()
    path = bench.folder / "greedy.jsonl"
    path.write_text("".join(json.dumps({"prompt": json.loads(p)["prompt"],
                                        "completion": g["text"]}) + "\n"
                            for p, g in zip(prompts.read_text().splitlines(), greedy)))
    mean = {}
    for name in outs:
        lines = bench.good("logprob", f"model={outs[name]}/latest", f"input={path}").lines()
        mean[name] = sum(sum(line["logprobs"]) for line in lines) / len(lines)
    bench.check(mean["much"] < mean["dpo"] - 1, "log-probs of the reference's answers", mean)


def dlma(bench, base):
    texts = bench.world / "principles"
    (texts / "contrary.txt").write_text("be rude. be harmful.\n")
    out = bench.folder / "dlma"
    args = bench.align_args(out, base, f"method.principles={texts}/kind_and_helpful.txt",
                            f"method.contrary={texts}/contrary.txt", method="dlma", iterations=1)
    bench.good(*args)
    got = records(out, 1)
    prompts = [json.loads(line)["prompt"] for line in
               (bench.world / "prompts.jsonl").read_text().splitlines()]
    sums = []
    for name in ("kind_and_helpful", "contrary"):
        text = (texts / f"{name}.txt").read_text().rstrip()
        rows = []
        path = bench.folder / f"{name}.jsonl"
        asked = [f"{text}\n{prompts[int(i)]}" for i in got["prompt_id"]]
        path.write_text("".join(json.dumps({"text": p}) + "\n" for p in asked))
        ids = bench.good("tokenize", f"model={base}", f"input={path}", threads=None).lines()
        path.write_text("".join(
            json.dumps({"ids": p["ids"] + a, "prompt_tokens": len(p["ids"])}) + "\n"
            for p, a in zip(ids, got["answers"])))
        rows = bench.good("logprob", f"model={base}", f"input={path}").lines()
        sums.append([sum(r["logprobs"]) for r in rows])
    far = max(abs(p - c - r) for p, c, r in zip(*sums, got["reward"]))
    bench.check(far < 1e-4 and max(map(abs, got["reward"])) > 0.1, "rewards are", far, "away")
    r = bench.run(*[a for a in args if not a.startswith("method.contrary")],
                  f"output_dir={out}x")
    bench.check(r.code not in (0, None) and "method.contrary" in r.err, "no contrary", r)


def test(bench):
    base = bench.base()
    optune(bench, base)
    selm(bench, base)
    dlma(bench, base)


common.main(test)
