#!/usr/bin/env python3
"""test_notes.py: checks messages about likely mistakes: a misspelt field, a field that could change the text,
a run that is still running or was killed, lengths beyond the tokenizer's limit, settings that plumb does
not follow, scores that are all equal, and values of another kind than an option takes."""
import json
import os
import shutil
import sys
import time

import common

LENGTH = "reward.functions=[{name: length, target: 5}]"
HANG = """import sys, time
for line in sys.stdin:
    time.sleep(600)
"""


def said(bench, code, words, *args, no=(), **kw):
    r = bench.run(*args, **kw)
    text = r.out + r.err
    bench.check(r.code == code and all(w in text for w in words) and not any(w in text for w in no),
                "expected code", code, "with", words, "without", no, "in", r.out[-2000:], r)
    return r


def write(path, records):
    path.write_text("".join(json.dumps(x) + "\n" for x in records))
    return path


def records(bench, base):
    """Checks the messages about misspelt fields, fields for rewards, a system text beside the
    prompt, and ids."""
    f = bench.folder
    train = write(f / "beside.jsonl", [{"prompt": "a", "completion": "b", **({"promtp": "c"} if i > 2 else {})}
                                       for i in range(8)])
    args = [f"data.train={train}" if a.startswith("data.train") else a for a in bench.sft_args(f / "beside", steps=1)]
    r = said(bench, 0, ["beside.jsonl:4: field \"promtp\" is not read: did you mean \"prompt\"? 5 records"],
             *args, ranks=2 if bench.mpirun else 1)
    bench.check(r.err.count("promtp") == 1, "named more than once:", r)
    write(train, [{"prompt": "a", "compeltion": "b"}])
    said(bench, 6, ["beside.jsonl:1: field \"completion\"", "did you mean \"completion\"?"],
         *[a.replace("/beside", "/instead") if a.startswith("output_dir") else a for a in args])
    columns = write(f / "columns.jsonl", [{"prompt": "a", "completion": "b" * (1 + i), "tests": ["t"], "answers": [1],
                                           "prompt_id": 7, "difficulty": "x"} for i in range(2)])
    said(bench, 0, [], "score", f"input={columns}", f"tokenizer={base}", LENGTH, no=["warning"])
    write(columns, [{"system": "be kind", "prompt": "a"}])
    said(bench, 7, ["columns.jsonl:1: field \"system\"", '{"role": "system"', "remove the field"],
         "generate", f"model={base}", f"prompts={columns}", "max_new_tokens=2")
    write(columns, [{"id": "x \u00e9", "prompt": "a"}, {"prompt": "b"}, {"id": 3.50, "prompt": "c"}])
    columns.write_text(columns.read_text() + '{"id": 12345678901234567890, "prompt": "d"}\n')
    for ranks in (1, 2 if bench.mpirun else 1):
        r = said(bench, 0, [], "generate", f"model={base}", f"prompts={columns}", "max_new_tokens=2", "group_size=2",
                 ranks=ranks)
        bench.check([x.get("id") for x in r.lines()] ==
                    [v for v in ("x \u00e9", None, 3.5, 12345678901234567890) for _ in range(2)], "ids:", r.out)


def inspected(bench):
    """Checks that inspect lists only the options that a file sets, also if a value is the
    default."""
    path = bench.folder / "some.yaml"
    path.write_text("model: m\ntrain: {iterations: 8, learning_rate: 1.0e-5}\n")
    r = said(bench, 0, ["sets        model: m\n", " train.iterations: 8\n", " train.learning_rate: 1e-05\n"], "inspect",
             path, no=["tokenizer", "epochs"])
    bench.check(r.out.count("\n") == 5, "more than what is set:", r.out)
    path.write_text("train: {}\n")
    said(bench, 0, ["sets        nothing: every option has its default"], "inspect", path)


def states(bench, base):
    """Checks that inspect prints whether a run is running, has ended or was killed."""
    out = bench.folder / "state"
    (bench.folder / "hang.py").write_text(HANG)
    p = bench.start(bench.align_args(out, base, f"reward.command={sys.executable} {bench.folder}/hang.py"))
    bench.check(common.until(p, (out / "run.json").exists), "the run did not begin")
    said(bench, 0, ["state       running: process", "plumb align", "last heartbeat"], "inspect", out)
    common.kill_tree(p)
    p.communicate()
    said(bench, 0, ["state       killed: process", "is gone"], "inspect", out)
    lock = out / "run.lock"
    # looks like the lock of another host
    lock.write_text(lock.read_text().replace('"boot": "', '"boot": "other-'))
    said(bench, 0, ["state       running: process"], "inspect", out)
    os.utime(lock, (time.time() - 9999, time.time() - 9999))
    said(bench, 0, ["no heartbeat for 9", "killed, or on a host that cannot write"], "inspect", out)
    lock.unlink()
    said(bench, 0, ["state       killed: no end is noted"], "inspect", out)
    said(bench, 0, ["state       finished"], "inspect", bench.folder / "base", no=["killed"])


