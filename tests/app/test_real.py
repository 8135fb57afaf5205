#!/usr/bin/env python3
"""test_real.py: checks the method real. The pair that gets scores is the least similar one, by the
embeddings of `plumb logprob embedding=true`. Training with a share of given pairs (method.keep) is
training on a file of only these pairs. Given scores weight the pairs of rdo and optune. Also
checks what is refused."""
import json
import math

import common


def begin_of(world):
    """Returns the id of the tokenizer's begin token."""
    token = json.loads((world / "tokenizer_config.json").read_text())["bos_token"]
    return {t["content"]: t["id"] for t in
            json.loads((world / "tokenizer.json").read_text())["added_tokens"]}[token]


def embeddings(bench, model, answers):
    """Returns the embeddings of answers (lists of ids) as unit vectors. Each answer is read after the begin token
    and without its end token."""
    begin, end = begin_of(bench.world), 1
    path = bench.folder / "alone.jsonl"
    lines = [{"ids": [begin, *(a[:-1] if len(a) > 1 and a[-1] == end else a)], "prompt_tokens": 1}
             for a in answers]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = bench.good("logprob", f"model={model}", f"input={path}", "embedding=true").lines()
    found = []
    for line in out:
        norm = math.sqrt(sum(x * x for x in line["embedding"]))
        found.append([x / norm for x in line["embedding"]])
    return found


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def online(bench, base, rule):
    outs = []
    for ranks in (1, 2) if bench.mpirun else (1,):
        out = bench.folder / f"online-{ranks}"
        args = bench.align_args(out, base, rule, method="real", iterations=2)
        bench.good(*args, ranks=ranks)
        outs.append(out)
    bench.same(outs[0] / "latest/model.safetensors", outs[-1] / "latest/model.safetensors",
               "real on 1 and 2 ranks")
    answers = common.rollout_answers(outs[0], 2)
    unit = embeddings(bench, base, [a["ids"] for a in answers])
    bench.check(len(unit) == 64, "answers", len(unit))
    for first in range(0, 64, 4):
        pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
        want = min(pairs, key=lambda p: cosine(unit[first + p[0]], unit[first + p[1]]))
        scored = tuple(i for i in range(4) if not math.isnan(answers[first + i]["reward"]))
        bench.check(scored == want, "prompt", first // 4, "scored", scored, "least alike", want)
    lines = common.metrics(outs[0])
    bench.check(all(r["reward_missing"] == 0 for r in lines), "missing rewards", lines)


def paused(bench, base, rule):
    out, other = bench.folder / "online-1", bench.folder / "paused"
    args = bench.align_args(other, base, rule, method="real", iterations=2)
    *cuts, r = bench.in_sessions(*args)
    bench.check(r.code == 0 and cuts, "never interrupted:", r)
    bench.same(out / "latest/model.safetensors", other / "latest/model.safetensors",
               f"real with {len(cuts)} interruptions")


def completions(bench, model, rows, side):
    """Returns the ids of each record's `side` ("chosen" or "rejected") as training reads them,
    without the end token."""
    path, ids = bench.folder / "whole.jsonl", []
    for text in (lambda r: r["prompt"], lambda r: r["prompt"] + r[side]):
        path.write_text("".join(json.dumps({"text": text(r)}) + "\n" for r in rows))
        lines = bench.good("tokenize", f"model={model}", f"input={path}", threads=None).lines()
        ids.append([line["ids"] for line in lines])
    bench.check(all(b[:len(a)] == a for a, b in zip(*ids)), "a token goes over the border")
    return [b[len(a):] for a, b in zip(*ids)]


def picked(bench, base, lines, outs):
    """Writes to a file the half of the pairs that training must keep: those with the least
    similar answers."""
    rows = [json.loads(line) for line in lines]
    unit = [embeddings(bench, base, completions(bench, base, rows, k)) for k in ("chosen", "rejected")]
    order = sorted(range(len(rows)), key=lambda i: cosine(unit[0][i], unit[1][i]))
    for pick, kept in (("easy", order[:20]), ("hard", order[20:])):
        path, out = bench.folder / f"{pick}.jsonl", bench.folder / f"dpo-{pick}"
        path.write_text("".join(lines[i] for i in sorted(kept)))
        bench.good(*bench.prefer_args(out, base, f"data.train={path}", "shuffle=false",
                                      "method.name=dpo", steps=0))
        bench.same(outs[pick] / "latest/model.safetensors", out / "latest/model.safetensors",
                   f"the {pick} half and dpo on a file of it")


def offline(bench, base):
    path = bench.world / "pairs.jsonl"
    lines = path.read_text().splitlines(keepends=True)[:40]
    some = bench.folder / "some.jsonl"
    some.write_text("".join(lines))
    outs = {}
    for pick in ("easy", "hard", "random"):
        outs[pick] = bench.folder / f"offline-{pick}"
        r = bench.good(*bench.prefer_args(outs[pick], base, f"data.train={some}", "shuffle=false",
                                          "method.name=real", f"method.pick={pick}",
                                          "method.keep=0.5", steps=0))
        bench.check("real: 20 of 40 pairs are kept" in r.err, pick, r.err)
    bench.check(len({common.digest(o / "latest/model.safetensors") for o in outs.values()}) == 3,
                "the picks keep the same pairs")
    picked(bench, base, lines, outs)
    whole, dpo = bench.folder / "whole", bench.folder / "dpo"
    bench.good(*bench.prefer_args(whole, base, f"data.train={some}", "method.name=real",
                                  "method.keep=1"))
    bench.good(*bench.prefer_args(dpo, base, f"data.train={some}", "method.name=dpo"))
    bench.same(whole / "latest/model.safetensors", dpo / "latest/model.safetensors",
               "all of the pairs and dpo")
    if bench.mpirun:
        two = bench.folder / "two"
        bench.good(*bench.prefer_args(two, base, f"data.train={some}", "shuffle=false",
                                      "method.name=real", steps=0), ranks=2)
        bench.same(two / "latest/model.safetensors", outs["easy"] / "latest/model.safetensors",
                   "given pairs on 1 and 2 ranks")
    return some


def scores(bench, base, some):
    """Checks methods that weight pairs by given scores: with equal score gaps, the loss is dpo's times one
    weight. Records without scores are refused."""
    rows = [json.loads(line) for line in some.read_text().splitlines()]
    scored = bench.folder / "scored.jsonl"
    digests = {}
    for name, gap in (("equal", lambda i: 1.0), ("unlike", lambda i: 0.1 + i % 5)):
        scored.write_text("".join(json.dumps({**r, "score_chosen": gap(i), "score_rejected": 0})
                                  + "\n" for i, r in enumerate(rows)))
        for method in ("rdo", "optune", "dpo"):
            out = bench.folder / f"{method}-{name}"
            bench.good(*bench.prefer_args(out, base, f"data.train={scored}",
                                          f"method.name={method}"))
            digests[method, name] = common.metrics(out)
    loss = {k: [r["loss"] for r in v] for k, v in digests.items()}
    # the weight that each method gives to a gap of 1
    for method, weight in (("rdo", 1), ("optune", 1 / (1 + math.exp(-1)))):
        near = abs(loss[method, "equal"][0] - weight * loss["dpo", "equal"][0])
        bench.check(near < 1e-6, method, "with equal gaps and dpo", near)
        bench.check(loss[method, "unlike"][-1] != loss["dpo", "unlike"][-1], method, "unlike gaps")
    bad = bench.folder / "bad.jsonl"
    for text, words in (({"score_chosen": 1}, "score_rejected"),
                        ({"score_chosen": "1", "score_rejected": 0}, "expected a number"),
                        ({"score_chosen": 0, "score_rejected": 1}, "that is not lower"),
                        ({}, "needs the numbers score_chosen")):
        bad.write_text(json.dumps({**rows[0], **text}) + "\n")
        r = bench.run(*bench.prefer_args(bench.folder / "refused", base, f"data.train={bad}",
                                         "method.name=rdo"))
        bench.check(r.code not in (0, None) and words in r.err, text, "is not refused:", r)


def refusals(bench, base, rule):
    for args, words in ((["method.embedder=previous"], "expected init"),
                        (["method.embedder=nowhere"], "no folder nowhere")):
        r = bench.run(*bench.align_args(bench.folder / "refused", base, rule, *args, method="real"))
        bench.check(r.code not in (0, None) and words in r.err, args, "is not refused:", r)
    for args, words in ((["method.name=real", "method.pick=centroid"], "expected easy, hard"),
                        (["method.name=spa"], "does not train on given pairs"),
                        (["method.name=psle_curriculum"], "does not train on given pairs")):
        r = bench.run(*bench.prefer_args(bench.folder / "refused", base, *args))
        bench.check(r.code not in (0, None) and words in r.err, args, "is not refused:", r)


def test(bench):
    base = bench.base()
    rule = "reward.functions=[{name: length, target: 6}]"
    online(bench, base, rule)
    paused(bench, base, rule)
    some = offline(bench, base)
    scores(bench, base, some)
    refusals(bench, base, rule)


if __name__ == "__main__":
    common.main(test)
