#!/usr/bin/env python3
"""test_newcomer.py: checks what a new user of plumb tries first or gets wrong: the output of one command as the
input of the next, misspelt names, missing files, names of other programs."""
import json
import shutil

import common

RULE = "reward.functions=[{name: length, target: 6}]"


def generated(bench, base):
    """Checks that the lines of generate are read as prompts with completions."""
    prompts = bench.folder / "prompts.jsonl"
    prompts.write_text("".join((bench.world / "prompts.jsonl").read_text().splitlines(True)[:5]))
    answers = bench.folder / "answers.jsonl"
    bench.good("generate", f"model={base}", f"prompts={prompts}", "max_new_tokens=9", f"output={answers}", "seed=3")
    lines = [json.loads(x) for x in answers.read_text().splitlines()]
    rows = bench.good("logprob", f"model={base}", f"input={answers}").lines()
    for line, row in zip(lines, rows):
        bench.check(row["logprobs"] == line["logprobs"], "log-probs of generate and logprob", line, row)
    out = bench.folder / "sft"
    bench.good("sft", f"model={base}", f"output_dir={out}", f"train={answers}", "max_steps=1", "global_batch_size=5", "log_every=1")
    loss, n = common.metrics(out)[0]["loss"], sum(len(x["logprobs"]) for x in lines)
    want = -sum(sum(x["logprobs"]) for x in lines) / n
    bench.check(abs(loss - want) < 1e-5 * want, "sft trains on the completions: loss", loss, "expected", want)
    texts = "".join(json.dumps({"prompt": json.loads(p)["prompt"], "completion": x["text"]}) + "\n"
                    for p, x in zip(prompts.read_text().splitlines(), lines))
    words = "reward.functions=[{name: regex, pattern: '[aeiou]', target: 20}]"
    by_ids = bench.good("score", f"tokenizer={base}", f"input={answers}", words).lines()
    by_text = bench.good("score", f"tokenizer={base}", "input=-", words, stdin=texts).lines()
    bench.check(by_ids == by_text and len({x["score"] for x in by_ids}) > 1, "scores", by_ids, by_text)
    r = bench.run("score", f"input={answers}", words)
    bench.check(r.code == 6 and "tokenizer=FOLDER" in r.err, "score without a tokenizer", r)
    r = bench.good("inspect", answers)
    bench.check("sft, logprob, score" in r.out, "inspect", r.out)


def roles(bench, base):
    for field, record in (("messages", {"messages": [{"role": "user", "content": "a"}, {"role": "asistant", "content": "b"}]}),
                          ("prompt", {"prompt": [{"role": "User", "content": "a"}], "completion": "b"})):
        r = bench.run("logprob", f"model={base}", "input=-", stdin=json.dumps(record) + "\n")
        bench.check(r.code == 6 and f"{field}[" in r.err and "did you mean" in r.err, field, r)


def missing(bench, base):
    """Checks that the message about a missing file or folder names its option."""
    run, no = bench.folder / "run", bench.folder / "no"
    bench.good(*bench.sft_args(run, steps=1))
    for args, words in ((["generate", f"model={base}", "prompts=nothere.jsonl"], ["data.prompts: nothere.jsonl"]),
                        (["logprob", f"model={base}", "input=nothere.jsonl"], ["input: nothere.jsonl"]),
                        (bench.sft_args(no, "train=nothere.jsonl"), ["data.train: nothere.jsonl"]),
                        (bench.sft_args(no, "data.eval=nothere.jsonl"), ["data.eval: nothere.jsonl"]),
                        (bench.prefer_args(no, base, "train=nothere.jsonl"), ["data.train: nothere.jsonl"]),
                        (bench.align_args(no, base, RULE, "prompts=nothere.jsonl"), ["data.prompts: nothere.jsonl"]),
                        (["eval", f"eval.models=a={base}", "data.eval=nothere.jsonl", RULE], ["data.eval: nothere.jsonl"]),
                        (["generate", f"model={run}", "prompts=-"], [f"model: {run} is the folder of a run", f"{run}/latest"]),
                        (["eval", f"eval.models=a={run}", f"data.eval={bench.world}/prompts.jsonl", RULE], [f"{run}/latest"]),
                        (["inspect", str(run / "metrics.jsonk")], ["did you mean 'metrics.jsonl'"])):
        r = bench.run(*args)
        bench.check(r.code == 5 and all(w in r.err for w in words), args, "lacks", words, r)
    r = bench.run("tokenize", bench.world, "nothere.jsonl")
    bench.check(r.code == 12 and "nothere.jsonl" in r.err and "a file of JSON lines" in r.err, "tokenize", r)
    bench.check(not no.exists(), "a folder was left")