def changed(model, to, file, **members):
    """Copies a model folder and sets members of one of its JSON files. Returns the copy."""
    shutil.copytree(model, to, symlinks=False)
    (to / "hashes.json").unlink(missing_ok=True)
    path = to / file
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **members}))
    return to


def lengths(bench, base):
    """Checks the warning if sequences may become longer than model_max_length of tokenizer_config.json."""
    short = changed(base, bench.folder / "short", "tokenizer_config.json", model_max_length=20)
    words = ["tokenizer_config.json: model_max_length is 20, but sequences of up to"]
    generate = ["generate", f"model={short}", f"prompts={bench.world}/prompts.jsonl", "data.limit=2"]
    said(bench, 0, words, *generate, "max_new_tokens=200")
    said(bench, 0, [], *generate, "max_new_tokens=2", "data.max_tokens=20", no=["model_max_length"])
    # the limits that cut completions before max_new_tokens; the first two prompts have 19 and 14 tokens
    whole = ["generate", f"model={base}", f"prompts={bench.world}/prompts.jsonl", "data.limit=2", "ignore_eos=true"]
    r = said(bench, 0, ["generate.max_new_tokens: 5000, but prompt and completion together may have 256 tokens (the model's context length)",
                        "the longest prompt has 19: its completions end after 237"], *whole, "max_new_tokens=5000")
    bench.check(max(len(line["completion_ids"]) for line in r.lines()) >= 237, "completions up to the context length", r)
    said(bench, 0, ["may have 30 tokens (data.max_tokens)", "end after 11"], *whole, "max_new_tokens=12", "data.max_tokens=30")
    said(bench, 0, [], *whole, "max_new_tokens=11", "data.max_tokens=30", no=["generate.max_new_tokens"])
    said(bench, 0, ["generate.max_new_tokens: 5000, but"], *bench.align_args(bench.folder / "cut", base, LENGTH, "max_new_tokens=5000", method="raft",
                                                                             iterations=1))
    said(bench, 0, ["generate.max_new_tokens: 5000, but"], "eval", f"eval.models=a={base}", f"data.eval={bench.world}/prompts.jsonl",
         "data.limit=2", "max_new_tokens=5000", LENGTH)
    sft = bench.sft_args(bench.folder / "long", f"tokenizer={short}", steps=1)
    r = said(bench, 0, words, *sft, ranks=2 if bench.mpirun else 1)
    bench.check(r.err.count("model_max_length") == 1, "said more than once:", r)
    said(bench, 0, words, "plan", *sft)
    long = changed(base, bench.folder / "large", "tokenizer_config.json", model_max_length=10**30)
    said(bench, 0, [], "plan", *bench.sft_args(bench.folder / "x", f"tokenizer={long}"), no=["model_max_length"])


def rendered(bench, base):
    """Checks the warnings about a chat template without an end token, and about one that leaves out the system
    message."""
    f = bench.folder
    end, system = "the loss covers no end token in any record", "the chat template leaves out this text"
    talk = write(f / "talk.jsonl", [{"messages": [{"role": "system", "content": "be kind"},
                                                  {"role": "developer", "content": "in verse"}, {"role": "user", "content": "hi"},
                                                  {"role": "assistant", "content": "good day"}]}])
    ask = "{% for m in messages %}ask: {{ m.content }} {% endfor %}"
    for name, template, words, no in (
            ("ends", ask.replace("} {", "}{{ eos_token }}{"), [], [end, system]), ("bare", ask, [end], [system]),
            ("silent", ask.replace("%}ask", "%}{% if m.role in ['user', 'assistant'] %}ask").replace("} {", "}{{ eos_token }}{% endif %}{"),
             ["talk.jsonl:1: field \"messages[0].content\": " + system, "field \"messages[1].content\": " + system], [end])):
        model = changed(base, f / name, "tokenizer_config.json", chat_template=template)
        said(bench, 0, words, "sft", f"model={model}", f"output_dir={f}/{name}-run", f"data.train={talk}", "max_steps=1", no=no)


