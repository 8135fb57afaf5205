#!/usr/bin/env python3
"""test_neighbours.py: checks the methods that need more than rewards of new answers. OPTune uses the answers
of all but the worst prompts again. SELM stores the reference's greedy answer. DLMA's rewards are computed
from log-probs that `plumb logprob` gives under its two prompts."""
import json

import common

RULE = "reward.functions=[{name: length, target: 6}]"


def optune(bench, base):
    out, group = bench.folder / "optune", 2
    bench.good(*bench.align_args(out, base, RULE, "method.renew=0.25", method="optune",
                                 iterations=3, prompts=16, group=group))
    for i in (1, 2):
        old, new = common.rollout_answers(out, i), common.rollout_answers(out, i + 1)
        bench.check([a["record"] for a in old] == [a["record"] for a in new], "the prompts changed")
        total = [sum(a["reward"] for a in old[q * group:(q + 1) * group]) for q in range(16)]
        worst = sorted(range(16), key=lambda q: (total[q], q))[:4]
        kept = [q for q in range(16) if old[q * group]["fingerprint"] == new[q * group]["fingerprint"]]
        bench.check(sorted(set(range(16)) - set(worst)) == kept, "iteration", i + 1, "kept", kept,
                    "the worst are", worst)
        changed = [q for q in kept for k in range(q * group, (q + 1) * group) if old[k] != new[k]]
        bench.check(not changed, "kept answers changed:", changed)
    rows = common.metrics(out)
    bench.check(all(r["logprob_max_diff"] == 0 for r in rows), "log-probs of kept answers", rows)
    fresh = [b["num_tokens"] - a["num_tokens"] for a, b in zip(rows, rows[1:])]
    bench.check(fresh[0] < rows[0]["num_tokens"], "kept answers count as generated", fresh)
    if bench.mpirun:
        two = bench.folder / "optune-2"
        bench.good(*bench.align_args(two, base, RULE, "method.renew=0.25", method="optune",
                                     iterations=3, prompts=16, group=group), ranks=2)
        bench.same(out / "latest/model.safetensors", two / "latest/model.safetensors",
                   "optune on 1 and 2 ranks")
    (out / "rollouts" / "iteration-0003.h5").unlink()
    r = bench.run(*bench.align_args(out, base, RULE, "method.renew=0.25", "resume=auto",
                                    method="optune", iterations=3, prompts=16, group=group))
    bench.check(r.code == 0, "a finished run needs no rollouts", r)


def selm_previous(bench, base):
    """Checks that with method.reference=previous, the greedy answers of the second iteration come from the policy after the
    first iteration. The number of generated tokens shows it."""
    out = bench.folder / "selm-previous"
    bench.good(*bench.align_args(out, base, RULE, "method.reference=previous", "checkpoint.keep_last=0",
                                 method="selm", iterations=2))
    rows = common.metrics(out)
    done, models = 0, (base, out / f"checkpoint-{rows[0]['step']}")
    for row, model in zip(rows, models):
        answers = common.rollout_answers(out, row["iteration"])
        asked = bench.folder / "asked.jsonl"
        asked.write_text("".join(json.dumps({"prompt_ids": a["prompt"]}) + "\n" for a in answers[::4]))
        greedy = bench.good("generate", f"model={model}", f"prompts={asked}", "temperature=0", "max_new_tokens=16").lines()
        done += sum(len(a["ids"]) for a in answers) + sum(len(g["completion_ids"]) for g in greedy)
        bench.check(row["generated_tokens"] == done, "tokens of iteration", row["iteration"], row["generated_tokens"], done)


def selm(bench, base):
    """Checks SELM: with optimism 0 it writes what dpo writes; with a high optimism, the probability of the
    reference's greedy answers falls."""
    outs = {}
    for name, method, optimism in (("dpo", "dpo", 0), ("none", "selm", 0), ("much", "selm", 5)):
        outs[name] = bench.folder / f"selm-{name}"
        own = [f"method.optimism={optimism}"] if method == "selm" else []
        bench.good(*bench.align_args(outs[name], base, RULE, *own, method=method, iterations=2))
    a, b = ([r["loss"] for r in common.metrics(outs[k])] for k in ("dpo", "none"))
    bench.check(a == b, "losses of dpo", a, "of selm without optimism", b)
    selm_previous(bench, base)
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
    answers = common.rollout_answers(out, 1)
    prompts = [json.loads(line)["prompt"] for line in
               (bench.world / "prompts.jsonl").read_text().splitlines()]
    sums = []
    for name in ("kind_and_helpful", "contrary"):
        text = (texts / f"{name}.txt").read_text().rstrip()
        path = bench.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": f"{text}\n{prompts[a['record']]}"}) + "\n"
                                for a in answers))
        asked = bench.good("tokenize", f"model={base}", f"input={path}", threads=None).lines()
        sums.append(bench.logprobs(base, [(p["ids"], a["ids"]) for p, a in zip(asked, answers)]))
    reward = [a["reward"] for a in answers]
    far = max(abs(p - c - r) for p, c, r in zip(*sums, reward))
    bench.check(far < 1e-4 and max(map(abs, reward)) > 0.1, "rewards are", far, "away")
    r = bench.run(*[a for a in args if not a.startswith("method.contrary")],
                  f"output_dir={out}x")
    bench.check(r.code not in (0, None) and "method.contrary" in r.err, "no contrary", r)


def test(bench):
    base = bench.base()
    optune(bench, base)
    selm(bench, base)
    dlma(bench, base)


common.main(test)
