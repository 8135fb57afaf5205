#!/usr/bin/env python3
"""test_records.py: checks what plumb does with members of a record that it does not read itself. Reward
commands, judges and reward functions get all members, on any number of ranks and after pauses. The rollout
files store the record. A message names rewards that are equal for all answers, and one message names
fields that nothing reads."""
import json
import os
import shutil
import sys

import common

# A reward command that uses members of the record that plumb does not read, and that logs its
# input.
REWARD = """import json, os, sys
for line in sys.stdin:
    d = json.loads(line)
    assert d["prompt_messages"][-1]["role"] == "user" and d["record"]["sample"] == "own"
    assert d["completion_messages"] == [{"role": "assistant", "content": d["completion"]}]
    assert d["meta"]["big"] == 12345678901234567890 and "prompt" not in d["record"]
    with open(os.environ["GIVEN"], "a") as f:
        f.write(line)
    hits = sum(w in d["completion"] for w in d["wanted"])
    print(json.dumps({"score": hits - 0.01 * len(d["completion"])}), flush=True)
"""

JUDGE = """import json, sys
for line in sys.stdin:
    d = json.loads(line)
    assert d["wanted"] and d["meta"]["big"] == 12345678901234567890 and d["record"]["id"] == 7
    print(json.dumps({"winner": "a" if len(d["a"]) > len(d["b"]) else "b"}), flush=True)
"""

NUMBER = '"big": 12345678901234567890' # neither int64 nor double can represent this number exactly


def write_prompts(bench):
    """Writes the data set's prompts with additional members."""
    path = bench.folder / "p.jsonl"
    lines = []
    for i, line in enumerate((bench.world / "prompts.jsonl").read_text().splitlines()[:64]):
        record = {"prompt": json.loads(line)["prompt"], "wanted": ["a", "e", "st"][:1 + i % 3],
                  "sample": "own", "id": 7, "note": "caf\u00e9", "solution": "1,000"}
        lines.append(json.dumps(record)[:-1] + ', "meta": {%s}}' % NUMBER)
    path.write_text("".join(line + "\n" for line in lines))
    return path, lines


def records_of(master):
    """Returns {prompt id: record} of a rollout file."""
    data = {k: common.numbers(v) if v else []
            for k, v in common.rollout_records(master).items() if k != "weight_fingerprint"}
    text = bytes(int(x) for x in data["records"])
    at = [int(x) for x in data["record_offsets"]]
    return {int(p): text[at[i]:at[i + 1]].decode() for i, p in enumerate(data["prompt_id"])
            if at[i + 1] > at[i]}


def handed_over(bench, base):
    """Checks that the reward command gets the same complete records in runs on 1 and 2 ranks, and in a run that is paused
    again and again."""
    path, lines = write_prompts(bench)
    (bench.folder / "reward.py").write_text(REWARD)
    outs = []
    for name, ranks in (("one", 1), ("two", 2), ("paused", 0)):
        if ranks > 1 and not bench.mpirun:
            continue
        out = bench.folder / name
        given = bench.folder / f"{name}.given"
        args = bench.align_args(out, base, f"data.prompts={path}",
                                f"reward.command={sys.executable} {bench.folder}/reward.py",
                                "health.max_clipped=1")
        os.environ["GIVEN"] = str(given)
        if ranks:
            r = bench.good(*args, ranks=ranks)
        else:
            *pauses, r = bench.in_sessions(*args, ranks=(1, 2) if bench.mpirun else (1,))
            bench.check(r.code == 0 and len(pauses) > 1, f"{len(pauses)} pauses:", r)
        outs.append(out)
        bench.check("warning" not in r.err, name, "warns:", r.err[-800:])
        seen = {json.loads(x)["prompt_id"] for x in given.read_text().splitlines()}
        # includes the prompts of report.html's samples
        bench.check(len(seen) >= 32, name, "scored", len(seen), "prompts")
    for out in outs[1:]:
        bench.same_run(outs[0], out, f"{outs[0].name} and {out.name}:")
    for i in (1, 2):
        kept = records_of(outs[0] / "rollouts" / f"iteration-000{i}.h5")
        bench.check(len(kept) == 16 and all(lines[p] == text for p, text in kept.items()),
                    "records of the rollout file:", kept)
    shown = bench.good("inspect", f"input={outs[0]}/rollouts/iteration-0001.h5",
                       f"model={base}").out
    bench.check(NUMBER in shown and '"wanted"' in shown, "inspect shows no records:", shown)
    # The stored record is sufficient to compute the score again.
    line = json.loads((bench.folder / "one.given").read_text().splitlines()[0])
    again = json.dumps({"prompt": line["prompt"], "completion": line["completion"],
                        "wanted": line["wanted"], "sample": "own"})[:-1] + ', "meta": {%s}}' % NUMBER
    r = bench.good("score", "input=-", f"reward.command={sys.executable} "
                   f"{bench.folder}/reward.py", stdin=again + "\n")
    want = sum(w in line["completion"] for w in line["wanted"]) - 0.01 * len(line["completion"])
    bench.check(abs(r.lines()[0]["score"] - want) < 1e-9, "score of a record:", r.out, want)
    return path, outs[0]


