#!/usr/bin/env python3
"""test_newcomer.py: checks what a new user of plumb tries first or gets wrong: using the output of one
command as the input of the next, misspelt names, missing files, option names of other programs."""
import json
import shutil

import common

RULE = "reward.functions=[{name: length, target: 6}]"


def generated(bench, base):
    """Checks that other commands read the output lines of generate as prompts with completions."""
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


def members(bench, base):
    """Checks that the output lines of generate and eval contain the members of the prompt's record, which
    rewards read. The members that the command itself writes (prompt, completion) come from the ids, whatever
    the record has under these names."""
    records = [{"id": 7, "prompt": "ask: hello.", "solution": "x", "a": {"b": "[aeiou]"}, "text": "mine", "completion": "no",
                "tools": [], "instruction": "i", "sample": 5},
               {"prompt": [{"role": "user", "content": "ask: hello."}], "a": {"b": "e"}, "record": 1, "n": 0}]
    prompts, answers = bench.folder / "members.jsonl", bench.folder / "member-answers.jsonl"
    prompts.write_text(json.dumps(records[0]) + "\n" + json.dumps(records[1]).replace('"n": 0', '"n": 123456789012345678901.50') + "\n")
    bench.good("generate", f"model={base}", f"prompts={prompts}", "max_new_tokens=9", f"output={answers}", "group_size=2")
    text = answers.read_text()
    lines = [json.loads(x) for x in text.splitlines()]
    own = ["text", "completion", "instruction", "sample"]
    for line in lines[:2]:
        want = {k: v for k, v in records[0].items() if k not in own}
        bench.check({k: line[k] for k in want} == want and line["record"] == {k: records[0][k] for k in own}, "members", line)
        bench.check(isinstance(line["text"], str) and line["text"] != "mine" and line["sample"] in (0, 1), "own members", line)
    bench.check(lines[2]["prompt"] == records[1]["prompt"] and lines[2]["record"] == {"record": 1}, "members", lines[2])
    bench.check('"n":123456789012345678901.50' in text, "a number lost its digits", text)
    rows = bench.good("logprob", f"model={base}", f"input={answers}").lines()
    bench.check([r["logprobs"] for r in rows] == [x["logprobs"] for x in lines], "log-probs", rows)
    vowels = "reward.functions=[{name: regex, field: a.b, target: 20}]"
    scores = bench.good("score", f"tokenizer={base}", f"input={answers}", vowels).lines()
    want = [min(sum(c in ("aeiou" if i < 2 else "e") for c in x["text"]) / 20, 1) for i, x in enumerate(lines)]
    bench.check([x["score"] for x in scores] == want, "scores by a member", scores, want)
    out = bench.folder / "member-eval"
    bench.good("eval", f"eval.models=a={base}", f"data.eval={prompts}", f"output_dir={out}", vowels, "max_new_tokens=9")
    lines = [json.loads(x) for x in (out / "answers.a.jsonl").read_text().splitlines()]
    bench.check(lines[0]["solution"] == "x" and lines[1]["a"] == {"b": "e"}, "answers of eval", lines)


def shapes(bench, base):
    """Checks that the message about a record for another command names the command that reads
    such records."""
    pair, talk = {"prompt": "a", "chosen": "b", "rejected": "c"}, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    done, path, no = {"prompt": "a", "completion": "b"}, bench.folder / "shape.jsonl", bench.folder / "no"
    for args, record, words in ((["sft"], pair, ["preference pair", "plumb prefer and plumb reward"]), (["sft"], {"prompt": "a"}, ["plumb align"]),
                                (["prefer"], talk, ["conversation (messages)", "plumb sft"]), (["reward"], done, ["plumb sft"]),
                                (["prefer"], {"question": "a", "reply": "b"}, ['the record has "question", "reply"'])):
        path.write_text(json.dumps(record) + "\n")
        r = bench.run(*args, f"model={base}", f"data.train={path}", f"output_dir={no}")
        bench.check(r.code == 6 and all(w in r.err for w in words) and "warning" not in r.err, args, record, r)
    for record, words in ((talk, 'in the member "prompt"'), ({"text": "a"}, "plain text")):
        r = bench.run("generate", f"model={base}", "prompts=-", stdin=json.dumps(record) + "\n")
        bench.check(r.code == 6 and words in r.err, "generate", record, r)