def covered(bench, base):
    """Checks the warning, once per file and role, if the loss covers a message that is not the assistant's."""
    f = bench.folder
    user, bot = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "good day"}
    words = "the loss covers this message of role \"user\""
    model = changed(base, f / "covers", "tokenizer_config.json",
                    chat_template="{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }} {% endfor %}")
    several = [{"prompt": [user], "completion": [bot, user, bot]}] * 2
    for name, rows, warns in (("several", several, True), ("one", [{"prompt": [user], "completion": [bot]}], False),
                              ("whole", [{"messages": [user, bot, user, bot]}], False)):
        path = write(f / f"{name}.jsonl", rows)
        r = said(bench, 0, [f"{name}.jsonl:1: field \"completion[1]\": " + words] if warns else [], "sft", f"model={model}",
                 f"output_dir={f}/{name}-covered", f"data.train={path}", "max_steps=1", no=[] if warns else [words])
        bench.check(r.err.count(words) == warns, name, "said more than once:", r)
    path = write(f / "pair.jsonl", [{"prompt": [user], "chosen": [bot, user, bot], "rejected": [bot]}])
    said(bench, 0, ["field \"chosen[1]\": " + words], "prefer", f"model={model}", f"output_dir={f}/pair-covered", f"data.train={path}")


def rate(bench):
    """Checks the warning if the learning rate of a run's only step is 0 because of the warm-up."""
    words = ["train.warmup_ratio: the run has one step"]
    said(bench, 0, words, *bench.sft_args(bench.folder / "one", "warmup_ratio=0.1", steps=1))
    said(bench, 0, [], *bench.sft_args(bench.folder / "two", "warmup_ratio=0.1", steps=2), no=words)


def templates(bench, base):
    """Checks that the folder additional_chat_templates is copied to the checkpoint, and that hashes.json lists
    its files."""
    model = changed(base, bench.folder / "talks", "tokenizer_config.json")
    (model / "additional_chat_templates").mkdir()
    for name in ("rag", "tool_use"):
        (model / "additional_chat_templates" / f"{name}.jinja").write_text(f"{{# {name} #}}")
    out = bench.folder / "templates"
    bench.good(*[f"model={model}" if a.startswith("model=") else a for a in bench.sft_args(out, steps=1)])
    for name in ("rag", "tool_use"):
        bench.same(model / "additional_chat_templates" / f"{name}.jinja",
                   out / "latest" / "additional_chat_templates" / f"{name}.jinja", "a template")
    files = json.loads((out / "latest" / "hashes.json").read_text())["files"]
    bench.check("additional_chat_templates/rag.jinja" in files, "not in hashes.json:", files)
    said(bench, 0, ["all match hashes.json"], "inspect", out / "latest")
    (out / "latest" / "additional_chat_templates" / "rag.jinja").write_text("changed!!")
    r = bench.run(*[f"model={model}" if a.startswith("model=") else a for a in bench.sft_args(out, "resume=auto", steps=1)])
    bench.check("rag.jinja: damaged" in r.err, "a changed template is not noticed:", r)


def sampling(bench, base):
    """Checks that align and eval name, once, each setting of generation_config.json that they do not
    follow."""
    model = changed(base, bench.folder / "asks", "generation_config.json", do_sample=True, temperature=0.6, top_p=0.9,
                    typical_p=0.5)
    words = ["follows only its end tokens; to sample as it says, add temperature=0.6 top_p=0.9",
             "has nothing like typical_p=0.5"]
    prompts = f"data.prompts={bench.world}/prompts.jsonl"
    r = said(bench, 0, [f"align {words[0]}", f"align {words[1]}"],
             *bench.align_args(bench.folder / "asked", model, LENGTH, iterations=1), ranks=2 if bench.mpirun else 1)
    bench.check(r.err.count("generation_config.json") == 2, "said again:", r)
    said(bench, 0, [f"eval {words[0]}", f"eval {words[1]}"], "eval", f"eval.models=a={model}", prompts.replace("prompts=", "eval=", 1),
         "data.limit=2", "max_new_tokens=4", LENGTH)
    said(bench, 0, [], "eval", f"eval.models=a={base}", prompts.replace("prompts=", "eval=", 1), "data.limit=2", "max_new_tokens=4",
         LENGTH, no=["generation_config"])