def judged(bench, path, models):
    (bench.folder / "judge.py").write_text(JUDGE)
    r = bench.good("eval", f"data.eval={path}", f"eval.models=a={models[0]},b={models[1]}",
                   "max_new_tokens=8", "data.limit=6", "ignore_eos=true",
                   f"eval.judge={sys.executable} {bench.folder}/judge.py")
    bench.check("no verdict" not in r.err, "the judge lacks the record:", r.err)


def by_field(bench):
    """Checks the reward function `exact` with a field of the record as solution. The options are
    YAML on the command line."""
    config = bench.folder / "field.yaml"
    config.write_text("reward: {functions: [{name: exact, field: reward_model.truth}]}\n")
    rows = [("72", '"72.0"', 1), ("12345678901234567891", "12345678901234567890", 0),
            ("b", '["a", "b"]', 1), ("x", "null", None)]
    text = "".join('{"prompt": "q", "completion": "%s", "reward_model": {"truth": %s}}\n' % r[:2]
                   for r in rows)
    r = bench.good("score", config, "input=-", stdin=text)
    bench.check([x["score"] for x in r.lines()] == [w for _, _, w in rows], "exact by field:", r.out)
    bench.check("reward_model.truth" in r.err, "a missing field is not named:", r.err)


def alike(bench, base, path):
    """Checks the message of an iteration in which all rewards are equal, or all rewards of each
    prompt."""
    out = bench.folder / "alike"
    config = bench.folder / "alike.yaml"
    for functions, words in (("{name: exact}", ("all 64 rewards are 0", "pattern")),
                             ("{name: repetition, weight: 0}", ("all 64 rewards are", "iteration 2"))):
        config.write_text("reward: {functions: [%s]}\n" % functions)
        args = bench.align_args(out, base, f"data.prompts={path}")
        r = bench.good(args[0], config, *args[1:])
        log = (out / "train.log").read_text()
        for word in words:
            bench.check(word in r.err and word in log, "alike rewards:", word, "not in", r.err[-900:])
        bench.check(r.err.count("rewards are") == 2, "not said once in each iteration:", r.err[-900:])
        shares = [x["frac_reward_zero_std"] for x in common.metrics(out)]
        bench.check(shares == [1, 1], "frac_reward_zero_std:", shares)
        page = (out / "report.html").read_text()
        bench.check("2 of 2 iterations" in page, "the report does not say so")
        shutil.rmtree(out)
    prompt = 'python3 -c "import json,sys\nfor l in sys.stdin: print(json.dumps(' \
             "{'score': len(json.loads(l)['prompt'])}), flush=True)\""
    r = bench.good(*bench.align_args(out, base, f"data.prompts={path}", f"reward.command={prompt}"))
    bench.check("among the answers of no prompt" in r.err, "a reward of the prompt:", r.err[-900:])
    shutil.rmtree(out)
    missing = 'python3 -c "import json,sys\nfor l in sys.stdin: d=json.loads(l); print(json.dumps(' \
              "{'score': None if d['prompt_id'] % 2 else d['sample']}), flush=True)\""
    r = bench.good(*bench.align_args(out, base, f"data.prompts={path}", f"reward.command={missing}",
                                     "reward.max_missing=0.9"))
    bench.check("fewer than two answers with a reward" in r.err, "missing:", r.err[-900:])
    shutil.rmtree(out)


def named(bench, base):
    """Checks that the message about fields that nothing reads is printed once, by one rank."""
    path = bench.folder / "sft.jsonl"
    lines = [json.loads(x) for x in (bench.world / "sft.jsonl").read_text().splitlines()[:16]]
    path.write_text("".join(json.dumps({**x, "labels": [1], "weight": 1}) + "\n" for x in lines))
    args = [f"data.train={path}" if a.startswith("data.train") else a
            for a in bench.sft_args(bench.folder / "named", steps=1)]
    r = bench.good(*args, ranks=2 if bench.mpirun else 1)
    bench.check(r.err.count('"labels"') == 1 and "sft.jsonl:1:" in r.err and '"weight"' not in r.err,
                "named fields:", r.err)


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    base = bench.base()
    path, out = handed_over(bench, base)
    judged(bench, path, (base, out / "latest"))
    by_field(bench)
    alike(bench, base, path)
    named(bench, base)


common.main(test)