def roles(bench, base):
    for field, record in (("messages", {"messages": [{"role": "user", "content": "a"}, {"role": "asistant", "content": "b"}]}),
                          ("prompt", {"prompt": [{"role": "User", "content": "a"}], "completion": "b"})):
        r = bench.run("logprob", f"model={base}", "input=-", stdin=json.dumps(record) + "\n")
        bench.check(r.code == 6 and f"{field}[" in r.err and "did you mean" in r.err, field, r)
    talk = {"messages": [{"role": x, "content": x} for x in ("user", "bot", "user", "assistant")]}
    talks = (json.dumps(talk) + "\n") * 2
    r = bench.good("logprob", f"model={base}", "input=-", "prompt_template={#messages}{role}: {content}\n{/messages}", stdin=talks)
    bench.check(r.err.count('"bot" is not one of the usual roles') == 1, "an unknown role", r)
    template = bench.folder / "bot.jinja"
    for text, count in (("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", 1),
                        ("{% for m in messages %}{{ 'B' if m.role == 'bot' else m.role }}: {{ m.content }}\n{% endfor %}", 0)):
        template.write_text(text)
        r = bench.good("logprob", f"model={base}", "input=-", f"data.chat_template={template}", stdin=talks)
        bench.check(r.err.count("is not one of the usual roles") == count, text, r)


def missing(bench, base):
    """Checks that the message about a missing file or folder names the option that names this
    file."""
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
                        (bench.sft_args(no, "tokenizer=nothere"), ["tokenizer: there is no folder nothere"]),
                        (["score", "input=nothere.jsonl", "reward.functions=[{name: words, words: [a]}]"], ["input: nothere.jsonl"]),
                        (["score", f"input={bench.world}/sft.jsonl", "reward.functions=[{name: words, file: nothere.txt}]"], ["reward function words: nothere.txt"]),
                        (["sft", f"model={run}", "train=-", f"output_dir={no}"], [f"model: {run} is the folder of a run", f"{run}/latest"]),
                        (["inspect", str(run / "metrics.jsonk")], ["did you mean 'metrics.jsonl'"])):
        r = bench.run(*args)
        bench.check(r.code == 5 and all(w in r.err for w in words), args, "lacks", words, r)
    r = bench.run("tokenize", bench.world, "nothere.jsonl")
    bench.check(r.code == 12 and "nothere.jsonl" in r.err and "a file of JSON lines" in r.err, "tokenize", r)
    bench.check(not no.exists(), "a folder was left")


def names(bench, base):
    """Checks the messages about option names of other programs."""
    for args, words, absent in (
            (["generate", f"model={base}", "prompts=-", "batch_size=8"], ["generate.slots"], ["global_batch_size"]),
            (["logprob", f"model={base}", "input=-", "batch_size=8"], ["which is no option of logprob"], []),
            (bench.sft_args(bench.folder / "no", "batch_size=8"), ["train.global_batch_size"], ["slots"]),
            (bench.align_args(bench.folder / "no", base, RULE, method="grpo"), ["policy gradient", "rrhf"], []),
            (bench.align_args(bench.folder / "no", base, RULE, method="lora"), ["which weights are trained"], []),
            (bench.sft_args(bench.folder / "no", "optim=adamw_torch"), ["AdamW"], []),
            (bench.sft_args(bench.folder / "no", "load_in_4bit=true"), ["not quantized"], []),
            (bench.sft_args(bench.folder / "no", "lora.dropout=0.1"), ["without dropout"], []),
            (bench.sft_args(bench.folder / "no", "modules_to_save=score"), ["lora.targets"], []),
            (bench.sft_args(bench.folder / "no", "use_dora=true"), ["lora.rslora"], []),
            (bench.sft_args(bench.folder / "no", "per_device_eval_batch_size=2"), ["train.micro_batch_size"], []),
            (["dpo"], ["plumb prefer method.name=dpo"], []), (["grpo"], ["policy gradient"], []),
            (["finetune"], ["plumb sft"], [])):
        r = bench.run(*args)
        bench.check(r.code == 12 and all(w in r.err for w in words) and not any(w in r.err for w in absent), args, "lacks", words, r)