def alike(bench, base):
    """Checks the message of score and eval if all scores are equal."""
    path = write(bench.folder / "alike.jsonl", [{"prompt": "a", "completion": "b"}] * 3)
    for ranks in (1, 2 if bench.mpirun else 1):
        said(bench, 0, ["all 3 scores are -"], "score", f"input={path}", f"tokenizer={base}", LENGTH, ranks=ranks)
    said(bench, 0, [], "score", f"input={path}", f"tokenizer={base}", LENGTH, "data.limit=1", no=["all "])
    write(path, [{"prompt": "a", "completion": "b" * (1 + i)} for i in range(3)])
    said(bench, 0, [], "score", f"input={path}", f"tokenizer={base}", LENGTH, no=["all 3"])
    reward = bench.folder / "alike-reward"
    bench.good(*bench.reward_args(reward, base, steps=1))
    said(bench, 0, [], "score", f"model={reward}/latest", f"input={path}", no=["scores are"])
    write(path, [{"prompt": "a", "completion": "b"}] * 2)
    said(bench, 0, ["all 2 scores are"], "score", f"model={reward}/latest", f"input={path}")
    config = bench.folder / "never.yaml"
    config.write_text("reward: {functions: [{name: regex, pattern: never-in-any-answer}]}\n")
    said(bench, 0, ["a: all 4 scores are 0"], "eval", config, f"eval.models=a={base}", f"data.eval={bench.world}/prompts.jsonl",
         "data.limit=4", "max_new_tokens=4")


def wording(bench, base):
    f = bench.folder
    pairs = ["prefer", f"model={base}", f"data.train={bench.world}/pairs.jsonl", f"output_dir={f}/never"]
    file = base / "model.safetensors"
    for code, words, args in (
            (6, ["rdo needs the numbers score_chosen and score_rejected", "has neither"], [*pairs, "method.name=rdo"]),
            (12, ["'method' is a section", "method.name=dpo"], [*pairs, "method=dpo"]),
            (12, ["as data.train=x"], ["sft", "data=x"]), (12, ["as data.prompts=x"], ["align", "data=x"]),
            (12, ["'checkpoint.every' or 'checkpoint.interval'"], [*pairs, "save_every=5"]),
            (12, ["'checkpoint.every' or 'checkpoint.interval'"], [*pairs, "save_steps=5"]),
            (12, ["'checkpoint.every' or 'checkpoint.interval'"], [*pairs, "save_interval=5"]),
            (12, ["resume: found 'yes', expected never, auto", "or the folder of a checkpoint"], [*pairs, "resume=yes"]),
            (5, [f"model: {file} is a file, expected a folder"], ["prefer", f"model={file}", *pairs[2:]]),
            (5, [f"model: {file} is a file, expected a folder"], ["generate", f"model={file}", "prompts=x"]),
            (5, [f"tokenizer: {base}/tokenizer.json is a file"], ["tokenize", f"tokenizer={base}/tokenizer.json"]),
            (5, [f"eval.models: {file} is a file"], ["eval", f"eval.models=a={file}", "data.eval=x", LENGTH]),
            (5, [f"reward.model: {file} is a file"], ["score", f"reward.model={file}", f"input={bench.world}/sft.jsonl"])):
        said(bench, code, words, *args, no=["nan"])
    bench.check(not (f / "never").exists(), "a refused run left its folder")
    path = f / "method.yaml"
    path.write_text("method: dpo\n")
    said(bench, 12, ["method.yaml:1:", "as method: {name: dpo}"], "prefer", path)
    low = write(f / "low.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 1, "score_rejected": 2}])
    said(bench, 6, ["low.jsonl:1:", "not lower than score_rejected; found 1 and 2"], "prefer", f"model={base}",
         f"data.train={low}", f"output_dir={f}/never", "method.name=rdo")
    for method in ("dpo", "ipo"): # these methods ignore the scores and train on the pair as it is
        said(bench, 0, ["in 1 of 1 record score_chosen is lower than score_rejected, first in line 1"], "prefer", f"model={base}",
             f"data.train={low}", f"output_dir={f}/{method}", f"method.name={method}")


def test(bench):
    base = bench.base()
    records(bench, base)
    inspected(bench)
    states(bench, base)
    lengths(bench, base)
    rate(bench)
    rendered(bench, base)
    covered(bench, base)
    templates(bench, base)
    sampling(bench, base)
    alike(bench, base)
    wording(bench, base)


common.main(test)