def names(bench, base):
    """Checks the messages for names of other programs."""
    for args, words, absent in (
            (["generate", f"model={base}", "prompts=-", "batch_size=8"], ["generate.slots"], ["global_batch_size"]),
            (["logprob", f"model={base}", "input=-", "batch_size=8"], ["which is no option of logprob"], []),
            (bench.sft_args(bench.folder / "no", "batch_size=8"), ["train.global_batch_size"], ["slots"]),
            (bench.align_args(bench.folder / "no", base, RULE, method="grpo"), ["policy gradient", "rrhf"], []),
            (bench.align_args(bench.folder / "no", base, RULE, method="lora"), ["which weights are trained"], []),
            (["dpo"], ["plumb prefer method.name=dpo"], []), (["grpo"], ["policy gradient"], []),
            (["finetune"], ["plumb sft"], [])):
        r = bench.run(*args)
        bench.check(r.code == 12 and all(w in r.err for w in words) and not any(w in r.err for w in absent), args, "lacks", words, r)


def rewards(bench, base):
    """Checks that rewards which cannot score any completion are refused before the first rollout, or give the reason."""
    out = bench.folder / "align"
    exact = "reward.functions=[{name: exact}]"
    r = bench.run(*bench.align_args(out, base, exact))
    bench.check(r.code == 6 and "prompts.jsonl:1" in r.err and '"solution"' in r.err and not (out / "rollouts").exists(), "exact without solutions", r)
    r = bench.run(*bench.align_args(out, base, "reward.functions=[{name: exact, field: a.b}]"))
    bench.check(r.code == 6 and '"a.b"' in r.err, "a field that is not there", r)
    args = bench.align_args(out, base, "reward.functions=[{name: length}]")
    for r in (bench.run(*args), bench.run("plan", *args)):
        bench.check(r.code == 12 and "needs target" in r.err, "length without a target", r)
    for program in ("echo '{\"score\": 1}'", "sleep 20"):
        r = bench.run("score", "input=-", f"reward.command={program}", "reward.timeout=1", "reward.restarts=0",
                      stdin='{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "c"}\n')
        bench.check(r.code not in (0, None) and "has read nothing of its standard input" in r.err, program, r)


def scores(bench, base):
    """Checks that too many missing scores are an error, and that a command without a reward lists the possible ones."""
    lines = '{"prompt": "a", "completion": "b"}\n' * 4
    lack = ("score", "input=-", "output=-", "reward.functions=[{name: exact, field: result}]")
    r = bench.run(*lack, stdin=lines)
    bench.check(r.code not in (0, None) and "4 of 4 lines have no score" in r.err and "reward.max_missing" in r.err, "no score", r)
    r = bench.run(*lack, "reward.max_missing=1", stdin=lines)
    bench.check(r.code == 0 and r.out == '{"score":null}\n' * 4, "max_missing=1", r)
    r = bench.run("score", "input=-", stdin=lines)
    bench.check(r.code not in (0, None) and "reward.functions" in r.err and "reward.model" in r.err, "no reward", r)


def models(bench, base):
    """Checks that the message about a path that is no model folder names what it is."""
    gguf = bench.folder / "small.gguf"
    gguf.write_bytes(b"GGUF" + bytes(60))
    for model, words in ((gguf, "is a GGUF file"), ("Somebody/Some-Model", "does not download")):
        r = bench.run("generate", f"model={model}", "prompts=-", stdin='{"prompt": "a"}\n')
        bench.check(r.code not in (0, None) and words in r.err, model, r)
    r = bench.run("sft", f"model={base}", "data.train=-", f"output_dir={bench.folder / 'no'}", "max_steps=1",
                  stdin='{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "systm": "c"}\n')
    bench.check("systm" in r.err and "system" in r.err.replace("systm", ""), "a misspelt system", r)


def plan(bench, base):
    """Checks that a plan that does not fit lists the options that need less memory, and how much less."""
    args = bench.align_args(bench.folder / "no", base, RULE, "micro_batch_size=8", "slots=64", "plan.memory=12MB")
    r = bench.run("plan", *args)
    lines = [x for x in r.out.splitlines() if " alone needs " in x]
    bench.check(r.code == 4 and any(x.startswith("train.recompute=true alone needs ") for x in lines), "advice", r, r.out)
    need = float(r.err.split(" needs ")[1].split()[0])
    less = float(next(x for x in lines if x.startswith("train.kl_to_start=false")).split(" needs ")[1].split()[0])
    after = bench.run("plan", *args, "train.kl_to_start=false")
    bench.check(abs(float(after.err.split(" needs ")[1].split()[0]) - (need - less)) < 0.002, "the advice is wrong", less, need, after)


def test(bench):
    base = bench.base()
    generated(bench, base)
    roles(bench, base)
    missing(bench, base)
    names(bench, base)
    rewards(bench, base)
    scores(bench, base)
    models(bench, base)
    plan(bench, base)
    shutil.rmtree(bench.folder / "no", ignore_errors=True)


common.main(test)