def rewards(bench, base):
    """Checks that a reward that cannot score any completion is refused before the first rollout, or that a message
    gives the reason."""
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
    """Checks that too many missing scores are an error, and that the message about a missing reward lists the
    possible rewards."""
    lines = '{"prompt": "a", "completion": "b"}\n' * 4
    lack = ("score", "input=-", "output=-", "reward.functions=[{name: exact, field: result}]")
    r = bench.run(*lack, stdin=lines)
    bench.check(r.code not in (0, None) and "4 of 4 lines have no score" in r.err and "reward.max_missing" in r.err, "no score", r)
    bench.check(r.err.count("the record has no such field") == 1 and 'field result, completion "b"' in r.err, "the reason", r)
    r = bench.run(*lack, stdin=lines[:len(lines) // 4])
    bench.check("1 of 1 line has no score" in r.err, "one line", r)
    r = bench.run(*lack, "reward.max_missing=1", stdin=lines)
    bench.check(r.code == 0 and r.out == '{"score":null}\n' * 4, "max_missing=1", r)
    r = bench.run("score", "input=-", stdin=lines)
    bench.check(r.code not in (0, None) and "reward.functions" in r.err and "reward.model" in r.err, "no reward", r)


def models(bench, base):
    """Checks that the message about a path that is no model folder says what the path is."""
    gguf = bench.folder / "small.gguf"
    gguf.write_bytes(b"GGUF" + bytes(60))
    for model, words in ((gguf, "is a GGUF file"), ("Somebody/Some-Model", "does not download")):
        r = bench.run("generate", f"model={model}", "prompts=-", stdin='{"prompt": "a"}\n')
        bench.check(r.code not in (0, None) and words in r.err, model, r)
    r = bench.run("sft", f"model={base}", "data.train=-", f"output_dir={bench.folder / 'no'}", "max_steps=1",
                  stdin='{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "systm": "c"}\n')
    bench.check("systm" in r.err and "system" in r.err.replace("systm", ""), "a misspelt system", r)


def samples(bench, base):
    """Checks that the progress of generating the report's sample answers is not shown as that of
    an iteration."""
    out = bench.folder / "samples"
    r = bench.run(*bench.align_args(out, base, RULE, method="raft", iterations=1), env={"PLUMB_PROGRESS": "plain:0"})
    bench.check(r.code == 0 and "samples for the report" in r.err and "generate" in r.err, "labels", r)


def plan(bench, base):
    """Checks that a plan that does not fit lists options that need less memory, and the memory with
    each of them."""
    args = bench.align_args(bench.folder / "no", base, RULE, "micro_batch_size=8", "slots=64", "plan.memory=12MB")
    r = bench.run("plan", *args)
    lines = [x for x in r.out.splitlines() if " alone needs " in x]
    bench.check(r.code == 4 and any(x.startswith("train.recompute=true alone needs ") for x in lines), "advice", r, r.out)
    need = float(r.err.split(" needs ")[1].split()[0])
    less = float(next(x for x in lines if x.startswith("train.recompute=true")).split(" needs ")[1].split()[0])
    after = bench.run("plan", *args, "train.recompute=true")
    bench.check(abs(float(after.err.split(" needs ")[1].split()[0]) - (need - less)) < 0.002, "the advice is wrong", less, need, after)


def test(bench):
    base = bench.base()
    generated(bench, base)
    members(bench, base)
    shapes(bench, base)
    roles(bench, base)
    missing(bench, base)
    names(bench, base)
    rewards(bench, base)
    scores(bench, base)
    models(bench, base)
    samples(bench, base)
    plan(bench, base)
    shutil.rmtree(bench.folder / "no", ignore_errors=True)


common.main(test)
